"""Streams of streamGenerateContent: each event is a whole answer that holds what is new, in lines that end in CRLF."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.formats.gemini.content import FORMAT
from proxy.formats.gemini.encoder import StreamEncoder
from proxy.formats.gemini.errors import find_error, parse_error
from proxy.formats.gemini.grounding import GroundingUsage, parse_citations
from proxy.formats.gemini.partial_arguments import PartialFunctionCall, is_partial_call
from proxy.formats.gemini.response import (
    WireCandidate,
    WireResponse,
    new_id,
    parse_finish_reason,
    parse_logprobs,
    parse_metadata,
    parse_responses,
    parse_valid_part,
)
from proxy.formats.gemini.usage import merge_counts, parse_counts, shown_usage, with_billable_extras
from proxy.formats.json_body import repair_json
from proxy.formats.metering.token_counts import estimate_text_tokens
from proxy.formats.neutral import (
    ApiError,
    Event,
    Failed,
    Finished,
    Opaque,
    Part,
    PartCited,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Started,
    Text,
    Thinking,
    ToolCall,
    Usage,
    UsageReported,
)
from proxy.formats.sse import EVENT_TOO_LONG, EventSplitter, EventTooLong, event_data
from proxy.formats.tool_calls import unique_call_id

__all__ = ["StreamDecoder", "StreamEncoder"]

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


class ChoiceDecoder:
    """One candidate of a stream: which part is open, and what is to be said at its end."""

    def __init__(self, choice: int) -> None:
        self.choice = choice
        self.index = -1
        self.open_part: Text | Thinking | None = None
        self.partial_call: PartialFunctionCall | None = None
        self.texts: list[list[str]] = []
        self.finish_reason: str | None = None
        self.has_calls = False
        self.call_ids: set[str] = set()
        self.metadata: dict[str, Opaque] = {}

    def parse(self, candidate: WireCandidate) -> Iterator[Event]:
        logprobs = parse_logprobs(candidate.logprobs_result)
        self.metadata |= {note.kind: note for note in parse_metadata(candidate)}
        for item in (candidate.content and candidate.content.parts) or ():
            yield from self.parse_item(item, logprobs)
        self.finish_reason = candidate.finish_reason or self.finish_reason

    def parse_item(self, item: dict[str, Any], logprobs: tuple[Any, ...]) -> Iterator[Event]:
        if is_partial_call(item, self.partial_call):
            yield from self.parse_partial_call(item)
            return
        parts = parse_valid_part(item)
        if len(parts) == 2 and isinstance(parts[1], Text) and isinstance(self.open_part, Text):
            parts.reverse()
        for part in parts:
            yield from self.emit_part(part, logprobs)

    def parse_partial_call(self, item: dict[str, Any]) -> Iterator[Event]:
        """A call whose arguments come piece by piece is told when it is complete."""
        call = item["functionCall"]
        if self.partial_call is None or call.get("name"):
            yield from self.flush_partial_call()
            self.partial_call = PartialFunctionCall(item)
        if self.partial_call.add_pieces(call):
            yield from self.flush_partial_call()

    def flush_partial_call(self) -> Iterator[Event]:
        partial, self.partial_call = self.partial_call, None
        if partial is not None:
            for part in parse_valid_part(partial.complete_call()):
                yield from self.emit_part(part, ())

    def emit_part(self, part: Part, logprobs: tuple[Any, ...]) -> Iterator[Event]:
        yield from self.flush_partial_call()
        match part:
            case Text():
                yield from self.continue_part(part, Text())
                self.texts[-1].append(part.text)
                yield PartDelta(choice=self.choice, index=self.index, text=part.text, logprobs=logprobs)
            case Thinking():
                yield from self.continue_part(part, Thinking(redacted=part.redacted, origin=part.origin))
                yield from self.emit_thinking(part)
            case ToolCall():
                yield from self.emit_tool_call(part)
            case _:
                yield from self.start_part(part)
                yield PartEnded(choice=self.choice, index=self.index)

    def continue_part(self, part: Text | Thinking, empty: Text | Thinking) -> Iterator[Event]:
        """Text goes on in the open text, a thought in the open thought; a signature that came alone is not of the thought before."""
        if type(self.open_part) is type(part) and not (
            isinstance(part, Thinking) and not part.text and part.origin == FORMAT
        ):
            return
        yield from self.start_part(empty)
        self.open_part = empty
        if isinstance(part, Text):
            self.texts.append([])

    def emit_thinking(self, part: Thinking) -> Iterator[Event]:
        if part.text:
            yield PartDelta(choice=self.choice, index=self.index, text=part.text)
        if part.signature:
            yield PartSigned(choice=self.choice, index=self.index, signature=part.signature)
        if part.signature or part.redacted is not None:
            yield from self.close_part()

    def emit_tool_call(self, call: ToolCall) -> Iterator[Event]:
        self.has_calls = True
        call_id = unique_call_id(call.id, self.call_ids)
        yield from self.start_part(msgspec.structs.replace(call, id=call_id, arguments="", signature=None))
        if call.signature:
            yield PartSigned(choice=self.choice, index=self.index, signature=call.signature)
        if call.arguments:
            yield PartDelta(choice=self.choice, index=self.index, text=call.arguments)
        yield PartEnded(choice=self.choice, index=self.index)

    def start_part(self, part: Part) -> Iterator[Event]:
        yield from self.close_part()
        self.index += 1
        yield PartStarted(choice=self.choice, index=self.index, part=part)

    def close_part(self) -> Iterator[Event]:
        yield from self.flush_partial_call()
        if self.open_part is not None:
            if isinstance(self.open_part, Text):
                yield from self.emit_citations()
            self.open_part = None
            yield PartEnded(choice=self.choice, index=self.index)

    def emit_citations(self) -> Iterator[Event]:
        """The sources known when a text ends: Google names them with the last words of an answer."""
        if note := self.metadata.get("groundingMetadata"):
            for citation in parse_citations(note.value, ["".join(pieces) for pieces in self.texts])[-1]:
                yield PartCited(choice=self.choice, index=self.index, citation=citation)

    def finish(self, blocked: bool) -> Iterator[Event]:
        for note in self.metadata.values():
            yield from self.start_part(note)
            yield PartEnded(choice=self.choice, index=self.index)
        finish = (
            "content_filter"
            if blocked
            else parse_finish_reason(self.finish_reason, self.has_calls, self.index >= 0)
        )
        yield Finished(choice=self.choice, finish_reason=finish)
