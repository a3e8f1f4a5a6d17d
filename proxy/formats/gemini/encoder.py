"""Neutral events as Google's stream: each event is a whole answer that holds what is new, in lines that end in CRLF."""

from typing import Any, assert_never

import msgspec

from proxy.formats.body import encode
from proxy.formats.gemini.errors import render_error
from proxy.formats.gemini.grounding import render_grounding
from proxy.formats.gemini.parts import ANSWER_NOTES, ORIGIN, render_parts, seal
from proxy.formats.gemini.response import content_of, finish_word, made_id, render_logprobs
from proxy.formats.gemini.usage import render_usage
from proxy.formats.neutral import (
    Citation,
    Event,
    Failed,
    Failure,
    File,
    Finished,
    FinishReason,
    Image,
    Opaque,
    Part,
    PartCited,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Refusal,
    Request,
    Started,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
    UsageSeen,
)


class OpenPart:
    """What the encoder must remember of a part that has started: a call goes out whole, in one chunk."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.arguments: list[str] = []
        self.texts: list[str] = []
        self.citations: list[Citation] = []
        self.has_text = False
        self.signature = part.signature if isinstance(part, ToolCall) else None

    def whole_text(self) -> Text:
        return Text(text="".join(self.texts), citations=tuple(self.citations))

    def whole_call(self, call: ToolCall) -> ToolCall:
        return msgspec.structs.replace(call, arguments=call.arguments + "".join(self.arguments), signature=self.signature)


class StreamEncoder:
    """With `array`, the stream is one JSON array, as Google sends it to who does not ask for `alt=sse`."""

    def __init__(self, request: Request, array: bool = False) -> None:
        self.id, self.model = made_id(), request.model
        self.framing = ArrayFraming() if array else EventFraming()
        self.open: dict[int, OpenPart] = {}
        self.said: dict[int, list[Text]] = {}
        self.finishes: dict[int, FinishReason] = {}
        self.notes: dict[int, dict[str, Any]] = {}
        self.usage: Usage | None = None
        self.failed = False

    def encode(self, event: Event) -> bytes:
        match event:
            case Started(id=id, model=model):
                self.id, self.model = id or self.id, model or self.model
                return self.chunk(0, [{"text": ""}])
            case PartStarted(choice=choice, part=part):
                return self.start(choice, part)
            case PartDelta():
                return self.extend(event)
            case PartSigned(choice=choice, signature=signature):
                return self.sign(choice, signature)
            case PartCited(choice=choice, citation=citation):
                if choice in self.open:
                    self.open[choice].citations.append(citation)
            case PartEnded(choice=choice):
                return self.close(choice)
            case UsageSeen(usage=usage):
                self.usage = usage
            case Finished(choice=choice, finish=finish):
                self.finishes.setdefault(choice, finish)
            case Failed(failure=failure):
                return self.error_event(failure, "")
            case _:
                assert_never(event)
        return b""

    def finish(self) -> bytes:
        """The last chunk: why each choice ended, and the usage. A stream that nothing finished gets no such end."""
        if self.failed:
            return b""
        last = self.framing.frame(encode(self.last_answer())) if self.finishes else b""
        return last + self.framing.end()

    def error_event(self, failure: Failure, request_id: str) -> bytes:
        """An error in a stream that has begun, with what ends the stream."""
        self.failed = True
        return self.framing.frame(render_error(failure, request_id)) + self.framing.end()

    def last_answer(self) -> dict[str, Any]:
        candidates = [
            {"content": content_of([{"text": ""}]), "finishReason": finish_word(finish), "index": choice}
            | render_grounding(self.said.get(choice, ()))
            | self.notes.get(choice, {})
            for choice, finish in sorted(self.finishes.items())
        ]
        usage = {"usageMetadata": render_usage(self.usage)} if self.usage else {}
        return {"candidates": candidates} | usage | self.identity()

    def identity(self) -> dict[str, Any]:
        return {"modelVersion": self.model, "responseId": self.id}

    def chunk(self, choice: int, parts: list[dict[str, Any]], more: dict[str, Any] | None = None) -> bytes:
        candidate = {"content": content_of(parts), "index": choice} | (more or {})
        return self.framing.frame(encode({"candidates": [candidate]} | self.identity()))

    def start(self, choice: int, part: Part) -> bytes:
        self.open[choice] = OpenPart(part)
        match part:
            case Text() | Refusal():
                self.open[choice].texts.append(part.text)
                return self.chunk(choice, [{"text": part.text}]) if part.text else b""
            case Thinking(text=text, redacted=redacted):
                return self.chunk(choice, render_parts([part])) if text or redacted is not None else b""
            case Opaque(what=what, value=value) if part.origin == ORIGIN and what in ANSWER_NOTES:
                self.notes.setdefault(choice, {})[what] = value
            case Image() | File() | Opaque():
                rendered = render_parts([part])
                return self.chunk(choice, rendered) if rendered else b""
            case ToolCall() | ToolResult():
                return b""
            case _:
                assert_never(part)
        return b""

    def extend(self, delta: PartDelta) -> bytes:
        opened = self.open.get(delta.choice)
        if opened is None:
            return b""
        match opened.part:
            case Text() | Refusal():
                opened.texts.append(delta.text)
                more = {"logprobsResult": render_logprobs(delta.logprobs)} if delta.logprobs else None
                return self.chunk(delta.choice, [{"text": delta.text}], more)
            case Thinking():
                opened.has_text = True
                return self.chunk(delta.choice, [{"text": delta.text, "thought": True}])
            case _:
                opened.arguments.append(delta.text)
                return b""

    def sign(self, choice: int, signature: str) -> bytes:
        opened = self.open.get(choice)
        match opened and opened.part:
            case Thinking(origin=origin):
                own = {"text": ""} if origin == ORIGIN and opened and not opened.has_text else {"text": "", "thought": True}
                return self.chunk(choice, [own | {"thoughtSignature": seal(signature, origin)}])
            case ToolCall() if opened:
                opened.signature = signature
        return b""

    def close(self, choice: int) -> bytes:
        opened = self.open.pop(choice, None)
        if opened is not None and isinstance(opened.part, ToolCall):
            return self.chunk(choice, render_parts([opened.whole_call(opened.part)]))
        if opened is not None and isinstance(opened.part, Text | Refusal):
            self.said.setdefault(choice, []).append(opened.whole_text())
        return b""


class EventFraming:
    """Server-sent events. No comments: Google's SDK fails on them."""

    def frame(self, answer: bytes) -> bytes:
        return b"data: " + answer + b"\r\n\r\n"

    def end(self) -> bytes:
        return b""


class ArrayFraming:
    def __init__(self) -> None:
        self.begun = False

    def frame(self, answer: bytes) -> bytes:
        lead, self.begun = b",\r\n" if self.begun else b"[", True
        return lead + answer

    def end(self) -> bytes:
        return b"]" if self.begun else b"[]"
