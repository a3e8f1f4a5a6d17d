"""Encoder of streamGenerateContent.

Each event of the stream has the form of a complete response, but contains only the new content. Lines end
with CRLF.
"""

from collections import defaultdict
from typing import Any, assert_never

import msgspec

from proxy.formats.gemini.content import METADATA_FIELDS, render_parts
from proxy.formats.gemini.errors import render_error
from proxy.formats.gemini.grounding import render_grounding
from proxy.formats.gemini.reasoning import CallSeals
from proxy.formats.gemini.response import new_id, render_content, render_finish_reason, render_logprobs
from proxy.formats.gemini.usage import render_usage
from proxy.formats.gemini.wire import FORMAT
from proxy.formats.json_body import encode
from proxy.formats.neutral import (
    ApiError,
    Citation,
    Event,
    Failed,
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
    UsageReported,
)


class OpenPart:
    """The content of a part that has started and not ended.

    It is stored because a call is sent complete in one chunk.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        self.arguments: list[str] = []
        self.texts: list[str] = []
        self.citations: list[Citation] = []
        self.signature = part.signature if isinstance(part, ToolCall | Thinking) else None

    def complete_text(self) -> Text:
        return Text(text="".join(self.texts), citations=tuple(self.citations))

    def complete_thinking(self, part: Thinking) -> Thinking:
        return msgspec.structs.replace(part, text="".join(self.texts), signature=self.signature)

    def complete_call(self, call: ToolCall) -> ToolCall:
        return msgspec.structs.replace(
            call, arguments=call.arguments + "".join(self.arguments), signature=self.signature
        )


class StreamEncoder:
    """Encodes neutral events as a stream of streamGenerateContent.

    If `as_array` is set, the stream is one JSON array. Google sends this form if the URL does not have
    `alt=sse`.
    """

    def __init__(self, request: Request, as_array: bool = False) -> None:
        self.id, self.model = new_id(), request.model
        self.framing = ArrayFraming() if as_array else EventFraming()
        self.open_parts: dict[int, OpenPart] = {}
        self.call_seals: defaultdict[int, CallSeals] = defaultdict(CallSeals)
        self.sent_text: dict[int, list[Text]] = {}
        self.finish_reasons: dict[int, FinishReason] = {}
        self.metadata: dict[int, dict[str, Any]] = {}
        self.usage: Usage | None = None
        self.has_failed = False

    def encode(self, event: Event) -> bytes:
        match event:
            case Started(id=id, model=model):
                self.id, self.model = id or self.id, model or self.model
                return self.chunk(0, [{"text": ""}])
            case PartStarted(choice=choice, part=part):
                return self.start_part(choice, part)
            case PartDelta():
                return self.add_text(event)
            case PartSigned(choice=choice, signature=signature):
                if choice in self.open_parts:
                    self.open_parts[choice].signature = signature
            case PartCited(choice=choice, citation=citation):
                if choice in self.open_parts:
                    self.open_parts[choice].citations.append(citation)
            case PartEnded(choice=choice):
                return self.end_part(choice)
            case UsageReported(usage=usage):
                self.usage = usage
            case Finished(choice=choice, finish_reason=finish_reason):
                self.finish_reasons.setdefault(choice, finish_reason)
            case Failed(error=error):
                return self.render_error_event(error, "")
            case _:
                assert_never(event)
        return b""

    def finish(self) -> bytes:
        """Return the last chunk, with the finish reasons and the usage.

        If no choice has finished, there is no such chunk.
        """
        if self.has_failed:
            return b""
        last = self.framing.frame(encode(self.final_chunk())) if self.finish_reasons else b""
        return last + self.framing.end()

    def render_error_event(self, error: ApiError, request_id: str) -> bytes:
        """Render an error inside of a started stream, and end the stream."""
        self.has_failed = True
        return self.framing.frame(render_error(error, request_id)) + self.framing.end()

    def final_chunk(self) -> dict[str, Any]:
        candidates = [
            {
                "content": render_content([{"text": ""}]),
                "finishReason": render_finish_reason(finish_reason),
                "index": choice,
            }
            | render_grounding(self.sent_text.get(choice, ()))
            | self.metadata.get(choice, {})
            for choice, finish_reason in sorted(self.finish_reasons.items())
        ]
        usage = {"usageMetadata": render_usage(self.usage)} if self.usage else {}
        return {"candidates": candidates} | usage | self.id_fields()

    def id_fields(self) -> dict[str, Any]:
        return {"modelVersion": self.model, "responseId": self.id}

    def chunk(
        self, choice: int, parts: list[dict[str, Any]], candidate_fields: dict[str, Any] | None = None
    ) -> bytes:
        candidate = {"content": render_content(parts), "index": choice} | (candidate_fields or {})
        return self.framing.frame(encode({"candidates": [candidate]} | self.id_fields()))

    def start_part(self, choice: int, part: Part) -> bytes:
        self.open_parts[choice] = OpenPart(part)
        match part:
            case Text() | Refusal():
                self.open_parts[choice].texts.append(part.text)
                return self.chunk(choice, [{"text": part.text}]) if part.text else b""
            case Thinking():
                self.open_parts[choice].texts.append(part.text)
                return self.chunk(choice, [{"text": part.text, "thought": True}]) if part.text else b""
            case Opaque(kind=field, value=value) if part.origin == FORMAT and field in METADATA_FIELDS:
                self.metadata.setdefault(choice, {})[field] = value
            case Image() | File() | Opaque():
                rendered = render_parts([part])
                return self.chunk(choice, rendered) if rendered else b""
            case ToolCall() | ToolResult():
                return b""
            case _:
                assert_never(part)
        return b""

    def add_text(self, delta: PartDelta) -> bytes:
        open_part = self.open_parts.get(delta.choice)
        if open_part is None:
            return b""
        match open_part.part:
            case Text() | Refusal():
                open_part.texts.append(delta.text)
                candidate_fields = (
                    {"logprobsResult": render_logprobs(delta.logprobs)} if delta.logprobs else None
                )
                return self.chunk(delta.choice, [{"text": delta.text}], candidate_fields)
            case Thinking():
                open_part.texts.append(delta.text)
                return self.chunk(delta.choice, [{"text": delta.text, "thought": True}])
            case _:
                open_part.arguments.append(delta.text)
                return b""

    def end_part(self, choice: int) -> bytes:
        open_part = self.open_parts.pop(choice, None)
        if open_part is None:
            return b""
        match open_part.part:
            case ToolCall() as call:
                signed = self.call_seals[choice].sign(open_part.complete_call(call))
                return self.chunk(choice, render_parts([signed]))
            case Thinking() as thinking:
                return self.end_thinking(choice, open_part.complete_thinking(thinking))
            case Text() | Refusal():
                self.sent_text.setdefault(choice, []).append(open_part.complete_text())
        return b""

    def end_thinking(self, choice: int, part: Thinking) -> bytes:
        """Render the signature in a part without text, because the text has already been sent."""
        self.call_seals[choice].sign(part)
        (rendered,) = render_parts([part])
        return self.chunk(choice, [rendered | {"text": ""}]) if "thoughtSignature" in rendered else b""


class EventFraming:
    """Frames chunks as server-sent events. It sends no comments, because Google's SDK fails on them."""

    def frame(self, chunk: bytes) -> bytes:
        return b"data: " + chunk + b"\r\n\r\n"

    def end(self) -> bytes:
        return b""


class ArrayFraming:
    """Frames chunks as elements of one JSON array."""

    def __init__(self) -> None:
        self.is_started = False

    def frame(self, chunk: bytes) -> bytes:
        lead, self.is_started = b",\r\n" if self.is_started else b"[", True
        return lead + chunk

    def end(self) -> bytes:
        return b"]" if self.is_started else b"[]"
