"""Relaying between a client and a provider that both speak this format.

A request is relayed as it came but for the fields that the gateway must set, so only what it must know is decoded here.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from proxy.formats import bounds, neutral
from proxy.formats.body import decode, encode, replace_fields
from proxy.formats.neutral import Call, Failure, Usage
from proxy.formats.openai_responses.response import WireUsage, neutral_usage
from proxy.formats.openai_responses.stream import StreamEncoder
from proxy.formats.sse import EventSplitter, data_of
from proxy.formats.tokens import tokens_in_text

PATH = "/responses"
MAX_TOKENS = 2**31 - 1
STORED_TOKENS = 1_050_000
"""What a conversation or prompt that the provider keeps may hold at most: the longest context window that it sells."""
END_OF_EVENT = b"\n\n"

TokenLimit = Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
ModelName = Annotated[str, Meta(min_length=1, max_length=200)]


class Request(msgspec.Struct):
    model: ModelName
    input: str | list[dict[str, Any] | str] | None = None
    instructions: str | list[dict[str, Any]] | None = None
    stream: bool | None = None
    max_output_tokens: TokenLimit | None = None
    tools: Any = None
    text: Any = None
    previous_response_id: Any = None
    conversation: Any = None
    prompt: Any = None


class Answer(msgspec.Struct):
    output: list[dict[str, Any]] | None = None
    usage: WireUsage | None = None


class Closing(msgspec.Struct):
    response: Answer | None = None


class Delta(msgspec.Struct):
    delta: str


decode_request = msgspec.json.Decoder(Request).decode
decode_answer = msgspec.json.Decoder(Answer).decode
decode_closing = msgspec.json.Decoder(Closing).decode
decode_delta = msgspec.json.Decoder(Delta).decode


def request_path(model: str, stream: bool) -> str:
    return PATH


class ResponsesCall:
    """One client request in this format, and how to relay it."""

    stream_type = "text/event-stream"

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Raises BadRequest."""
        self.body = body
        self.request = request = decode(decode_request, body)
        self.call = Call(
            model=request.model,
            input_bound=input_bound(request),
            output_limit=request.max_output_tokens,
            stream=bool(request.stream),
        )

    def path(self, model: str) -> str:
        return PATH

    def upstream_body(self, model: str, output_limit: int | None, limit_field: str) -> bytes:
        """What the provider gets: its own name for the model, and a limit if one is given, which has one name everywhere here."""
        fields: dict[str, Any] = {}
        if model != self.request.model:
            fields["model"] = model
        if output_limit is not None:
            fields["max_output_tokens"] = output_limit
        return replace_fields(self.body, fields) if fields else self.body

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        """The usage that a complete answer states, if it states any, and our own count of its output tokens."""
        try:
            return measure(decode_answer(body))
        except msgspec.DecodeError:
            return None, 0

    def meter(self) -> "StreamMeter":
        return StreamMeter()

    def encoder(self, request: neutral.Request) -> StreamEncoder:
        return StreamEncoder(request)


def input_bound(request: Request) -> int:
    """Tokens that the input cannot pass at any model."""
    image = bounds.image_tokens(request.model)
    items = [request.input] if isinstance(request.input, str) else request.input or []
    messages = sum(bounds.TOKENS_PER_MESSAGE + bounds.text_tokens(item, image) for item in items)
    if request.instructions:
        messages += bounds.TOKENS_PER_MESSAGE + bounds.text_tokens(request.instructions, image)
    if request.previous_response_id or request.conversation or request.prompt:
        messages += STORED_TOKENS
    return bounds.TOKENS_PER_REPLY + messages + sum(len(encode(extra)) for extra in (request.tools, request.text) if extra is not None)


def measure(answer: Answer) -> tuple[Usage | None, int]:
    usage = neutral_usage(answer.usage) if answer.usage else None
    return usage, 0 if usage else sum(tokens_in(item) for item in answer.output or ())


def tokens_in(value: Any) -> int:
    """Our own count of what the model wrote in an item: its texts, arguments and thoughts, without ids and the like."""
    match value:
        case list():
            return sum(map(tokens_in, value))
        case dict():
            written = ("content", "summary", "text", "refusal", "arguments", "input", "code")
            return sum(tokens_in(value[name]) for name in written if name in value)
        case str():
            return tokens_in_text(value)
        case _:
            return 0


class StreamMeter:
    """Reads a stream as it passes. `usage` is what the provider stated, `output_seen` our own count of tokens."""

    def __init__(self) -> None:
        self.splitter = EventSplitter()
        self.usage: Usage | None = None
        self.output_seen = 0
        self.failure: Failure | None = None

    def feed(self, data: bytes) -> bytes:
        for event in self.splitter.feed(data):
            self.read(event)
        return data

    def finish(self) -> bytes:
        """The blank line that a server left out after its last event, since clients drop that event otherwise."""
        rest = self.splitter.finish()
        self.read(rest)
        return END_OF_EVENT if rest else b""

    def read(self, event: bytes) -> None:
        """Most events carry neither text nor usage, and are told by a search: a quote in a text has a backslash before it."""
        try:
            if b'.delta"' in event:
                self.output_seen += tokens_in_text(decode_delta(data_of(event)).delta)
            elif b'"usage":' in event or b'"usage" :' in event:
                self.close(decode_closing(data_of(event)).response)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return

    def close(self, answer: Answer | None) -> None:
        usage, counted = measure(answer) if answer else (None, 0)
        self.usage = usage or self.usage
        self.output_seen = self.output_seen or counted
