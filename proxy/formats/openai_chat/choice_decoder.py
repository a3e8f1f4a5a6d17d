"""Decoder of one choice of a stream. Its deltas become parts, and one part is open at a time."""

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.formats.json_body import as_dict, as_str, dict_items
from proxy.formats.neutral import (
    Citation,
    Event,
    Finished,
    FinishReason,
    Opaque,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from proxy.formats.openai_chat.content import parse_content, parse_images, parse_tool_call
from proxy.formats.openai_chat.reasoning import parse_reasoning_detail
from proxy.formats.openai_chat.response import (
    AUDIO_KIND,
    parse_citations,
    parse_finish_reason,
    parse_logprobs,
    parse_stop_sequence,
)
from proxy.formats.openai_chat.wire import FORMAT
from proxy.formats.streaming.part_queue import PartQueue, QueuedPart
from proxy.formats.tool_calls import unique_call_id

TEXT, THINKING, REFUSAL = Text(), Thinking(origin=FORMAT), Refusal()
THINKING_FIELDS = frozenset({"reasoning_content", "reasoning", "reasoning_details"})


@dataclass(slots=True, eq=False)
class QueuedCall(QueuedPart):
    """A tool call, with the id and the index that the provider sent for it."""

    given_id: str = ""
    wire_index: int | None = None


class ChoiceQueue(PartQueue):
    """The parts of one choice. A call starts when its name is known, and stays open until it is complete.

    Servers may interleave the fragments of several calls, and do not mark the end of a call.
    """

    def can_start(self, queued: QueuedPart) -> bool:
        return not isinstance(queued.part, ToolCall) or bool(queued.part.name)

    def can_end(self, queued: QueuedPart) -> bool:
        return not isinstance(queued.part, ToolCall) or queued.part.custom or is_json(queued.text)


class ChoiceDecoder:
    """Decodes the deltas of one choice, and adds its events to those of the stream."""

    def __init__(self, choice: int, events: list[Event]) -> None:
        self.choice, self.events = choice, events
        self.queue = ChoiceQueue(events, choice)
        self.calls: list[QueuedCall] = []
        self.call_ids: set[str] = set()
        self.citations: list[Citation] = []
        self.audio: dict[str, Any] = {}
        self.finish_wire: dict[str, Any] | None = None
        self.finished = False

    def parse(self, wire: dict[str, Any]) -> None:
        if self.finished:
            return
        if delta := self.find_delta(wire):
            self.parse_delta(delta, parse_logprobs(wire))
        given = as_str(wire.get("finish_reason")) or wire.get("finish_details")
        if given and (self.finish_wire is None or parse_finish_reason(wire, has_calls=False) != "stop"):
            self.finish_wire = wire

    def find_delta(self, wire: dict[str, Any]) -> dict[str, Any]:
        """Return the delta of a choice.

        Some servers send a whole message instead, or only text as in the legacy completions.
        """
        if isinstance(delta := wire.get("delta"), dict):
            return delta
        if isinstance(message := wire.get("message"), dict):
            return {} if self.queue.parts or self.queue.next_index else message
        return {"content": wire.get("text")}

    def parse_delta(self, delta: dict[str, Any], logprobs: tuple[Any, ...]) -> None:
        if (content := delta.get("content")) and isinstance(content, str) and len(delta) == 1:
            self.add_text(TEXT, content, logprobs)
            return
        self.add_thinking(delta)
        if isinstance(content, str):
            self.add_text(TEXT, content, logprobs)
        else:
            for part in parse_content(content):
                self.add_part(part)
        for citation in parse_citations(delta):
            self.add_citation(citation)
        self.add_text(REFUSAL, as_str(delta.get("refusal")))
        for part in parse_images(delta):
            self.add_part(part)
        self.add_audio(as_dict(delta.get("audio")))
        for call in dict_items(delta.get("tool_calls")):
            self.add_call_fragment(call)
        if function := as_dict(delta.get("function_call")):
            self.add_call_fragment({"index": 0, "function": function})

    def add_thinking(self, delta: dict[str, Any]) -> None:
        """Add thinking.

        If a server sends the same thinking twice, as `reasoning` and in `reasoning_details`, add it once.
        """
        if not delta.keys() & THINKING_FIELDS:
            return
        thoughts = [
            thought
            for detail in dict_items(delta.get("reasoning_details"))
            if (thought := parse_reasoning_detail(detail))
        ]
        text = as_str(delta.get("reasoning_content")) or as_str(delta.get("reasoning"))
        self.add_text(THINKING, text or "".join(thought.text for thought in thoughts))
        for thought in thoughts:
            if thought.redacted is not None:
                self.queue.add(QueuedPart(thought))
            elif thought.signature:
                self.add_signature(thought.signature)

    @property
    def last(self) -> QueuedPart | None:
        """The part that was added last, unless it has ended."""
        return self.queue.parts[-1] if self.queue.parts else None

    def add_signature(self, signature: str) -> None:
        last = self.last
        if last is None or not isinstance(last.part, Thinking):
            last = self.queue.add(QueuedPart(THINKING))
        last.signature = signature

    def add_audio(self, audio: dict[str, Any]) -> None:
        """Collect audio until the end of the stream. Chunks contain pieces of its data and its transcript."""
        for name, value in audio.items():
            known = self.audio.get(name)
            self.audio[name] = (
                known + value if isinstance(known, str) and isinstance(value, str) and name != "id" else value
            )

    def add_part(self, part: Part) -> None:
        """Add a complete part."""
        match part:
            case Text():
                self.add_text(TEXT, part.text)
                for citation in part.citations:
                    self.add_citation(citation)
            case Refusal():
                self.add_text(REFUSAL, part.text)
            case Thinking() if part.redacted is None:
                self.add_text(THINKING, part.text)
                if part.signature:
                    self.add_signature(part.signature)
            case ToolCall():
                self.append(self.add_call(part), part.arguments)
            case _:
                self.queue.add(QueuedPart(part))

    def add_call(self, call: ToolCall, given_id: str = "", wire_index: int | None = None) -> QueuedCall:
        queued = QueuedCall(
            replace(call, arguments="", signature=None),
            signature=call.signature,
            given_id=given_id,
            wire_index=wire_index,
        )
        self.calls.append(queued)
        self.queue.add(queued)
        return queued

    def add_text(self, kind: Text | Thinking | Refusal, text: str, logprobs: tuple[Any, ...] = ()) -> None:
        """Add text to the last part if it has this kind and no signature, otherwise to a new part."""
        if not text:
            return
        last = self.last
        if last is None or last.part is not kind or last.signature:
            last = self.queue.add(QueuedPart(kind))
        self.queue.append(last, text, logprobs)

    def append(self, queued: QueuedPart, text: str) -> None:
        if text:
            self.queue.append(queued, text)

    def add_citation(self, citation: Citation) -> None:
        """Add a citation to the last text.

        It may arrive before the text. Servers may repeat it in every delta.
        """
        if citation in self.citations:
            return
        if not any(queued.part is TEXT for queued in self.queue.parts):
            self.queue.add(QueuedPart(TEXT))
        text = next(queued for queued in reversed(self.queue.parts) if queued.part is TEXT)
        text.citations.append(citation)
        self.citations.append(citation)

    def add_call_fragment(self, wire: dict[str, Any]) -> None:
        fragment = parse_tool_call(wire, "")
        given_id = as_str(wire.get("id"))
        call = self.find_call(wire, fragment.name)
        if call is None:
            unique_id = unique_call_id(given_id, self.call_ids)
            call = self.add_call(replace(fragment, id=unique_id), given_id, wire.get("index"))
        elif fragment.signature:
            call.signature = fragment.signature
        if fragment.name and isinstance(call.part, ToolCall) and not call.part.name:
            call.part = replace(fragment, id=call.part.id, arguments="", signature=None)
            self.queue.advance()
        self.append(call, fragment.arguments)

    def find_call(self, wire: dict[str, Any], name: str) -> QueuedCall | None:
        """Return the call that a fragment continues, or None if the fragment begins a new call.

        Some servers send no index, repeat an index, or send empty ids.
        """
        index, given_id = wire.get("index"), as_str(wire.get("id"))
        if isinstance(index, int):
            known = next((call for call in reversed(self.calls) if call.wire_index == index), None)
            return None if known and given_id and name and known.given_id not in ("", given_id) else known
        if given_id:
            return next((call for call in self.calls if call.given_id == given_id), None)
        last = self.calls[-1] if self.calls else None
        if last is None or not isinstance(last.part, ToolCall) or not last.part.name:
            return last
        return None if name and (last.part.name != name or is_json(last.text)) else last

    def finish(self, response_citations: list[Citation]) -> None:
        """End the choice at the end of the stream, with its last finish reason.

        Some servers send a finish reason in every chunk. `response_citations` are the citations of the whole
        response.
        """
        last = self.last
        if response_citations and not self.citations and last and last.part is TEXT:
            last.citations += response_citations
        wire = self.finish_wire or {}
        self.emit_finished(parse_finish_reason(wire, has_calls=bool(self.calls)), parse_stop_sequence(wire))

    def emit_finished(self, finish_reason: FinishReason, stop_sequence: str | None) -> None:
        if self.finished:
            return
        if self.audio:
            self.queue.add(QueuedPart(Opaque(origin=FORMAT, kind=AUDIO_KIND, value=self.audio)))
        self.queue.flush()
        self.finished = True
        self.events.append(
            Finished(choice=self.choice, finish_reason=finish_reason, stop_sequence=stop_sequence)
        )


def is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return False
    return True
