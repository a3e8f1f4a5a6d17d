"""Decoder of streamGenerateContent (ai.google.dev/api/generate-content).

Each event of the stream has the form of a complete response, but contains only the new content. Lines end
with CRLF.
"""

from contextlib import suppress
from typing import Any

from proxy.formats.gemini.choice_decoder import ChoiceDecoder
from proxy.formats.gemini.errors import find_error, parse_error
from proxy.formats.gemini.response import new_id
from proxy.formats.gemini.usage import StreamUsage
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
    """Decodes a stream of streamGenerateContent into neutral events.

    Google ends a response by closing the connection, and older models send a finish reason in every chunk.
    Therefore, the decoder cannot know before the end of the connection which choices have finished.
    """

    def __init__(self) -> None:
        self.splitter = EventSplitter()
        self.events: list[Event] = []
        self.choices: dict[int, ChoiceDecoder] = {}
        self.usage_reader = StreamUsage()
        self.usage: Usage | None = None
        self.started = self.failed = False
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
            with suppress(*DECODE_ERRORS):
                self.usage_reader.read_undecodable(data)
            return
        for chunk in chunks:
            self.parse_chunk(chunk, data)

    def keep_non_event(self, data: bytes) -> None:
        """Keep bytes that are not an event, because they may be the body of an error."""
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
        self.usage_reader.read_feedback(chunk.prompt_feedback)
        for candidate in chunk.candidates or ():
            self.parse_candidate(candidate)
        self.parse_usage(chunk.usage_metadata)

    def parse_candidate(self, candidate: WireCandidate) -> None:
        index, reader = candidate.index or 0, self.usage_reader
        reader.read_candidate(index, candidate.finish_reason, candidate.grounding_metadata)
        choice = self.choices.setdefault(index, ChoiceDecoder(index, self.events))
        known_events = len(self.events)
        choice.parse(candidate)
        reader.has_parts = reader.has_parts or choice.has_parts
        for event in self.events[known_events:]:
            if isinstance(event, PartDelta):
                reader.add_tokens(estimate_text_tokens(event.text))

    def parse_usage(self, metadata: Any) -> None:
        """Read usageMetadata, and add a usage event if the usage has changed."""
        self.usage_reader.read_metadata(metadata)
        usage = self.usage_reader.reported
        if usage is not None and usage != self.usage:
            self.usage = usage
            self.events.append(UsageReported(usage=usage))

    def fail(self, error: ApiError) -> None:
        self.failed = True
        self.events.append(Failed(error=error))

    def fail_with_kept_error(self, default: ApiError, status: int) -> None:
        """Fail with the error that the kept bytes contain, or with `default` if they contain none."""
        body = self.non_event_bytes.data
        self.fail(parse_error(status, body) if find_error(body) else default)

    def finish_choices(self) -> None:
        for choice in self.choices.values():
            choice.close_part()
        if not self.usage_reader.is_complete:
            self.fail_with_kept_error(STREAM_INTERRUPTED, 200)
            return
        for choice in self.choices.values() or (ChoiceDecoder(0, self.events),):
            choice.finish(is_blocked=self.usage_reader.is_blocked)
