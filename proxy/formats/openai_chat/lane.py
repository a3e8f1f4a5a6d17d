"""One choice of a stream on its way in: deltas of all kinds as parts that open and close one at a time."""

from collections import deque
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.formats.call_ids import fresh_call_id
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
from proxy.formats.openai_chat.message import call_of, content_of, images_of, object_of, text_of
from proxy.formats.openai_chat.response import SPOKEN, citations_of, finish_of, logprobs_of, stop_sequence_of
from proxy.formats.openai_chat.signatures import OWN, listed, thought_of

TEXT, THINKING, REFUSAL = Text(), Thinking(origin=OWN), Refusal()


class Waiting:
    """A part of the answer that is open, or waits for the open one to end."""

    def __init__(self, part: Part, given: str = "", key: int | None = None) -> None:
        self.part = part
        self.given, self.key = given, key
        self.signature: str | None = None
        self.signed = False
        self.text = ""
        self.late: list[tuple[str, tuple[Any, ...]]] = []
        self.citations: list[Citation] = []
        self.open = False

    @property
    def may_begin(self) -> bool:
        """A call whose name is still to come waits for it."""
        return not isinstance(self.part, ToolCall) or bool(self.part.name)

    @property
    def may_end(self) -> bool:
        """Whether nothing more can belong to it once another part has begun. Servers may interleave calls: one with unfinished
        arguments stays open, and the next waits."""
        return not isinstance(self.part, ToolCall) or self.part.custom or is_json(self.text)


