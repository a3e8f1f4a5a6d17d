"""One choice of a stream on its way in: deltas of all kinds as parts that open and close one at a time."""

from collections import deque
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.formats.neutral import (
    Citation,
    Event,
    Finished,
    FinishReason,
    Opaque,
    Part,
    PartCited,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from proxy.formats.openai_chat.content import as_dict, as_str, parse_content, parse_images, parse_tool_call
from proxy.formats.openai_chat.reasoning import FORMAT, dict_items, parse_reasoning_detail
from proxy.formats.openai_chat.response import (
    AUDIO_KIND,
    parse_citations,
    parse_finish_reason,
    parse_logprobs,
    parse_stop_sequence,
)
from proxy.formats.tool_calls import unique_call_id

TEXT, THINKING, REFUSAL = Text(), Thinking(origin=FORMAT), Refusal()


class QueuedPart:
    """A part of the answer that is open, or waits for the open one to end."""

    def __init__(self, part: Part, given_id: str = "", wire_index: int | None = None) -> None:
        self.part = part
        self.given_id, self.wire_index = given_id, wire_index
        self.signature: str | None = None
        self.is_signature_sent = False
        self.text = ""
        self.buffered: list[tuple[str, tuple[Any, ...]]] = []
        self.citations: list[Citation] = []
        self.is_open = False

    @property
    def can_start(self) -> bool:
        """A call whose name is still to come waits for it."""
        return not isinstance(self.part, ToolCall) or bool(self.part.name)

    @property
    def can_end(self) -> bool:
        """Whether nothing more can belong to it once another part has begun. Servers may interleave calls: one with unfinished
        arguments stays open, and the next waits.
        """
        return not isinstance(self.part, ToolCall) or self.part.custom or is_json(self.text)


class ChoiceDecoder:
    """One choice. Its parts are given out in the order in which they began, one at a time."""

    def __init__(self, choice: int, events: list[Event]) -> None:
        self.choice = choice
        self.events = events
        self.parts: deque[QueuedPart] = deque()
        self.calls: list[QueuedPart] = []
        self.call_ids: set[str] = set()
        self.citations: list[Citation] = []
        self.audio: dict[str, Any] = {}
        self.index = 0
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
        """The increment; some servers send a whole message instead, or a bare text as in the old completions."""
        if isinstance(delta := wire.get("delta"), dict):
            return delta
        if isinstance(message := wire.get("message"), dict):
            return {} if self.parts or self.index else message
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
        """Servers that say a thought twice, as `reasoning` and in `reasoning_details`, are read once."""
        if not delta.keys() & {"reasoning_content", "reasoning", "reasoning_details", "reasoning_signature"}:
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
                self.enqueue(QueuedPart(thought))
            elif thought.signature:
                self.add_signature(thought.signature)
        if signature := as_str(delta.get("reasoning_signature")):
            self.add_signature(signature)

    def add_signature(self, signature: str) -> None:
        if not (self.parts and isinstance(self.parts[-1].part, Thinking)):
            self.enqueue(QueuedPart(THINKING))
        self.parts[-1].signature = signature

    def add_audio(self, audio: dict[str, Any]) -> None:
        """Sound comes in pieces of base64 and of its transcript, and is given out whole at the end."""
        for name, value in audio.items():
            known = self.audio.get(name)
            self.audio[name] = (
                known + value if isinstance(known, str) and isinstance(value, str) and name != "id" else value
            )

    def add_part(self, part: Part) -> None:
        """A part that is known at once."""
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
                call = QueuedPart(replace(part, arguments="", signature=None))
                call.signature = part.signature
                self.calls.append(call)
                self.enqueue(call)
                self.append(call, part.arguments)
            case _:
                self.enqueue(QueuedPart(part))

    def add_text(self, kind: Text | Thinking | Refusal, text: str, logprobs: tuple[Any, ...] = ()) -> None:
        if not text:
            return
        last = self.parts[-1] if self.parts else None
        if last is None or last.part is not kind or last.signature:
            self.enqueue(last := QueuedPart(kind))
        self.append(last, text, logprobs)

    def add_citation(self, citation: Citation) -> None:
        """A source of the text that has come or is to come; servers may name it with every delta."""
        if citation in self.citations:
            return
        if not any(waiting.part is TEXT for waiting in self.parts):
            self.enqueue(QueuedPart(TEXT))
        next(waiting for waiting in reversed(self.parts) if waiting.part is TEXT).citations.append(citation)
        self.citations.append(citation)

    def add_call_fragment(self, wire: dict[str, Any]) -> None:
        """A fragment of a call."""
        fragment = parse_tool_call(wire, "")
        call = self.find_call(wire, fragment.name)
        if call is None:
            call = QueuedPart(
                replace(
                    fragment,
                    id=unique_call_id(as_str(wire.get("id")), self.call_ids),
                    arguments="",
                    signature=None,
                ),
                as_str(wire.get("id")),
                wire.get("index"),
            )
            call.signature = fragment.signature
            self.calls.append(call)
            self.enqueue(call)
        elif fragment.signature:
            call.signature = fragment.signature
        if fragment.name and isinstance(call.part, ToolCall) and not call.part.name:
            call.part = replace(fragment, id=call.part.id, arguments="", signature=None)
            self.advance()
        self.append(call, fragment.arguments)

    def find_call(self, wire: dict[str, Any], name: str) -> QueuedPart | None:
        """The call that a fragment continues; None for a new one. Some servers give no index, repeat one, or send empty ids."""
        index, given = wire.get("index"), as_str(wire.get("id"))
        if isinstance(index, int):
            known = next((call for call in reversed(self.calls) if call.wire_index == index), None)
            return None if known and given and name and known.given_id not in ("", given) else known
        if given:
            return next((call for call in self.calls if call.given_id == given), None)
        last = self.calls[-1] if self.calls else None
        if last is None or not isinstance(last.part, ToolCall) or not last.part.name:
            return last
        return None if name and (last.part.name != name or is_json(last.text)) else last

    def enqueue(self, part: QueuedPart) -> None:
        self.parts.append(part)
        self.advance()

    def append(self, part: QueuedPart, text: str, logprobs: tuple[Any, ...] = ()) -> None:
        if not text:
            return
        if isinstance(part.part, ToolCall):
            part.text += text
        if part.is_open:
            self.events.append(PartDelta(choice=self.choice, index=self.index, text=text, logprobs=logprobs))
            if len(self.parts) > 1:
                self.advance()
        elif part in self.parts:
            part.buffered.append((text, logprobs))

    def advance(self) -> None:
        while self.parts[0].is_open or self.parts[0].can_start:
            if not self.parts[0].is_open:
                self.start_first()
            if len(self.parts) == 1 or not self.parts[0].can_end:
                return
            self.close_first()

    def start_first(self) -> None:
        part = self.parts[0]
        part.is_open = True
        self.events.append(PartStarted(choice=self.choice, index=self.index, part=part.part))
        if isinstance(part.part, ToolCall):
            self.emit_signature(part)
        for text, logprobs in part.buffered:
            self.events.append(PartDelta(choice=self.choice, index=self.index, text=text, logprobs=logprobs))

    def close_first(self) -> None:
        part = self.parts.popleft()
        part.is_open = False
        self.events += [
            PartCited(choice=self.choice, index=self.index, citation=citation) for citation in part.citations
        ]
        self.emit_signature(part)
        self.events.append(PartEnded(choice=self.choice, index=self.index))
        self.index += 1

    def emit_signature(self, part: QueuedPart) -> None:
        """That of a call is told as soon as it is known: other dialects have its place before the arguments."""
        if part.signature and not part.is_signature_sent:
            part.is_signature_sent = True
            self.events.append(PartSigned(choice=self.choice, index=self.index, signature=part.signature))

    def flush(self) -> None:
        while self.parts:
            if not self.parts[0].is_open:
                self.start_first()
            self.close_first()

    def finish(self, response_citations: list[Citation]) -> None:
        """At the end of the stream, with the reason that was given for it: some servers give one in every chunk. `response_citations` are those of
        the whole answer.
        """
        if response_citations and not self.citations and self.parts and self.parts[-1].part is TEXT:
            self.parts[-1].citations += response_citations
        wire = self.finish_wire or {}
        self.emit_finished(parse_finish_reason(wire, has_calls=bool(self.calls)), parse_stop_sequence(wire))

    def emit_finished(self, finish_reason: FinishReason, stop_sequence: str | None) -> None:
        if self.finished:
            return
        if self.audio:
            self.enqueue(QueuedPart(Opaque(origin=FORMAT, kind=AUDIO_KIND, value=self.audio)))
        self.flush()
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
