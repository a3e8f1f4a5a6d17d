"""Encoder of streams of chat completions."""

import time
from collections import Counter
from typing import Any, assert_never

from msgspec.structs import replace

from proxy.formats.json_body import encode
from proxy.formats.neutral import (
    ApiError,
    Event,
    Failed,
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
    Usage,
    UsageReported,
)
from proxy.formats.openai_chat.errors import render_error_event
from proxy.formats.openai_chat.reasoning import (
    is_signed,
    render_call_signature,
    render_reasoning_detail,
)
from proxy.formats.openai_chat.response import (
    AUDIO_KIND,
    custom_tool_names,
    render_annotation,
    render_finish_reason,
    render_id,
    render_image_part,
)
from proxy.formats.openai_chat.usage import render_usage
from proxy.formats.openai_chat.wire import DONE
from proxy.formats.tool_calls import unwrap_free_text


class StreamEncoder:
    """Encodes the events of all choices as chunks with the same id, time and model."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.custom_tool_names = custom_tool_names(request)
        self.head = b""
        self.tail = b',"usage":null}\n\n' if request.wants_usage else b"}\n\n"
        self.usage: Usage | None = None
        self.failed = False
        self.open_parts: dict[int, PartEncoder] = {}
        self.tool_call_counts: dict[int, int] = {}
        self.thinking_counts: Counter[int] = Counter()
        self.text_lengths: dict[int, int] = {}
        self.finished: set[int] = set()

    def encode(self, event: Event) -> bytes:
        match event:
            case PartDelta():
                return self.delta(event)
            case PartStarted():
                return self.start_part(event.choice, event.part)
            case PartSigned():
                return self.add_signature(event)
            case PartCited():
                return self.add_citation(event)
            case PartEnded():
                return self.end_part(event)
            case Started():
                return self.start(event)
            case Finished():
                return self.finish_choice(event)
            case UsageReported():
                self.usage = event.usage
                return b""
            case Failed():
                return self.render_error_event(event.error, "")
            case _:
                assert_never(event)

    def finish(self) -> bytes:
        """Return the chunk with the usage, if the client requested it, and the end marker.

        After a failure, neither of them is sent.
        """
        if self.failed or not self.head:
            return b""
        usage = b""
        if self.request.wants_usage and self.usage is not None:
            usage = self.head + b'],"usage":' + encode(render_usage(self.usage)) + b"}\n\n"
        return usage + b"data: " + DONE + b"\n\n"

    def render_error_event(self, error: ApiError, request_id: str) -> bytes:
        self.failed = True
        return render_error_event(error, request_id)

    def start(self, event: Started) -> bytes:
        """Return the first chunk of the first choice. The first chunk of each choice contains the role."""
        if self.head:
            return b""
        head = {"id": render_id(event.id), "object": "chat.completion.chunk", "created": int(time.time())}
        head |= {"model": event.model or self.request.model, "system_fingerprint": None}
        self.head = b"data: " + encode(head)[:-1] + b',"choices":['
        return self.role_chunk(0)

    def role_chunk(self, choice: int) -> bytes:
        self.tool_call_counts[choice] = 0
        return self.chunk(choice, {"role": "assistant", "content": "", "refusal": None})

    def chunk(
        self,
        choice: int,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        logprobs: tuple[Any, ...] = (),
    ) -> bytes:
        wire = {
            "index": choice,
            "delta": delta,
            "logprobs": {"content": list(logprobs), "refusal": None} if logprobs else None,
            "finish_reason": finish_reason,
        }
        return self.head + encode(wire) + b"]" + self.tail

    def start_part(self, choice: int, part: Part) -> bytes:
        role = b"" if choice in self.tool_call_counts else self.role_chunk(choice)
        if choice in self.finished:
            return b""
        self.open_parts[choice] = encoder = self.part_encoder(choice, part)
        first = encoder.first()
        return role + self.chunk(choice, first) if first else role

    def part_encoder(self, choice: int, part: Part) -> "PartEncoder":
        match part:
            case ToolCall():
                index = self.tool_call_counts[choice]
                self.tool_call_counts[choice] += 1
                return ToolCallEncoder(part, index, custom=part.name in self.custom_tool_names)
            case Thinking():
                self.thinking_counts[choice] += 1
                return ThinkingEncoder(part, self.thinking_counts[choice] - 1)
            case _:
                return PartEncoder(part)

    def delta(self, event: PartDelta) -> bytes:
        part = self.open_parts.get(event.choice)
        delta = part.delta(event.text) if part and event.choice not in self.finished else None
        return self.chunk(event.choice, delta, logprobs=event.logprobs) if delta else b""

    def add_signature(self, event: PartSigned) -> bytes:
        part = self.open_parts.get(event.choice)
        delta = part.signature_delta(event.signature) if part else None
        return self.chunk(event.choice, delta) if delta else b""

    def add_citation(self, event: PartCited) -> bytes:
        part = self.open_parts.get(event.choice)
        if part is None:
            return b""
        annotation = render_annotation(event.citation, self.text_lengths.get(event.choice, 0), part.length)
        return self.chunk(event.choice, {"annotations": [annotation]})

    def end_part(self, event: PartEnded) -> bytes:
        part = self.open_parts.pop(event.choice, None)
        if part and part.length:
            self.text_lengths[event.choice] = self.text_lengths.get(event.choice, 0) + part.length
        delta = part.final() if part else None
        return self.chunk(event.choice, delta) if delta else b""

    def finish_choice(self, event: Finished) -> bytes:
        if event.choice in self.finished:
            return b""
        role = b"" if event.choice in self.tool_call_counts else self.role_chunk(event.choice)
        self.finished.add(event.choice)
        return role + self.chunk(event.choice, {}, render_finish_reason(event.finish_reason))


class PartEncoder:
    """Encodes the open part of a choice as deltas.

    `length` is the number of characters of its text so far.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        self.length = 0

    def first(self) -> dict[str, Any] | None:
        match self.part:
            case Text() | Refusal():
                return self.delta(self.part.text)
            case Image():
                return {"images": [render_image_part(self.part)]}
            case Opaque(origin="openai_chat", kind=what, value=value) if what == AUDIO_KIND:
                return {"audio": value}
            case _:
                return None  # Other parts, such as opaque parts of server tools, are not sent to this client.

    def delta(self, text: str) -> dict[str, Any] | None:
        match self.part:
            case Text() if text:
                self.length += len(text)
                return {"content": text}
            case Refusal() if text:
                return {"refusal": text}
            case _:
                return None

    def signature_delta(self, signature: str) -> dict[str, Any] | None:
        return None  # Neutral texts have no signature.

    def final(self) -> dict[str, Any] | None:
        return None


