"""Relaying OpenAI Chat Completions (platform.openai.com/docs/api-reference/chat) to a server of the same format.

A request goes as it came but for the fields that the gateway must set, so only what it must know is decoded here.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from proxy.formats import bounds
from proxy.formats.body import decode, encode, replace_fields
from proxy.formats.neutral import Call, Failure, Request, Usage
from proxy.formats.openai_chat.stream import StreamEncoder
from proxy.formats.openai_chat.usage import MAX_TOKENS, WireUsage, neutral_usage
from proxy.formats.sse import EventSplitter, data_of
from proxy.formats.tokens import tokens_in_size

MAX_CHOICES = 128
END_OF_EVENT = b"\n\n"

TokenLimit = Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
ModelName = Annotated[str, Meta(min_length=1, max_length=200)]


class RelayedRequest(msgspec.Struct):
    model: ModelName
    messages: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    tools: Any = None
    functions: Any = None
    response_format: Any = None


class Answer(msgspec.Struct):
    choices: list[dict[str, Any]] | None = None
    usage: WireUsage | None = None


decode_request = msgspec.json.Decoder(RelayedRequest).decode
decode_answer = msgspec.json.Decoder(Answer).decode


class ChatCall:
    """One client request in this format, and how to relay it."""

    stream_type = "text/event-stream"

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Raises BadRequest."""
        self.body = body
        self.request = request = decode(decode_request, body)
        limit, choices = request.max_completion_tokens or request.max_tokens, request.n or 1
        self.call = Call(
            model=request.model,
            input_bound=input_bound(request),
            output_limit=limit and limit * choices,
            choices=choices,
            stream=bool(request.stream),
        )

    def path(self, model: str) -> str:
        return request_path(model, self.call.stream)

    @property
    def wants_usage(self) -> bool:
        return bool(self.request.stream_options and self.request.stream_options.get("include_usage"))

    def upstream_body(self, model: str, output_limit: int | None, limit_field: str) -> bytes:
        """What the provider gets: its own name for the model, usage at the end of a stream, and a limit if one is given."""
        fields: dict[str, Any] = {}
        if model != self.request.model:
            fields["model"] = model
        if self.request.stream and not self.wants_usage:
            fields["stream_options"] = {**(self.request.stream_options or {}), "include_usage": True}
        if output_limit is not None:
            fields[limit_field] = output_limit
        return replace_fields(self.body, fields) if fields else self.body

    def meter(self) -> "StreamMeter":
        return StreamMeter(withhold_usage=not self.wants_usage)

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        return measure(body)

    def encoder(self, request: Request) -> StreamEncoder:
        return StreamEncoder(request)


def request_path(_model: str, _stream: bool) -> str:
    return "/chat/completions"


def input_bound(request: RelayedRequest) -> int:
    """Tokens that the input cannot pass at any OpenAI-compatible model."""
    image = bounds.image_tokens(request.model)
    extras = [extra for extra in (request.tools, request.functions, request.response_format) if extra is not None]
    messages = sum(bounds.TOKENS_PER_MESSAGE + bounds.text_tokens(message, image) for message in request.messages)
    return bounds.TOKENS_PER_REPLY + messages + sum(len(encode(extra)) for extra in extras)


def measure(body: bytes) -> tuple[Usage | None, int]:
    """The usage that a complete answer states, if it states any, and our own count of its output tokens."""
    try:
        answer = decode_answer(body)
    except msgspec.DecodeError:
        return None, 0
    usage = neutral_usage(answer.usage) if answer.usage else None
    return usage, 0 if usage else sum(tokens_in(choice.get("message")) for choice in answer.choices or ())


class StreamMeter:
    """Reads a stream as it passes. `usage` is what the provider stated so far, `output_seen` our own count of tokens.

    With `withhold_usage` the chunk that carries nothing but usage stays here: the client did not ask for it, we did.
    """

    def __init__(self, *, withhold_usage: bool) -> None:
        self.splitter = EventSplitter()
        self.withhold_usage = withhold_usage
        self.usage: Usage | None = None
        self.output_seen = 0
        self.failure: Failure | None = None

    def feed(self, data: bytes) -> bytes:
        """Takes bytes from the provider, gives those for the client."""
        events = self.splitter.feed(data)
        if not self.withhold_usage:
            for event in events:
                self.read(event)
            return data
        return b"".join(event for event in events if self.read(event))

    def finish(self) -> bytes:
        """What is still to be sent when the provider has closed the stream: a last event that no blank line ended gets one,
        since clients drop it otherwise."""
        rest = self.splitter.finish()
        if not rest or not self.read(rest):
            return b""
        return rest + END_OF_EVENT if self.withhold_usage else END_OF_EVENT

    def read(self, event: bytes) -> bool:
        """Counts one event; False where the client should not see it."""
        data = data_of(event)
        if not data.startswith(b"{"):
            return True
        try:
            chunk = decode_answer(data)
        except msgspec.DecodeError:
            return True
        if chunk.usage is not None:
            self.usage = neutral_usage(chunk.usage) or self.usage
            if not chunk.choices:
                return chunk.usage.reasoning_tokens is not None
        for choice in chunk.choices or ():
            self.output_seen += tokens_in(choice.get("delta"))
        return True


def tokens_in(delta: Any) -> int:
    """Tokens in one delta by our own count."""
    if not isinstance(delta, dict):
        return 0
    size = sum(bounds.text_tokens(value, 0) for name, value in delta.items() if value and name not in ("role", "id"))
    return tokens_in_size(size)
