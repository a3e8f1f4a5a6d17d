"""What a client of the Messages API gets as a stream (platform.claude.com/docs/en/build-with-claude/streaming)."""

from typing import Any, assert_never

from msgspec.structs import replace

from proxy.formats.anthropic.content import render_call, render_thinking, sealed
from proxy.formats.anthropic.response import answer_blocks, error_event, message_head, render_citation, signature_block, stop_fields
from proxy.formats.anthropic.usage import render_usage
from proxy.formats.body import encode
from proxy.formats.custom_tools import call_as_function
from proxy.formats.neutral import (
    Citation,
    Event,
    Failed,
    Failure,
    File,
    Finished,
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


def event_of(type: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (type.encode(), encode({"type": type, **fields}))


class StreamEncoder:
    """A block begins with the first thing in it: blocks of nothing are none, and a call waits for its signature, which goes before."""

    def __init__(self, request: Request) -> None:
        self.model = request.model
        self.begun = False
        self.failed = False
        self.part: Part | None = None
        self.free_text = ""
        self.open = False
        self.index = 0
        self.finished: Finished | None = None
        self.usage: Usage | None = None

    def encode(self, event: Event) -> bytes:
        match event:
            case Started():
                return self.start(event.id, event.model)
            case PartDelta():
                return self.delta(event.text) if event.choice == 0 else b""
            case PartStarted():
                return self.start() + self.part_start(event.part) if event.choice == 0 else b""
            case PartSigned():
                return self.sign(event.signature) if event.choice == 0 else b""
            case PartCited():
                return self.cite(event.citation) if event.choice == 0 else b""
            case PartEnded():
                return self.part_end() if event.choice == 0 else b""
            case UsageSeen():
                self.usage = event.usage
                return b""
            case Finished():
                self.finished = self.finished or event
                return b""
            case Failed():
                return self.error_event(event.failure, "")
            case _:
                assert_never(event)

    def finish(self) -> bytes:
        """What tells the finish waits for the end, since usage may come after it."""
        if self.failed or self.finished is None:
            return b""
        delta = stop_fields(self.finished.finish, self.finished.stop_sequence)
        told = event_of("message_delta", delta=delta, usage=render_usage(self.usage))
        return self.start() + self.part_end() + told + event_of("message_stop")

    def error_event(self, failure: Failure, request_id: str) -> bytes:
        self.failed = True
        return error_event(failure, request_id)

    def start(self, id: str = "", model: str = "") -> bytes:
        if self.begun:
            return b""
        self.begun = True
        usage = {"input_tokens": 0, "output_tokens": 0}
        fields: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        return event_of("message_start", message={**message_head(id, model or self.model), **fields})

    def part_start(self, part: Part) -> bytes:
        before = self.part_end()
        match part:
            case Text() | Refusal():
                self.part = replace(part, text="")
                return before + self.delta(part.text)
            case Thinking():
                self.part = replace(part, text="", signature=None)
                return before + self.delta(part.text) + (self.sign(part.signature) if part.signature else b"")
            case ToolCall():
                self.part = replace(part, arguments="", signature=None)
                signed = self.sign(part.signature) if part.signature else b""
                return before + signed + self.delta(part.arguments)
            case Image() | File() | Opaque() | ToolResult():
                return before + b"".join(map(self.whole, answer_blocks(part)))
            case _:
                assert_never(part)

    def begin(self) -> bytes:
        match self.part:
            case Thinking():
                block = render_thinking(replace(self.part, redacted=None))
            case ToolCall():
                block = render_call(self.part)
            case _:
                block = {"type": "text", "text": ""}
        self.open = True
        return event_of("content_block_start", index=self.index, content_block=block)

    def delta(self, text: str) -> bytes:
        if not text or self.part is None:
            return b""
        before = b"" if self.open else self.begin()
        match self.part:
            case Thinking():
                delta = {"type": "thinking_delta", "thinking": text}
            case ToolCall(custom=True):
                self.free_text += text
                return before
            case ToolCall():
                delta = {"type": "input_json_delta", "partial_json": text}
            case _:
                delta = {"type": "text_delta", "text": text}
        return before + event_of("content_block_delta", index=self.index, delta=delta)

    def sign(self, signature: str) -> bytes:
        """A call that has begun cannot be signed any more: the place for its signature was before it."""
        match self.part:
            case Thinking():
                before = b"" if self.open else self.begin()
                delta = {"type": "signature_delta", "signature": sealed(signature, self.part.origin)}
                return before + event_of("content_block_delta", index=self.index, delta=delta)
            case ToolCall() if not self.open:
                return self.whole(signature_block(signature, self.part))
            case _:
                return b""

    def cite(self, citation: Citation) -> bytes:
        if not self.open:
            return b""
        delta = {"type": "citations_delta", "citation": render_citation(citation)}
        return event_of("content_block_delta", index=self.index, delta=delta)

    def part_end(self) -> bytes:
        part = self.part
        ended = self.begin() if isinstance(part, ToolCall) and not self.open else b""
        if isinstance(part, ToolCall) and part.custom:
            ended += self.free_input(part)
        if self.open:
            ended += self.stop()
        self.part = None
        if isinstance(part, Thinking) and part.redacted is not None:
            ended += self.whole(render_thinking(part))
        return ended

    def free_input(self, part: ToolCall) -> bytes:
        """What a tool that takes free text is called with, as the input that this format has for it."""
        whole, self.free_text = call_as_function(replace(part, arguments=self.free_text)), ""
        delta = {"type": "input_json_delta", "partial_json": whole.arguments}
        return event_of("content_block_delta", index=self.index, delta=delta)

    def stop(self) -> bytes:
        self.open = False
        self.index += 1
        return event_of("content_block_stop", index=self.index - 1)

    def whole(self, block: dict[str, Any]) -> bytes:
        """A block that comes at once; text and signatures stand in deltas all the same, where clients look for them."""
        start, delta = block, None
        if block["type"] == "text":
            start, delta = block | {"text": ""}, {"type": "text_delta", "text": block["text"]}
        elif block["type"] == "thinking":
            start, delta = block | {"signature": ""}, {"type": "signature_delta", "signature": block["signature"]}
        begun = event_of("content_block_start", index=self.index, content_block=start)
        if delta:
            begun += event_of("content_block_delta", index=self.index, delta=delta)
        return begun + self.stop()
