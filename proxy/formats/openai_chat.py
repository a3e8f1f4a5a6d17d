"""OpenAI Chat Completions (platform.openai.com/docs/api-reference/chat).

A request is relayed as it came but for the fields that the gateway must set, so only what it must know is decoded here.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from proxy.formats import bounds
from proxy.formats.body import decode, encode, replace_fields
from proxy.formats.neutral import Call, Failure, Usage
from proxy.formats.sse import EventSplitter, data_of

MAX_TOKENS = 2**31 - 1
MAX_CHOICES = 128
TOKEN_BYTES = 4
LONE_TOKEN_BYTES = 16
END_OF_EVENT = b"\n\n"

TokenLimit = Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
ModelName = Annotated[str, Meta(min_length=1, max_length=200)]


class Request(msgspec.Struct):
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


class PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class WireUsage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    # Together states this beside the others, and sends its usage chunk whether it is asked for or not.
    reasoning_tokens: int | None = None


class Answer(msgspec.Struct):
    choices: list[dict[str, Any]] | None = None
    usage: WireUsage | None = None


decode_request = msgspec.json.Decoder(Request).decode
decode_answer = msgspec.json.Decoder(Answer).decode


class ChatCall:
    """One client request in this format, and how to relay it."""

    path = "/chat/completions"

    def __init__(self, body: bytes) -> None:
        """Raises BadRequest."""
        self.body = body
        self.request = request = decode(decode_request, body)
        limit, choices = request.max_completion_tokens or request.max_tokens, request.n or 1
        self.call = Call(request.model, input_bound(request), limit and limit * choices, choices, bool(request.stream))

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


def input_bound(request: Request) -> int:
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


def neutral_usage(wire: WireUsage) -> Usage | None:
    """Disjoint buckets: OpenAI counts cached tokens inside the prompt. None for counts that are absent or absurd."""
    prompt, output = wire.prompt_tokens, wire.completion_tokens or 0
    cached = (wire.prompt_tokens_details and wire.prompt_tokens_details.cached_tokens) or 0
    details = wire.completion_tokens_details
    reasoning = (details and details.reasoning_tokens) or wire.reasoning_tokens or 0
    if prompt is None or not all(0 <= count <= MAX_TOKENS for count in (prompt, output, cached, reasoning)):
        return None
    cached = min(cached, prompt)
    return Usage(input=prompt - cached, cache_read=cached, output=output, reasoning=min(reasoning, output))


class StreamMeter:
    """Reads a stream as it passes. `usage` is what the provider stated so far, `output_seen` our own count of tokens.

    With `withhold_usage` the chunk that carries nothing but usage stays here: the client did not ask for it, we did.
    """

    def __init__(self, *, withhold_usage: bool) -> None:
        self.splitter = EventSplitter()
        self.withhold_usage = withhold_usage
        self.usage: Usage | None = None
        self.output_seen = 0
        self.ended = False

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
            self.ended = self.ended or data == b"[DONE]"
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
    """Tokens in one delta by our own count: providers send one token a chunk; more text than that, four bytes a token."""
    if not isinstance(delta, dict):
        return 0
    size = sum(bounds.text_tokens(value, 0) for name, value in delta.items() if value and name not in ("role", "id"))
    if size <= LONE_TOKEN_BYTES:
        return 1 if size else 0
    return -(-size // TOKEN_BYTES)


def render_error(failure: Failure, request_id: str) -> bytes:
    """OpenAI's error body, with the request's id; `type` is the kind that operators filter by."""
    error = {"message": failure.message, "type": failure.kind, "param": failure.param, "code": failure.code, "request_id": request_id}
    return encode({"error": error})


def error_event(failure: Failure, request_id: str) -> bytes:
    """The same as an event of a stream that has begun. No [DONE] follows: the answer is not complete."""
    return b"data: " + render_error(failure, request_id) + b"\n\n"
