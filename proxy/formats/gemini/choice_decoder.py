"""Decoder of one candidate of a stream: Google's parts as neutral events."""

from typing import Any

from msgspec.structs import replace

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
    """Decode one candidate. At most one of its parts is open at a time.

    Google does not mark where a part ends: text continues the open text, and thinking the open thinking.
    """

    def __init__(self, choice: int) -> None:
        self.choice = choice
        self.events: list[Event] = []
        self.index = -1
        self.open_part: Text | Thinking | None = None
        self.partial_call: PartialFunctionCall | None = None
        self.texts: list[list[str]] = []
        self.finish_reason: str | None = None
        self.has_calls = False
        self.call_ids: set[str] = set()
        self.metadata: dict[str, Opaque] = {}

    def take_events(self) -> list[Event]:
        events, self.events = self.events, []
        return events

    def parse(self, candidate: WireCandidate) -> None:
        logprobs = parse_logprobs(candidate.logprobs_result)
        self.metadata |= {note.kind: note for note in parse_metadata(candidate)}
        for item in (candidate.content and candidate.content.parts) or ():
            self.parse_item(item, logprobs)
        self.finish_reason = candidate.finish_reason or self.finish_reason

    def parse_item(self, item: dict[str, Any], logprobs: tuple[Any, ...]) -> None:
        if is_partial_call(item, self.partial_call):
            self.parse_partial_call(item)
            return
        parts = parse_valid_part(item)
        if len(parts) == 2 and isinstance(parts[1], Text) and isinstance(self.open_part, Text):
            parts.reverse()
        for part in parts:
            self.add_part(part, logprobs)

    def parse_partial_call(self, item: dict[str, Any]) -> None:
        """Collect a call whose arguments arrive in pieces. Its events follow when it is complete."""
        call = item["functionCall"]
        if self.partial_call is None or call.get("name"):
            self.flush_partial_call()
            self.partial_call = PartialFunctionCall(item)
        if self.partial_call.add_pieces(call):
            self.flush_partial_call()

    def flush_partial_call(self) -> None:
        partial, self.partial_call = self.partial_call, None
        if partial is not None:
            for part in parse_valid_part(partial.complete_call()):
                self.add_part(part, ())

    def add_part(self, part: Part, logprobs: tuple[Any, ...]) -> None:
        self.flush_partial_call()
        match part:
            case Text():
                self.continue_part(part, Text())
                self.texts[-1].append(part.text)
                self.add_delta(part.text, logprobs)
            case Thinking():
                self.continue_part(part, Thinking(redacted=part.redacted, origin=part.origin))
                self.add_thinking(part)
            case ToolCall():
                self.add_tool_call(part)
            case _:
                self.start_part(part)
                self.end_part()

    def continue_part(self, part: Text | Thinking, empty: Text | Thinking) -> None:
        """Continue the open part if it has the same type, else start `empty`.

        A Google signature without text belongs to the content after it, not to the open thinking.
        """
        if type(self.open_part) is type(part) and not (
            isinstance(part, Thinking) and not part.text and part.origin == FORMAT
        ):
            return
        self.start_part(empty)
        self.open_part = empty
        if isinstance(part, Text):
            self.texts.append([])

    def add_thinking(self, part: Thinking) -> None:
        if part.text:
            self.add_delta(part.text)
        if part.signature:
            self.add_signature(part.signature)
        if part.signature or part.redacted is not None:
            self.close_part()

    def add_tool_call(self, call: ToolCall) -> None:
        self.has_calls = True
        call_id = unique_call_id(call.id, self.call_ids)
        self.start_part(replace(call, id=call_id, arguments="", signature=None))
        if call.signature:
            self.add_signature(call.signature)
        if call.arguments:
            self.add_delta(call.arguments)
        self.end_part()

    def add_delta(self, text: str, logprobs: tuple[Any, ...] = ()) -> None:
        self.events.append(PartDelta(choice=self.choice, index=self.index, text=text, logprobs=logprobs))

    def add_signature(self, signature: str) -> None:
        self.events.append(PartSigned(choice=self.choice, index=self.index, signature=signature))

    def start_part(self, part: Part) -> None:
        self.close_part()
        self.index += 1
        self.events.append(PartStarted(choice=self.choice, index=self.index, part=part))

    def end_part(self) -> None:
        self.events.append(PartEnded(choice=self.choice, index=self.index))

    def close_part(self) -> None:
        self.flush_partial_call()
        if self.open_part is not None:
            if isinstance(self.open_part, Text):
                self.add_citations()
            self.open_part = None
            self.end_part()

    def add_citations(self) -> None:
        """Add the sources known when a text ends. Google sends them at the end of a response."""
        if note := self.metadata.get("groundingMetadata"):
            texts = ["".join(pieces) for pieces in self.texts]
            self.events += [
                PartCited(choice=self.choice, index=self.index, citation=citation)
                for citation in parse_citations(note.value, texts)[-1]
            ]

    def finish(self, *, is_blocked: bool) -> None:
        for note in self.metadata.values():
            self.start_part(note)
            self.end_part()
        finish_reason = (
            "content_filter"
            if is_blocked
            else parse_finish_reason(self.finish_reason, self.has_calls, self.index >= 0)
        )
        self.events.append(Finished(choice=self.choice, finish_reason=finish_reason))