class ThinkingEncoder(PartEncoder):
    """Encodes thinking: its text as it arrives, and at the end its entry of `reasoning_details`."""

    def __init__(self, part: Thinking, index: int) -> None:
        super().__init__(part)
        self.thinking, self.index = part, index
        self.texts: list[str] = []

    def first(self) -> dict[str, Any] | None:
        return self.delta(self.thinking.text)

    def delta(self, text: str) -> dict[str, Any] | None:
        self.texts.append(text)
        return {"reasoning_content": text} if text else None

    def signature_delta(self, signature: str) -> dict[str, Any] | None:
        self.thinking = replace(self.thinking, signature=signature)
        return None

    def final(self) -> dict[str, Any] | None:
        whole = replace(self.thinking, text="".join(self.texts))
        is_complete = whole.text or whole.signature or whole.redacted
        if not is_complete or not is_signed(whole):
            return None
        return {"reasoning_details": [render_reasoning_detail(whole, self.index)]}


class ToolCallEncoder(PartEncoder):
    """Encodes a tool call. `index` is its number among the calls of the choice.

    `custom` is true if the client declared the tool as custom. If the client's tool is custom,
    but the provider called a function, the arguments become free text. If only the provider's call is custom,
    its free text becomes JSON arguments.
    """

    def __init__(self, call: ToolCall, index: int, *, custom: bool) -> None:
        super().__init__(call)
        self.call, self.index, self.custom = call, index, custom
        self.unwrap, self.wrap = custom and not call.custom, call.custom and not custom
        self.text = ""

    def first(self) -> dict[str, Any] | None:
        kind, field = ("custom", "input") if self.custom else ("function", "arguments")
        self.text = self.call.arguments
        known = '{"input":"' + escape_json(self.text) if self.wrap else "" if self.unwrap else self.text
        return self.fragment({"id": self.call.id, "type": kind, kind: {"name": self.call.name, field: known}})

    def delta(self, text: str) -> dict[str, Any] | None:
        self.text += text
        if self.unwrap or not text:
            return None
        return self.arguments_delta(escape_json(text) if self.wrap else text)

    def arguments_delta(self, text: str) -> dict[str, Any]:
        return self.fragment(
            {"custom": {"input": text}} if self.custom else {"function": {"arguments": text}}
        )

    def fragment(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {"tool_calls": [{"index": self.index, **fields}]}

    def signature_delta(self, signature: str) -> dict[str, Any] | None:
        """Return a fragment with the signature. OpenAI's SDK requires a function in every fragment."""
        nothing = {"custom": {"input": ""}} if self.custom else {"function": {"arguments": ""}}
        return self.fragment({**nothing, "extra_content": render_call_signature(self.call.origin, signature)})

    def final(self) -> dict[str, Any] | None:
        """Return the last fragment.

        Missing arguments become an empty object, because clients parse arguments as JSON.
        """
        if self.wrap:
            return self.arguments_delta('"}')
        if self.unwrap:
            return self.arguments_delta(unwrap_free_text(self.text, any_key=True))
        return None if self.text or self.custom else self.arguments_delta("{}")


def escape_json(text: str) -> str:
    """Escape a piece of text for the inside of a JSON string."""
    return encode(text).decode()[1:-1]