class Lane:
    """One choice. Its parts are given out in the order in which they began, one at a time."""

    def __init__(self, choice: int, events: list[Event]) -> None:
        self.choice = choice
        self.events = events
        self.parts: deque[Waiting] = deque()
        self.calls: list[Waiting] = []
        self.call_ids: set[str] = set()
        self.cited: list[Citation] = []
        self.sound: dict[str, Any] = {}
        self.index = 0
        self.reason: dict[str, Any] | None = None
        self.finished = False

    def read(self, wire: dict[str, Any]) -> None:
        if self.finished:
            return
        if delta := self.delta_of(wire):
            self.read_delta(delta, logprobs_of(wire))
        given = text_of(wire.get("finish_reason")) or wire.get("finish_details")
        if given and (self.reason is None or finish_of(wire, called=False) != "stop"):
            self.reason = wire

    def delta_of(self, wire: dict[str, Any]) -> dict[str, Any]:
        """The increment; some servers send a whole message instead, or a bare text as in the old completions."""
        if isinstance(delta := wire.get("delta"), dict):
            return delta
        if isinstance(message := wire.get("message"), dict):
            return {} if self.parts or self.index else message
        return {"content": wire.get("text")}

    def read_delta(self, delta: dict[str, Any], logprobs: tuple[Any, ...]) -> None:
        if (content := delta.get("content")) and isinstance(content, str) and len(delta) == 1:
            self.say(TEXT, content, logprobs)
            return
        self.think(delta)
        if isinstance(content, str):
            self.say(TEXT, content, logprobs)
        else:
            for part in content_of(content):
                self.add(part)
        for citation in citations_of(delta):
            self.cite(citation)
        self.say(REFUSAL, text_of(delta.get("refusal")))
        for part in images_of(delta):
            self.add(part)
        self.listen(object_of(delta.get("audio")))
        for call in listed(delta.get("tool_calls")):
            self.call(call)
        if function := object_of(delta.get("function_call")):
            self.call({"index": 0, "function": function})

    def think(self, delta: dict[str, Any]) -> None:
        """Servers that say a thought twice, as `reasoning` and in `reasoning_details`, are read once."""
        if not delta.keys() & {"reasoning_content", "reasoning", "reasoning_details", "reasoning_signature"}:
            return
        thoughts = [thought for detail in listed(delta.get("reasoning_details")) if (thought := thought_of(detail))]
        text = text_of(delta.get("reasoning_content")) or text_of(delta.get("reasoning"))
        self.say(THINKING, text or "".join(thought.text for thought in thoughts))
        for thought in thoughts:
            if thought.redacted is not None:
                self.begin(Waiting(thought))
            elif thought.signature:
                self.sign(thought.signature)
        if signature := text_of(delta.get("reasoning_signature")):
            self.sign(signature)

    def sign(self, signature: str) -> None:
        if not (self.parts and isinstance(self.parts[-1].part, Thinking)):
            self.begin(Waiting(THINKING))
        self.parts[-1].signature = signature

    def listen(self, audio: dict[str, Any]) -> None:
        """Sound comes in pieces of base64 and of its transcript, and is given out whole at the end."""
        for name, value in audio.items():
            known = self.sound.get(name)
            self.sound[name] = known + value if isinstance(known, str) and isinstance(value, str) and name != "id" else value

    def add(self, part: Part) -> None:
        """A part that is known at once."""
        match part:
            case Text():
                self.say(TEXT, part.text)
                for citation in part.citations:
                    self.cite(citation)
            case Refusal():
                self.say(REFUSAL, part.text)
            case Thinking() if part.redacted is None:
                self.say(THINKING, part.text)
                if part.signature:
                    self.sign(part.signature)
            case ToolCall():
                call = Waiting(replace(part, arguments="", signature=None))
                call.signature = part.signature
                self.calls.append(call)
                self.begin(call)
                self.append(call, part.arguments)
            case _:
                self.begin(Waiting(part))

    def say(self, kind: Text | Thinking | Refusal, text: str, logprobs: tuple[Any, ...] = ()) -> None:
        if not text:
            return
        last = self.parts[-1] if self.parts else None
        if last is None or last.part is not kind or last.signature:
            self.begin(last := Waiting(kind))
        self.append(last, text, logprobs)

    def cite(self, citation: Citation) -> None:
        """A source of the text that has come or is to come; servers may name it with every delta."""
        if citation in self.cited:
            return
        if not any(waiting.part is TEXT for waiting in self.parts):
            self.begin(Waiting(TEXT))
        next(waiting for waiting in reversed(self.parts) if waiting.part is TEXT).citations.append(citation)
        self.cited.append(citation)

    def call(self, wire: dict[str, Any]) -> None:
        """A fragment of a call."""
        fragment = call_of(wire, "")
        call = self.call_meant(wire, fragment.name)
        if call is None:
            call = Waiting(
                replace(fragment, id=fresh_call_id(text_of(wire.get("id")), self.call_ids), arguments="", signature=None),
                text_of(wire.get("id")),
                wire.get("index"),
            )
            call.signature = fragment.signature
            self.calls.append(call)
            self.begin(call)
        elif fragment.signature:
            call.signature = fragment.signature
        if fragment.name and isinstance(call.part, ToolCall) and not call.part.name:
            call.part = replace(fragment, id=call.part.id, arguments="", signature=None)
            self.advance()
        self.append(call, fragment.arguments)

    def call_meant(self, wire: dict[str, Any], name: str) -> Waiting | None:
        """The call that a fragment continues; None for a new one. Some servers give no index, repeat one, or send empty ids."""
        index, given = wire.get("index"), text_of(wire.get("id"))
        if isinstance(index, int):
            known = next((call for call in reversed(self.calls) if call.key == index), None)
            return None if known and given and name and known.given not in ("", given) else known
        if given:
            return next((call for call in self.calls if call.given == given), None)
        last = self.calls[-1] if self.calls else None
        if last is None or not isinstance(last.part, ToolCall) or not last.part.name:
            return last
        return None if name and (last.part.name != name or is_json(last.text)) else last

    def begin(self, part: Waiting) -> None:
        self.parts.append(part)
        self.advance()

    def append(self, part: Waiting, text: str, logprobs: tuple[Any, ...] = ()) -> None:
        if not text:
            return
        if isinstance(part.part, ToolCall):
            part.text += text
        if part.open:
            self.events.append(PartDelta(choice=self.choice, index=self.index, text=text, logprobs=logprobs))
            if len(self.parts) > 1:
                self.advance()
        elif part in self.parts:
            part.late.append((text, logprobs))

    def advance(self) -> None:
        while self.parts[0].open or self.parts[0].may_begin:
            if not self.parts[0].open:
                self.open_first()
            if len(self.parts) == 1 or not self.parts[0].may_end:
                return
            self.close_first()

    def open_first(self) -> None:
        part = self.parts[0]
        part.open = True
        self.events.append(PartStarted(choice=self.choice, index=self.index, part=part.part))
        if isinstance(part.part, ToolCall):
            self.tell_signature(part)
        for text, logprobs in part.late:
            self.events.append(PartDelta(choice=self.choice, index=self.index, text=text, logprobs=logprobs))

    def close_first(self) -> None:
        part = self.parts.popleft()
        part.open = False
        self.events += [PartCited(choice=self.choice, index=self.index, citation=citation) for citation in part.citations]
        self.tell_signature(part)
        self.events.append(PartEnded(choice=self.choice, index=self.index))
        self.index += 1

    def tell_signature(self, part: Waiting) -> None:
        """That of a call is told as soon as it is known: other dialects have its place before the arguments."""
        if part.signature and not part.signed:
            part.signed = True
            self.events.append(PartSigned(choice=self.choice, index=self.index, signature=part.signature))

    def flush(self) -> None:
        while self.parts:
            if not self.parts[0].open:
                self.open_first()
            self.close_first()

    def conclude(self, sources: list[Citation]) -> None:
        """At the end of the stream, with the reason that was given for it: some servers give one in every chunk. `sources` are those of
        the whole answer."""
        if sources and not self.cited and self.parts and self.parts[-1].part is TEXT:
            self.parts[-1].citations += sources
        wire = self.reason or {}
        self.end(finish_of(wire, called=bool(self.calls)), stop_sequence_of(wire))

    def end(self, finish: FinishReason, stop_sequence: str | None) -> None:
        if self.finished:
            return
        if self.sound:
            self.begin(Waiting(Opaque(origin=OWN, what=SPOKEN, value=self.sound)))
        self.flush()
        self.finished = True
        self.events.append(Finished(choice=self.choice, finish=finish, stop_sequence=stop_sequence))


def is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return False
    return True
