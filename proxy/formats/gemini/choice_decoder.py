"""Decoder of one candidate of a stream: turns Google's parts into neutral events."""

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
from proxy.formats.neutral import Event, Finished, Opaque, Part, Text, Thinking, ToolCall
from proxy.formats.streaming.part_queue import PartQueue, QueuedPart
from proxy.formats.tool_calls import unique_call_id


class ChoiceDecoder:
    """Decodes one candidate, and adds its events to `events`, the list that all choices of a stream share.

    Google does not mark where a part ends. Text that arrives while a text is open continues this text, and
    the same is true of thinking. Each part is closed before the next one starts, so no part waits in the
    queue.
    """

    def __init__(self, choice: int, events: list[Event]) -> None:
        self.choice, self.events = choice, events
        self.queue = PartQueue(events, choice)
        self.open_part: QueuedPart | None = None
        self.partial_call: PartialFunctionCall | None = None
        self.texts: list[list[str]] = []
        self.finish_reason: str | None = None
        self.has_calls = False
        self.call_ids: set[str] = set()
        self.metadata: dict[str, Opaque] = {}

    @property
    def has_parts(self) -> bool:
        return self.queue.next_index > 0

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
        is_text_open = self.open_part is not None and isinstance(self.open_part.part, Text)
        if len(parts) == 2 and isinstance(parts[1], Text) and is_text_open:
            parts.reverse()
        for part in parts:
            self.add_part(part, logprobs)

    def parse_partial_call(self, item: dict[str, Any]) -> None:
        """Collect the pieces of a call's arguments.

        The events of the call are added when the call is complete.
        """
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
                queued = self.continue_part(part, Text())
                self.texts[-1].append(part.text)
                self.queue.emit_delta(queued, part.text, logprobs)
            case Thinking():
                self.add_thinking(part)
            case ToolCall():
                self.add_tool_call(part)
            case _:
                self.add_complete_part(part)

    def continue_part(self, part: Text | Thinking, empty: Text | Thinking) -> QueuedPart:
        """Return the open part if it has the type of `part`; otherwise close it and start `empty`.

        A thinking part of Google that has a signature but no text never continues the open thinking, because
        it signs the content after it.
        """
        stands_alone = isinstance(part, Thinking) and not part.text and part.origin == FORMAT
        if self.open_part is not None and type(self.open_part.part) is type(part) and not stands_alone:
            return self.open_part
        self.close_part()
        if isinstance(part, Text):
            self.texts.append([])
        self.open_part = self.queue.add(QueuedPart(empty))
        return self.open_part

    def add_thinking(self, part: Thinking) -> None:
        queued = self.continue_part(part, Thinking(redacted=part.redacted, origin=part.origin))
        if part.text:
            self.queue.emit_delta(queued, part.text, ())
        if part.signature or part.redacted is not None:
            self.close_part(part.signature)

    def add_tool_call(self, call: ToolCall) -> None:
        self.close_part()
        self.has_calls = True
        call_id = unique_call_id(call.id, self.call_ids)
        part = replace(call, id=call_id, arguments="", signature=None)
        queued = self.queue.add(QueuedPart(part, signature=call.signature))
        if call.arguments:
            self.queue.emit_delta(queued, call.arguments, ())
        self.queue.complete(queued, call.signature)

    def add_complete_part(self, part: Part) -> None:
        self.close_part()
        self.queue.complete(self.queue.add(QueuedPart(part)))

    def close_part(self, signature: str | None = None) -> None:
        """End the open part. If it is a text, add the citations that have arrived by now.

        Google sends its sources at the end of a response.
        """
        self.flush_partial_call()
        queued, self.open_part = self.open_part, None
        if queued is None:
            return
        if isinstance(queued.part, Text) and (note := self.metadata.get("groundingMetadata")):
            queued.citations += parse_citations(note.value, ["".join(pieces) for pieces in self.texts])[-1]
        self.queue.complete(queued, signature)

    def finish(self, *, is_blocked: bool) -> None:
        for note in self.metadata.values():
            self.add_complete_part(note)
        finish_reason = (
            "content_filter"
            if is_blocked
            else parse_finish_reason(self.finish_reason, self.has_calls, self.has_parts)
        )
        self.events.append(Finished(choice=self.choice, finish_reason=finish_reason))
