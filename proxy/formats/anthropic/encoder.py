"""Encoder of streams for clients of the Messages API.

See platform.claude.com/docs/en/build-with-claude/streaming.
"""

from typing import Any, assert_never

from msgspec.structs import replace

from proxy.formats.anthropic.content import render_thinking, render_tool_call
from proxy.formats.anthropic.errors import render_error_event
from proxy.formats.anthropic.response import (
    render_citation,
    render_message_head,
    render_response_part,
    render_signature_block,
    render_stop_fields,
)
from proxy.formats.anthropic.usage import render_usage
from proxy.formats.anthropic.wire import FORMAT
from proxy.formats.json_body import encode
from proxy.formats.neutral import (
    ApiError,
    Citation,
    Event,
    Failed,
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
    UsageReported,
)
from proxy.formats.tool_calls import as_function_call
from proxy.formats.tools.names import vendor_tools


def render_event(type: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (type.encode(), encode({"type": type, **fields}))


class StreamEncoder:
    """Encodes neutral events as a stream of the Messages API.

    The start of a block is sent with its first content, so a part without content has no block. A tool call
    always has a block, which starts with the first arguments, or at the end of the part. Until then, a
    signature can still be sent in a separate block, which must precede the block of the call. A signature
    without thinking is kept until the next block. At the end of the stream it is left out, as in
    `render_blocks`.
    """

    def __init__(self, request: Request) -> None:
        self.model = request.model
        self.own_tools = vendor_tools(request, FORMAT)
        self.is_started = False
        self.has_failed = False
        self.part: Part | None = None
        self.custom_input = ""
        self.is_block_open = False
        self.signature_blocks: list[dict[str, Any]] = []
        self.index = 0
        self.finished: Finished | None = None
        self.usage: Usage | None = None

    def encode(self, event: Event) -> bytes:
        match event:
            case Started():
                return self.render_start_once(event.id, event.model)
            case PartDelta():
                return self.add_text(event.text) if event.choice == 0 else b""
            case PartStarted():
                return self.render_start_once() + self.start_part(event.part) if event.choice == 0 else b""
            case PartSigned():
                return self.add_signature(event.signature) if event.choice == 0 else b""
            case PartCited():
                return self.add_citation(event.citation) if event.choice == 0 else b""
            case PartEnded():
                return self.end_part() if event.choice == 0 else b""
            case UsageReported():
                self.usage = event.usage
                return b""
            case Finished():
                self.finished = self.finished or event
                return b""
            case Failed():
                return self.render_error_event(event.error, "")
            case _:
                assert_never(event)

    def finish(self) -> bytes:
        """Return the last events of the stream.

        They are not sent as soon as Finished arrives, because the usage may arrive after it.
        """
        if self.has_failed or self.finished is None:
            return b""
        delta = render_stop_fields(self.finished.finish_reason, self.finished.stop_sequence)
        final = render_event("message_delta", delta=delta, usage=render_usage(self.usage))
        return self.render_start_once() + self.end_part() + final + render_event("message_stop")

    def render_error_event(self, error: ApiError, request_id: str) -> bytes:
        self.has_failed = True
        return render_error_event(error, request_id)

    def render_start_once(self, id: str = "", model: str = "") -> bytes:
        if self.is_started:
            return b""
        self.is_started = True
        usage = {"input_tokens": 0, "output_tokens": 0}
        fields: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        return render_event(
            "message_start", message={**render_message_head(id, model or self.model), **fields}
        )

    def start_part(self, part: Part) -> bytes:
        end_events = self.end_part()
        match part:
            case Text() | Refusal() | Thinking():
                self.part = replace(part, text="")
                return end_events + self.add_text(part.text)
            case ToolCall():
                self.part = replace(part, arguments="", signature=None)
                signed = self.add_signature(part.signature) if part.signature else b""
                return end_events + signed + self.add_text(part.arguments)
            case Image() | File() | Opaque() | ToolResult():
                blocks = render_response_part(part, self.own_tools)
                return end_events + b"".join(map(self.render_complete_block, blocks))
            case _:
                assert_never(part)

    def start_block(self) -> bytes:
        match self.part:
            case Thinking():
                block = {"type": "thinking", "thinking": "", "signature": ""}
            case ToolCall():
                block = render_tool_call(self.part, self.own_tools.get(self.part.name))
            case _:
                block = {"type": "text", "text": ""}
        before = self.render_signature_blocks()
        self.is_block_open = True
        return before + render_event("content_block_start", index=self.index, content_block=block)

    def add_text(self, text: str) -> bytes:
        if not text or self.part is None:
            return b""
        before = b"" if self.is_block_open else self.start_block()
        match self.part:
            case Thinking():
                delta = {"type": "thinking_delta", "thinking": text}
            case ToolCall(custom=True):
                self.custom_input += text
                return before
            case ToolCall():
                delta = {"type": "input_json_delta", "partial_json": text}
            case _:
                delta = {"type": "text_delta", "text": text}
        return before + render_event("content_block_delta", index=self.index, delta=delta)

    def add_signature(self, signature: str) -> bytes:
        """Encode the signature of a call, or store the signature of thinking until the thinking ends.

        The signature of a call that has already started is dropped, because it would have to precede the
        call.
        """
        match self.part:
            case Thinking():
                self.part = replace(self.part, signature=signature)
                return b""
            case ToolCall() if not self.is_block_open:
                return self.render_complete_block(render_signature_block(signature, self.part))
            case _:
                return b""

    def add_citation(self, citation: Citation) -> bytes:
        if not self.is_block_open:
            return b""
        delta = {"type": "citations_delta", "citation": render_citation(citation)}
        return render_event("content_block_delta", index=self.index, delta=delta)

    def end_part(self) -> bytes:
        part = self.part
        events = self.start_block() if isinstance(part, ToolCall) and not self.is_block_open else b""
        if isinstance(part, ToolCall) and part.custom:
            events += self.render_custom_input(part)
        if isinstance(part, Thinking):
            events += self.end_thinking(part)
        if self.is_block_open:
            events += self.stop_block()
        self.part = None
        if isinstance(part, Thinking) and part.redacted is not None:
            events += self.render_complete_block(render_thinking(part))
        return events

    def end_thinking(self, part: Thinking) -> bytes:
        """Render the signature in one delta, as Anthropic does. The block's start has an empty signature."""
        block = render_thinking(replace(part, redacted=None))
        if self.is_block_open:
            delta = {"type": "signature_delta", "signature": block["signature"]}
            return render_event("content_block_delta", index=self.index, delta=delta)
        self.signature_blocks += [block] if part.signature else []
        return b""

    def render_signature_blocks(self) -> bytes:
        blocks, self.signature_blocks = self.signature_blocks, []
        return b"".join(map(self.render_complete_block, blocks))

    def render_custom_input(self, part: ToolCall) -> bytes:
        """Render the free text of a custom tool call as the input object that this format requires."""
        call, self.custom_input = as_function_call(replace(part, arguments=self.custom_input)), ""
        delta = {"type": "input_json_delta", "partial_json": call.arguments}
        return render_event("content_block_delta", index=self.index, delta=delta)

    def stop_block(self) -> bytes:
        self.is_block_open = False
        self.index += 1
        return render_event("content_block_stop", index=self.index - 1)

    def render_complete_block(self, block: dict[str, Any]) -> bytes:
        """Render a complete block.

        The text, or the signature of thinking, is sent as a delta, because clients read it only from deltas.
        """
        before, start, delta = self.render_signature_blocks(), block, None
        if block["type"] == "text":
            start, delta = block | {"text": ""}, {"type": "text_delta", "text": block["text"]}
        elif block["type"] == "thinking":
            start, delta = (
                block | {"signature": ""},
                {"type": "signature_delta", "signature": block["signature"]},
            )
        events = before + render_event("content_block_start", index=self.index, content_block=start)
        if delta:
            events += render_event("content_block_delta", index=self.index, delta=delta)
        return events + self.stop_block()
