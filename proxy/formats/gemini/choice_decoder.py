"""One candidate of a stream as neutral events."""

from collections.abc import Iterator
from typing import Any

import msgspec

from proxy.formats.gemini.grounding import parse_citations
from proxy.formats.gemini.partial_arguments import PartialFunctionCall, is_partial_call
from proxy.formats.gemini.response import (
    parse_finish_reason,
    parse_logprobs,
    parse_metadata,
    parse_valid_part,
)
from proxy.formats.gemini.wire import FORMAT, WireCandidate
from proxy.formats.neutral import (
    Event,
    Finished,
    Opaque,
    Part,
    PartCited,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Text,
    Thinking,
    ToolCall,
)
from proxy.formats.tool_calls import unique_call_id


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
