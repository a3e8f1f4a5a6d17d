"""Anthropic Messages (platform.claude.com/docs/en/api/messages).

A request is relayed as it came but for the fields that the gateway must set, so only what it must know is decoded here.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from proxy.formats import bounds
from proxy.formats.anthropic.encoder import StreamEncoder
from proxy.formats.anthropic.request import PATH
from proxy.formats.anthropic.usage import WireUsage, merged, neutral_usage
from proxy.formats.body import decode, encode, read_safely, replace_fields
from proxy.formats.neutral import Call, Failure, Usage
from proxy.formats.neutral import Request as NeutralRequest
from proxy.formats.sse import EventSplitter, data_of
from proxy.formats.tokens import tokens_in_text

MAX_TOKENS = 2**31 - 1
TOKENS_PER_ESTIMATE = 4
"""Bytes of text in a token, for an estimate that is no bound."""
TOOL_PROMPT_TOKENS = 600
SERVER_TOOL_TOKENS = 3_000
"""What the API adds to the prompt where there are tools: up to 530 tokens, and for each tool with a schema of its own up to about
2,500 (docs, "Tool use", "Pricing")."""
DOCUMENT_TOKENS = 300_000
"""A linked or stored document: 100 pages at 3,000 tokens each (docs, "PDF support")."""
END_OF_EVENT = b"\n\n"

TokenLimit = Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
ModelName = Annotated[str, Meta(min_length=1, max_length=200)]


class Request(msgspec.Struct):
    model: ModelName
    messages: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    max_tokens: TokenLimit | None = None
    stream: bool | None = None
    system: Any = None
    tools: Any = None
    output_config: Any = None


class Delta(msgspec.Struct):
    text: str = ""
    thinking: str = ""
    partial_json: str = ""


class StartedMessage(msgspec.Struct):
    usage: WireUsage | None = None


class Event(msgspec.Struct):
    type: str = ""
    delta: Delta | None = None
    message: StartedMessage | None = None
    usage: WireUsage | None = None


class Answer(msgspec.Struct):
    content: list[dict[str, Any]] | None = None
    usage: WireUsage | None = None


decode_request = msgspec.json.Decoder(Request).decode
decode_event = msgspec.json.Decoder(Event).decode
decode_answer = msgspec.json.Decoder(Answer).decode


class AnthropicCall:
    """One client request in this format, and how to relay it."""

    stream_type = "text/event-stream"

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Raises BadRequest."""
        self.body = body
        self.request = request = decode(decode_request, body)
        bound = read_safely(lambda _: input_bound(request), body)
        self.call = Call(model=request.model, input_bound=bound, output_limit=request.max_tokens, stream=bool(request.stream))

    def path(self, model: str) -> str:
        return PATH

    def upstream_body(self, model: str, output_limit: int | None, _limit_field: str) -> bytes:
        """What the provider gets: its own name for the model, and a limit if one is given."""
        fields: dict[str, Any] = {}
        if model != self.request.model:
            fields["model"] = model
        if output_limit is not None:
            fields["max_tokens"] = output_limit
        return replace_fields(self.body, fields) if fields else self.body

    def meter(self) -> "StreamMeter":
        return StreamMeter()

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        return measure(body)

    def encoder(self, request: NeutralRequest) -> StreamEncoder:
        return StreamEncoder(request)


class CountTokensCall(AnthropicCall):
    """How many tokens a prompt has. It generates nothing, and costs nothing."""

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Raises BadRequest."""
        super().__init__(body)
        self.call = Call(model=self.call.model, input_bound=self.call.input_bound, output_limit=0)

    def path(self, model: str) -> str:
        return f"{PATH}/count_tokens"

    def upstream_body(self, model: str, _output_limit: int | None, limit_field: str) -> bytes:
        return super().upstream_body(model, None, limit_field)

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        return None, 0

    def estimate(self) -> bytes:
        """The answer for providers that cannot count."""
        return encode({"input_tokens": -(-self.call.input_bound // TOKENS_PER_ESTIMATE)})


def input_bound(request: Request) -> int:
    """Tokens that the input cannot pass, but for what tools of the provider itself fetch."""
    image = bounds.image_tokens(request.model)
    messages = sum(bounds.TOKENS_PER_MESSAGE + prompt_tokens(message, image) for message in request.messages)
    tools = request.tools if isinstance(request.tools, list) else []
    own = sum(isinstance(tool, dict) and tool.get("type") not in (None, "custom") for tool in tools)
    extras = [extra for extra in (request.tools, request.output_config) if extra is not None]
    added = TOOL_PROMPT_TOKENS * bool(tools) + SERVER_TOOL_TOKENS * own + sum(len(encode(extra)) for extra in extras)
    return bounds.TOKENS_PER_REPLY + messages + prompt_tokens(request.system, image) + added


def prompt_tokens(value: Any, image: int) -> int:
    """The bound for a message or a block in it: pictures and linked documents count by themselves, the rest by its text."""
    match value:
        case {"type": "image"}:
            return image
        case {"type": "document", "source": {"type": "url" | "file"}}:
            return DOCUMENT_TOKENS
        case dict():
            return sum(prompt_tokens(item, image) for item in value.values())
        case list():
            return sum(prompt_tokens(item, image) for item in value)
        case None:
            return 0
        case _:
            return bounds.text_tokens(value, image)


def measure(body: bytes) -> tuple[Usage | None, int]:
    """The usage that a complete answer states, if it states any, and our own count of its output tokens."""
    try:
        answer = decode_answer(body)
    except msgspec.DecodeError:
        return None, 0
    usage = neutral_usage(answer.usage) if answer.usage else None
    return usage, 0 if usage else sum(tokens_in_text(text_of(block)) for block in answer.content or ())


def text_of(block: dict[str, Any]) -> str:
    given = [block.get(name) for name in ("text", "thinking")]
    inputs = encode(block["input"]).decode() if block.get("input") else ""
    return "".join(text for text in given if isinstance(text, str)) + inputs


class StreamMeter:
    """Reads a stream as it passes. `output_seen` is our own count of tokens.

    The usage in the first event states the input, but not what will be generated: until the last one has come, the output is
    what was seen.
    """

    def __init__(self) -> None:
        self.splitter = EventSplitter()
        self.stated: WireUsage | None = None
        self.final = False
        self.output_seen = 0
        self.failure: Failure | None = None

    @property
    def usage(self) -> Usage | None:
        usage = neutral_usage(self.stated) if self.stated else None
        if usage is None or self.final:
            return usage
        return msgspec.structs.replace(usage, output=max(usage.output, self.output_seen))

    def feed(self, data: bytes) -> bytes:
        """Takes bytes from the provider, gives those for the client."""
        for event in self.splitter.feed(data):
            self.read(event)
        return data

    def finish(self) -> bytes:
        """A last event that no blank line ended gets one, since clients drop it otherwise."""
        rest = self.splitter.finish()
        if not rest:
            return b""
        self.read(rest)
        return END_OF_EVENT

    def read(self, event: bytes) -> None:
        """Most events are pieces of text; those without text or usage are not decoded."""
        if b"_delta" not in event and b'"usage"' not in event:
            return
        try:
            parsed = decode_event(data_of(event))
        except (msgspec.DecodeError, RecursionError):
            return
        if parsed.delta is not None:
            delta = parsed.delta
            self.output_seen += tokens_in_text(delta.text or delta.thinking or delta.partial_json)
        stated = parsed.message.usage if parsed.message else parsed.usage
        if stated is not None and neutral_usage(merged(self.stated, stated)) is not None:
            self.stated = merged(self.stated, stated)
            self.final = parsed.type == "message_delta"
