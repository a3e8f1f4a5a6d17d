"""Decoder of streamGenerateContent (ai.google.dev/api/generate-content).

Each event of the stream is a complete response that holds only what is new. Its lines end in CRLF.
"""

from typing import Any

from msgspec.structs import replace

from proxy.formats.gemini.choice_decoder import ChoiceDecoder
from proxy.formats.gemini.errors import find_error, parse_error
from proxy.formats.gemini.grounding import GroundingUsage
from proxy.formats.gemini.response import new_id
from proxy.formats.gemini.usage import merge_counts, parse_counts, shown_usage, with_billable_extras
from proxy.formats.gemini.wire import WireCandidate, WireResponse, parse_responses
from proxy.formats.json_body import DECODE_ERRORS, repair_json
from proxy.formats.metering.token_counts import estimate_text_tokens
from proxy.formats.neutral import ApiError, Event, Failed, PartDelta, Started, Usage, UsageReported
from proxy.formats.streaming.sse import EventSplitter, EventTooLong, event_data
from proxy.formats.streaming.stream_errors import (
    EVENT_TOO_LONG,
    NOT_A_STREAM,
    STREAM_INTERRUPTED,
    NonEventBytes,
)

BAD_GATEWAY = 502


class StreamDecoder:
    """Decode a stream of generateContent into neutral events.

    Google ends a response by closing the connection, and older models send a finish reason in every chunk.
    Therefore the decoder knows only at the end of the connection which choices have finished.
    """

    def __init__(self) -> None:
        self.splitter = EventSplitter()
        self.events: list[Event] = []
        self.choices: dict[int, ChoiceDecoder] = {}
        self.counts: dict[str, int] = {}
        self.usage_metadata: dict[str, Any] = {}
        self.grounding_usage = GroundingUsage()
        self.output_tokens = 0
        self.usage: Usage | None = None
        self.has_final_usage = False
        self.started = self.failed = self.has_feedback = self.is_blocked = False
        self.non_event_bytes = NonEventBytes()

    def feed(self, data: bytes) -> list[Event]:
        try:
            for event in self.splitter.feed(data):
                self.parse_event(event)
        except EventTooLong:
            if not self.failed:
                self.fail(EVENT_TOO_LONG)
        return self.take_events()

    def finish(self) -> list[Event]:
        if rest := self.splitter.finish():
            self.parse_event(rest)
        if not self.started and not self.failed:
            self.parse_non_event()
        if not self.failed:
            self.finish_choices()
        return self.take_events()

    def take_events(self) -> list[Event]:
        events = self.events[:]
        self.events.clear()
        return events

    def parse_event(self, event: bytes) -> None:
        if self.failed:
            return
        data = repair_json(event_data(event))
        if not data:
            self.keep_non_event(event)
            return
        try:
            chunks = parse_responses(data)
        except DECODE_ERRORS:
            self.keep_non_event(data)
            return
        for chunk in chunks:
            self.parse_chunk(chunk, data)

    def keep_non_event(self, data: bytes) -> None:
        """Keep bytes that are not an event: they may be the body of an error."""
        if not data.startswith(b":"):
            self.non_event_bytes.add(data)

    def parse_non_event(self) -> None:
        """Parse a body that is not a stream: a JSON array of chunks, or an error."""
        try:
            chunks = parse_responses(repair_json(self.non_event_bytes.data))
        except DECODE_ERRORS:
            chunks = []
        for chunk in chunks:
            self.parse_chunk(chunk, self.non_event_bytes.data)
        if not self.started and not self.failed and self.non_event_bytes.stripped:
            self.fail_with_kept_error(NOT_A_STREAM, BAD_GATEWAY)

    def parse_chunk(self, chunk: WireResponse, data: bytes) -> None:
        if self.failed:
            return
        if chunk.error:
            self.fail(parse_error(200, data))
            return
        if chunk == WireResponse():
            self.keep_non_event(data)
            return
        if not self.started:
            self.started = True
            self.events.append(Started(id=chunk.response_id or new_id(), model=chunk.model_version or ""))
        self.has_feedback = self.has_feedback or chunk.prompt_feedback is not None
        self.is_blocked = self.is_blocked or chunk.is_blocked
        for candidate in chunk.candidates or ():
            self.parse_candidate(candidate)
        self.parse_usage(chunk.usage_metadata)

    def parse_candidate(self, candidate: WireCandidate) -> None:
        index = candidate.index or 0
        self.grounding_usage.add(candidate.grounding_metadata)
        choice = self.choices.setdefault(index, ChoiceDecoder(index, self.events))
        known_events = len(self.events)
        choice.parse(candidate)
        self.output_tokens += sum(
            estimate_text_tokens(event.text)
            for event in self.events[known_events:]
            if isinstance(event, PartDelta)
        )

    def parse_usage(self, metadata: Any) -> None:
        """Report the usage if it changed.

        Until the response has finished, the reported output may lag behind the text that has arrived.
        """
        self.counts = merge_counts(self.counts, metadata)
        self.usage_metadata |= metadata if isinstance(metadata, dict) else {}
        if metadata is not None:
            self.has_final_usage = self.is_complete and bool(parse_counts(metadata))
        usage = with_billable_extras(
            shown_usage(self.counts, metadata, is_blocked=self.is_blocked),
            self.usage_metadata,
            self.grounding_usage,
        )
        if usage is not None and not self.has_final_usage:
            usage = replace(usage, output=max(usage.output, self.output_tokens), estimated=True)
        if usage is not None and usage != self.usage:
            self.usage = usage
            self.events.append(UsageReported(usage=usage))

    def fail(self, error: ApiError) -> None:
        self.failed = True
        self.events.append(Failed(error=error))

    def fail_with_kept_error(self, default: ApiError, status: int) -> None:
        """Fail with the error in the kept bytes, or with `default` if they hold none."""
        body = self.non_event_bytes.data
        self.fail(parse_error(status, body) if find_error(body) else default)

    def finish_choices(self) -> None:
        for choice in self.choices.values():
            choice.close_part()
        if not self.is_complete:
            self.fail_with_kept_error(STREAM_INTERRUPTED, 200)
            return
        for choice in self.choices.values() or (ChoiceDecoder(0, self.events),):
            choice.finish(is_blocked=self.is_blocked)

    @property
    def is_complete(self) -> bool:
        """Return whether the response has ended.

        A finish reason ends a response. Gemini sends none if it blocks the prompt, or if it sends feedback
        on the prompt and no content.
        """
        if self.choices and all(choice.finish_reason for choice in self.choices.values()):
            return True
        has_content = any(choice.has_parts for choice in self.choices.values())
        return self.is_blocked or (self.has_feedback and not has_content)
