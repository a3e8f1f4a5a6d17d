"""Streams of streamGenerateContent: each event is a whole answer that holds what is new, in lines that end in CRLF."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.formats.gemini.choice_decoder import ChoiceDecoder
from proxy.formats.gemini.errors import find_error, parse_error
from proxy.formats.gemini.grounding import GroundingUsage
from proxy.formats.gemini.response import new_id
from proxy.formats.gemini.usage import merge_counts, parse_counts, shown_usage, with_billable_extras
from proxy.formats.gemini.wire import WireResponse, parse_responses
from proxy.formats.json_body import repair_json
from proxy.formats.metering.token_counts import estimate_text_tokens
from proxy.formats.neutral import ApiError, Event, Failed, PartDelta, Started, Usage, UsageReported
from proxy.formats.sse import EVENT_TOO_LONG, EventSplitter, EventTooLong, event_data

MAX_NON_EVENT_BYTES = 1 << 20
BAD_GATEWAY = 502
STREAM_INTERRUPTED = ApiError(
    kind="network",
    code="upstream_unreachable",
    message="The provider's answer broke off.",
    status=BAD_GATEWAY,
)
NOT_A_STREAM = ApiError(
    kind="server_error",
    code="bad_upstream_answer",
    message="The provider's answer is no stream.",
    status=BAD_GATEWAY,
)


class StreamDecoder:
    """Google ends an answer with the connection, and older models name a finish reason in every chunk: what finished is known at
    the end only.
    """

    def __init__(self) -> None:
        self.splitter = EventSplitter()
        self.choices: dict[int, ChoiceDecoder] = {}
        self.counts: dict[str, int] = {}
        self.usage_metadata: dict[str, Any] = {}
        self.grounding_usage = GroundingUsage()
        self.output_tokens = 0
        self.usage: Usage | None = None
        self.final = False
        """The usage of the end has come."""
        self.started = self.failed = self.has_feedback = self.is_blocked = False
        self.non_event_bytes = b""

    def feed(self, data: bytes) -> list[Event]:
        try:
            return [event for raw in self.splitter.feed(data) for event in self.parse_event(raw)]
        except EventTooLong:
            return [] if self.failed else [self.fail(EVENT_TOO_LONG)]

    def finish(self) -> list[Event]:
        rest = self.splitter.finish()
        events = list(self.parse_event(rest)) if rest else []
        if not self.started and not self.failed:
            events += self.parse_non_event()
        return events if self.failed else [*events, *self.finish_choices()]

    def parse_event(self, raw: bytes) -> Iterator[Event]:
        data = repair_json(event_data(raw))
        if self.failed:
            return
        if not data:
            self.keep_non_event(raw)
            return
        try:
            answers = parse_responses(data)
        except (msgspec.DecodeError, RecursionError, ValueError):
            self.keep_non_event(data)
            return
        for answer in answers:
            yield from self.parse_chunk(answer, data)

    def keep_non_event(self, raw: bytes) -> None:
        """What is no event may be an error's body, told at the end if nothing else came."""
        if not raw.startswith(b":") and len(self.non_event_bytes) < MAX_NON_EVENT_BYTES:
            self.non_event_bytes += raw

    def parse_non_event(self) -> Iterator[Event]:
        """A body that is no stream: a JSON array of chunks, or an error."""
        try:
            answers = parse_responses(repair_json(self.non_event_bytes))
        except (msgspec.DecodeError, RecursionError, ValueError):
            answers = []
        for answer in answers:
            yield from self.parse_chunk(answer, self.non_event_bytes)
        if not self.started and not self.failed and self.non_event_bytes.strip():
            yield self.fail(
                parse_error(BAD_GATEWAY, self.non_event_bytes)
                if find_error(self.non_event_bytes)
                else NOT_A_STREAM
            )

    def parse_chunk(self, chunk: WireResponse, data: bytes) -> Iterator[Event]:
        if self.failed:
            return
        if chunk.error:
            yield self.fail(parse_error(200, data))
            return
        if chunk == WireResponse():
            self.keep_non_event(data)
            return
        if not self.started:
            self.started = True
            yield Started(id=chunk.response_id or new_id(), model=chunk.model_version or "")
        self.has_feedback = self.has_feedback or chunk.prompt_feedback is not None
        self.is_blocked = self.is_blocked or chunk.is_blocked
        for candidate in chunk.candidates or ():
            index = candidate.index or 0
            self.grounding_usage.add(candidate.grounding_metadata)
            reader = self.choices.setdefault(index, ChoiceDecoder(index))
            for event in reader.parse(candidate):
                self.output_tokens += estimate_text_tokens(event.text) if isinstance(event, PartDelta) else 0
                yield event
        yield from self.parse_usage(chunk.usage_metadata)

    def parse_usage(self, metadata: Any) -> Iterator[Event]:
        """Until the answer has finished, what is stated of the output may lag behind what has come."""
        self.counts = merge_counts(self.counts, metadata)
        self.usage_metadata |= metadata if isinstance(metadata, dict) else {}
        if metadata is not None:
            self.final = self.is_complete and bool(parse_counts(metadata))
        usage = with_billable_extras(
            shown_usage(self.counts, metadata, self.is_blocked), self.usage_metadata, self.grounding_usage
        )
        if usage is not None and not self.final:
            usage = replace(usage, output=max(usage.output, self.output_tokens), estimated=True)
        if usage is not None and usage != self.usage:
            self.usage = usage
            yield UsageReported(usage=usage)

    def fail(self, error: ApiError) -> Failed:
        self.failed = True
        return Failed(error=error)

    def finish_choices(self) -> Iterator[Event]:
        for reader in self.choices.values():
            yield from reader.close_part()
        if not self.is_complete:
            yield self.fail(
                parse_error(200, self.non_event_bytes)
                if find_error(self.non_event_bytes)
                else STREAM_INTERRUPTED
            )
            return
        for reader in self.choices.values() or (ChoiceDecoder(0),):
            yield from reader.finish(self.is_blocked)

    @property
    def is_complete(self) -> bool:
        """A finish reason ends an answer. To a prompt that it blocks, or has judged and says nothing to, Gemini gives none."""
        if self.choices and all(reader.finish_reason for reader in self.choices.values()):
            return True
        return self.is_blocked or (
            self.has_feedback and not any(reader.index >= 0 for reader in self.choices.values())
        )
