"""Encoder of the Responses API's stream."""

from functools import partial
from typing import Any, assert_never

from msgspec.structs import replace

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
from proxy.formats.openai_responses.content import (
    new_id,
    render_annotation,
    render_logprob,
    render_output_text,
)
from proxy.formats.openai_responses.event_writer import EventWriter
from proxy.formats.openai_responses.reasoning import render_reasoning_item, render_thinking
from proxy.formats.openai_responses.response import (
    render_call_item,
    render_content,
    render_other_items,
    render_signed_call,
    response_skeleton,
)
from proxy.formats.openai_responses.summaries import SummaryEncoder, render_summary, wants_summary
from proxy.formats.openai_responses.tools import OwnTools
from proxy.formats.openai_responses.typed_calls import TypedCallEncoder
from proxy.formats.streaming.stream_errors import STREAM_INTERRUPTED


class TextEncoder:
    """Encodes a text or a refusal.

    It sends its first event when text arrives. Nothing is sent for an empty part.
    """

    def __init__(self, writer: EventWriter, part: Text | Refusal) -> None:
        self.writer, self.empty_part = writer, part
        self.event_prefix = "output_text" if isinstance(part, Text) else "refusal"
        self.position: dict[str, Any] = {}
        self.texts: list[str] = []
        self.logprobs: list[Any] = []
        self.citations: list[Citation] = []
        if part.text:
            self.write(part.text)

    def write(self, text: str, logprobs: tuple[Any, ...] = ()) -> None:
        if not text and not logprobs:
            return
        if not self.position:
            message = self.writer.get_or_open_message()
            self.position = self.writer.item_position(message, content_index=len(message["content"]))
            self.writer.emit(
                "response.content_part.added",
                {**self.position, "part": render_content(replace(self.empty_part, text=""), ())},
            )
        self.texts.append(text)
        entries = [render_logprob(entry) for entry in logprobs]
        self.logprobs += entries
        extra_fields = {"logprobs": entries} if isinstance(self.empty_part, Text) else {}
        self.writer.emit(
            f"response.{self.event_prefix}.delta", {**self.position, "delta": text, **extra_fields}
        )

    def add_citation(self, citation: Citation) -> None:
        if self.position:
            annotation = {
                "annotation_index": len(self.citations),
                "annotation": render_annotation(citation, sum(map(len, self.texts))),
            }
            self.writer.emit("response.output_text.annotation.added", {**self.position, **annotation})
            self.citations.append(citation)

    def add_signature(self, signature: str) -> None:
        """Ignore the signature.

        Neutral texts do not have signatures. The signature of a text is a separate Thinking part.
        """

    def end(self) -> None:
        if not self.position:
            return
        complete_part = replace(self.empty_part, text="".join(self.texts))
        content = render_content(complete_part, ())
        extra_fields: dict[str, Any] = {"refusal": complete_part.text}
        if isinstance(complete_part, Text):
            content = render_output_text(complete_part.text, self.citations, self.logprobs)
            extra_fields = {"text": complete_part.text, "logprobs": self.logprobs}
        self.writer.emit(f"response.{self.event_prefix}.done", {**self.position, **extra_fields})
        self.writer.emit("response.content_part.done", {**self.position, "part": content})
        self.writer.get_or_open_message()["content"].append(content)


class ThinkingEncoder:
    """Encodes thinking as a single summary part.

    A client could join several parts differently when it sends them back, but signed text must not change.
    """

    def __init__(self, writer: EventWriter, part: Thinking) -> None:
        self.writer, self.part = writer, part
        self.item: dict[str, Any] | None = None
        self.position: dict[str, Any] = {}
        self.texts: list[str] = []
        if part.text:
            self.write(part.text)

    def open(self) -> dict[str, Any]:
        if self.item is None:
            self.item = {"id": new_id("rs"), **render_reasoning_item("", None)}
            self.writer.start_item(self.item)
        return self.item

    def write(self, text: str, _logprobs: tuple[Any, ...] = ()) -> None:
        if not text:
            return
        if not self.position:
            self.position = self.writer.item_position(self.open(), summary_index=0)
            self.writer.emit(
                "response.reasoning_summary_part.added",
                {**self.position, "part": {"type": "summary_text", "text": ""}},
            )
        self.texts.append(text)
        self.writer.emit("response.reasoning_summary_text.delta", {**self.position, "delta": text})

    def add_signature(self, signature: str) -> None:
        self.part = replace(self.part, signature=(self.part.signature or "") + signature)

    def end(self) -> None:
        text = "".join(self.texts)
        whole = render_thinking(replace(self.part, text=text))
        if whole is None:
            return
        item = self.open()
        if text:
            self.writer.emit("response.reasoning_summary_text.done", {**self.position, "text": text})
            self.writer.emit(
                "response.reasoning_summary_part.done",
                {**self.position, "part": {"type": "summary_text", "text": text}},
            )
        self.writer.finish_item(whole | {"id": item["id"]})


class ToolCallEncoder:
    """Encodes a tool call.

    The item is opened when the first piece of the arguments arrives. A signature, which arrives before that,
    must be in a separate item before the call.
    """

    def __init__(self, writer: EventWriter, part: ToolCall, own_tools: OwnTools) -> None:
        self.writer, self.call, self.own_tools = writer, replace(part, arguments=""), own_tools
        self.is_free_text = part.custom or part.name in own_tools.custom
        self.item_field, self.event_prefix = (
            ("input", "custom_tool_call_input")
            if self.is_free_text
            else ("arguments", "function_call_arguments")
        )
        self.item: dict[str, Any] | None = None
        self.texts: list[str] = []
        if part.arguments:
            self.write(part.arguments)

    def open(self) -> dict[str, Any]:
        if self.item is None:
            *signature_items, item = render_signed_call(self.call, self.own_tools)
            for signature in signature_items:
                self.writer.write_item(signature)
            self.item = {**item, "status": "in_progress", self.item_field: ""}
            self.writer.start_item(self.item)
        return self.item

    def write(self, text: str, _logprobs: tuple[Any, ...] = ()) -> None:
        """Encode arguments.

        If the provider wraps free text in a JSON object, the text is sent when it is complete, because it
        must be unwrapped first.
        """
        self.texts.append(text)
        if text and (self.call.custom or not self.is_free_text):
            self.writer.emit(
                f"response.{self.event_prefix}.delta",
                {**self.writer.item_position(self.open()), "delta": text},
            )

    def add_signature(self, signature: str) -> None:
        self.call = replace(self.call, signature=(self.call.signature or "") + signature)

    def end(self) -> None:
        item = self.open()
        complete_item = render_call_item(replace(self.call, arguments="".join(self.texts)), self.own_tools)
        value, position = complete_item[self.item_field], self.writer.item_position(item)
        if value and (not any(self.texts) or (self.is_free_text and not self.call.custom)):
            self.writer.emit(f"response.{self.event_prefix}.delta", {**position, "delta": value})
        self.writer.emit(f"response.{self.event_prefix}.done", {**position, self.item_field: value})
        self.writer.finish_item({**complete_item, "id": item["id"]})


PartEncoder = TextEncoder | ThinkingEncoder | ToolCallEncoder | TypedCallEncoder | SummaryEncoder


class StreamEncoder:
    """Encodes the first choice, because the format supports only one."""

    def __init__(self, request: Request) -> None:
        self.request, self.own_tools = request, OwnTools(request)
        self.summary = SummaryEncoder() if wants_summary(request.messages) else None
        self.writer: EventWriter | None = None
        self.part: PartEncoder | None = None
        self.finish_reason: FinishReason | None = None
        self.usage: Usage | None = None
        self.failed = False

    def encode(self, event: Event) -> bytes:
        if self.failed:
            return b""
        match event:
            case Started():
                self.ensure_started(event.model)
            case PartStarted() | PartDelta() | PartSigned() | PartCited() | PartEnded():
                if event.choice == 0:
                    self.on_part(event)
            case UsageReported():
                self.usage = event.usage
            case Finished():
                self.finish_reason = event.finish_reason if event.choice == 0 else self.finish_reason
            case Failed():
                return self.render_error_event(event.error, "")
            case _:
                assert_never(event)
        return self.writer.take_bytes() if self.writer else b""

    def finish(self) -> bytes:
        if self.failed:
            return b""
        if self.finish_reason is None:
            return self.encode(Failed(error=STREAM_INTERRUPTED))
        writer = self.ensure_started()
        self.end_part()
        for item in render_summary(self.summary.text) if self.summary else ():
            writer.write_item(item)
        writer.finish(self.finish_reason, self.usage)
        return writer.take_bytes()

    def ensure_started(self, model: str = "") -> EventWriter:
        if self.writer is None:
            self.writer = EventWriter(response_skeleton(self.request, model, None))
        return self.writer

    def on_part(self, event: PartStarted | PartDelta | PartSigned | PartCited | PartEnded) -> None:
        match event:
            case PartDelta():
                if self.part:
                    self.part.write(event.text, event.logprobs)
            case PartStarted():
                self.start_part(event.part)
            case PartSigned():
                if self.part:
                    self.part.add_signature(event.signature)
            case PartCited():
                if isinstance(self.part, TextEncoder):
                    self.part.add_citation(event.citation)
            case PartEnded():
                self.end_part()

    def start_part(self, part: Part) -> None:
        writer = self.ensure_started()
        self.end_part()
        match part:
            case Text() if self.summary is not None:
                self.summary.write(part.text)
                self.part = self.summary
            case Text() | Refusal():
                self.part = TextEncoder(writer, part)
            case Thinking():
                self.part = ThinkingEncoder(writer, part)
            case ToolCall() if self.own_tools.is_typed(part.name):
                render = partial(render_signed_call, own_tools=self.own_tools)
                self.part = TypedCallEncoder(writer, part, render)
            case ToolCall():
                self.part = ToolCallEncoder(writer, part, self.own_tools)
            case Image() | Opaque() | File() | ToolResult():
                for item in render_other_items(part):
                    writer.write_item(item)
            case _:
                assert_never(part)

    def end_part(self) -> None:
        if self.part:
            self.part.end()
        self.part = None

    def render_error_event(self, error: ApiError, request_id: str) -> bytes:
        writer = self.ensure_started()
        writer.fail(error, self.usage, request_id)
        self.failed = True
        return writer.take_bytes()
