"""The built-in demo provider, which needs no key: for a first run, tests and benchmarks.

`demo/chat` generates exactly `max_tokens` tokens (64 by default), and counts its input with the function that
reservations use. `demo/embed` returns the same vector for the same text. A `demo` object in the body sets the
behavior. Its fields are `delay_ms` (between streamed tokens, 10 by default), `status` (of the error to
respond with) and `fail_after` (the number of streamed tokens before a failure).
"""

import asyncio
import base64
import hashlib
import time
from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Annotated, Any, Self

import msgspec
from msgspec import Meta

from billing.pricing import simple_price
from proxy.formats.metering.token_bounds import IMAGE_TOKENS, text_tokens
from proxy.formats.openai_chat import embeddings
from proxy.formats.openai_chat.passthrough import max_input_tokens
from proxy.formats.openai_chat.request import request_path
from proxy.formats.openai_chat.wire import RequestFields
from proxy.upstream.errors import UpstreamConnectionError

MODELS = ("demo/chat", "demo/embed")
BYTES_PER_TOKEN = 1
PRICE = simple_price("1", "2", "demo, play money")
DEFAULT_MAX_TOKENS = 64
MAX_TOKENS = 32_768
MAX_NONSTREAMING_TOKENS = 65_536
"""Maximum number of tokens of a non-streaming response, over all choices."""
DEFAULT_DIMENSIONS = 256
MAX_DIMENSIONS = 3_072
MAX_INPUTS = 2_048
MAX_VECTOR_VALUES = 500_000
"""Maximum of inputs times dimensions.

The vectors are computed in the process that serves all clients, so large requests would delay other clients.
"""
SAMPLE_TEXT = (
    "This answer comes from the demo model inside the gateway so that you can try keys and budgets before "
    "you add a provider."
)
SAMPLE_WORDS = SAMPLE_TEXT.split()

encode = msgspec.json.Encoder().encode


class DemoOptions(msgspec.Struct):
    """The `demo` object of a request body."""

    delay_ms: Annotated[float, Meta(ge=0, le=60_000)] = 10
    status: Annotated[int, Meta(ge=400, le=599)] | None = None
    fail_after: Annotated[int, Meta(ge=0)] | None = None


class DemoBody(msgspec.Struct):
    """The fields of a request body that set the demo's behavior."""

    demo: DemoOptions = msgspec.field(default_factory=DemoOptions)


class DemoClient:
    """Upstream client of the demo. It responds in this process, without a connection."""

    async def request(
        self,
        _method: str,
        url: str,
        body: bytes,
        _headers: dict[str, str],
        *,
        trusted: bool,
        timeout_s: float | None = None,
        is_stream: bool = False,
    ) -> "DemoResponse | DemoStream":
        """Respond as a provider does.

        The demo has no base URL, so `url` is only a path of the OpenAI API.
        """
        return respond(url, body)


class DemoResponse:
    """A non-streaming upstream response."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status, self.body = status, body
        self.headers = {"content-type": "application/json"}

    async def read(self) -> bytes:
        """Return the body."""
        return self.body

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body in one chunk."""
        yield self.body

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Do nothing: there is no connection to close."""


class DemoStream:
    """A streaming upstream response."""

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        self.status, self.events = 200, events
        self.headers = {"content-type": "text/event-stream; charset=utf-8"}

    async def read(self) -> bytes:
        """Return all events."""
        return b"".join([event async for event in self.events])

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the events as they are generated."""
        return self.events

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Do nothing: there is no connection to close."""


def respond(path: str, body: bytes) -> DemoResponse | DemoStream:
    """Return the response that a provider sends at this path of the OpenAI API."""
    try:
        options = msgspec.json.decode(body, type=DemoBody).demo
    except msgspec.ValidationError as error:
        return error_response(400, str(error))
    if options.status is not None:
        return error_response(options.status, "The request asked the demo provider to fail.")
    if path == embeddings.PATH:
        return embed_response(msgspec.json.decode(body, type=embeddings.EmbeddingFields))
    if path != request_path(MODELS[0], False):
        return error_response(404, "The demo models support chat completions and embeddings only.")
    return chat_response(msgspec.json.decode(body, type=RequestFields), options)


def error_response(status: int, message: str) -> DemoResponse:
    return DemoResponse(
        status, encode({"error": {"message": message, "type": "demo_error", "param": None, "code": None}})
    )


def chat_response(request: RequestFields, options: DemoOptions) -> DemoResponse | DemoStream:
    limit = request.max_completion_tokens or request.max_tokens
    if limit is not None and limit > MAX_TOKENS:
        return error_response(
            400, f"max_tokens is too large: {limit}. This model gives at most {MAX_TOKENS} tokens."
        )
    count, choices = limit or DEFAULT_MAX_TOKENS, request.n or 1
    if not request.stream and count * choices > MAX_NONSTREAMING_TOKENS:
        return error_response(
            400,
            f"n x max_tokens is too large: {count * choices}. "
            f"Without a stream it may be at most {MAX_NONSTREAMING_TOKENS}.",
        )
    head = {"id": f"chatcmpl-demo{time.time_ns():x}", "created": int(time.time()), "model": request.model}
    usage = build_usage(max_input_tokens(request), count * choices)
    finish = "stop" if limit is None else "length"
    if request.stream:
        wants_usage = bool((request.stream_options or {}).get("include_usage"))
        return DemoStream(stream_chat(head, count, choices, finish, usage if wants_usage else None, options))
    message = {"role": "assistant", "content": "".join(sample_tokens(count)), "refusal": None}
    response_choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": finish}
        for index in range(choices)
    ]
    return DemoResponse(
        200, encode({**head, "object": "chat.completion", "choices": response_choices, "usage": usage})
    )


async def stream_chat(
    head: dict[str, Any],
    token_count: int,
    choices: int,
    finish_reason: str,
    usage: dict[str, Any] | None,
    options: DemoOptions,
) -> AsyncIterator[bytes]:
    def event(index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return b"data: " + encode({**head, "object": "chat.completion.chunk", "choices": [choice]}) + b"\n\n"

    yield b"".join(event(index, {"role": "assistant", "content": ""}) for index in range(choices))
    for number, token in enumerate(sample_tokens(token_count)):
        if number == options.fail_after:
            raise UpstreamConnectionError("the request asked the demo provider to fail")
        if options.delay_ms:
            await asyncio.sleep(options.delay_ms / 1000)
        yield b"".join(event(index, {"content": token}) for index in range(choices))
    yield b"".join(event(index, {}, finish_reason) for index in range(choices))
    if usage is not None:
        yield (
            b"data: "
            + encode({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
            + b"\n\n"
        )
    yield b"data: [DONE]\n\n"


def sample_tokens(count: int) -> Iterator[str]:
    for number in range(count):
        yield ("" if number == 0 else " ") + SAMPLE_WORDS[number % len(SAMPLE_WORDS)]


def build_usage(prompt: int, output: int) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def embed_response(request: embeddings.EmbeddingFields) -> DemoResponse:
    texts, size = split_inputs(request), request.dimensions or DEFAULT_DIMENSIONS
    if excess := limit_error(len(texts), size):
        return error_response(400, excess)
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": encode_vector(hash_vector(repr(text), size), request.encoding_format),
        }
        for index, text in enumerate(texts)
    ]
    used = text_tokens(request.input, IMAGE_TOKENS)
    return DemoResponse(
        200,
        encode(
            {
                "object": "list",
                "data": data,
                "model": request.model,
                "usage": {"prompt_tokens": used, "total_tokens": used},
            }
        ),
    )


def split_inputs(request: embeddings.EmbeddingFields) -> Sequence[object]:
    """Return the inputs. Each input gets a vector. As at OpenAI, a list of token ids is one input."""
    is_single = isinstance(request.input, str) or all(isinstance(part, int) for part in request.input)
    return [request.input] if is_single else request.input


def limit_error(inputs: int, size: int) -> str:
    """Return the error text if there are too many vectors of this size, else an empty text."""
    if inputs > MAX_INPUTS:
        return f"input has too many entries: {inputs}. This model takes at most {MAX_INPUTS}."
    if size > MAX_DIMENSIONS:
        return f"dimensions is too large: {size}. This model gives at most {MAX_DIMENSIONS}."
    if inputs * size > MAX_VECTOR_VALUES:
        return (
            f"inputs x dimensions is too large: {inputs * size}. "
            f"This model gives at most {MAX_VECTOR_VALUES} numbers at once."
        )
    return ""


def hash_vector(text: str, size: int) -> list[float]:
    """Return a unit vector that is computed from the text's hash.

    Vectors of different texts are nearly orthogonal.
    """
    raw = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(size)
    values = [byte - 127.5 for byte in raw]
    length = sum(value * value for value in values) ** 0.5
    return [value / length for value in values]


def encode_vector(values: list[float], encoding: str | None) -> list[float] | str:
    return base64.b64encode(array("f", values).tobytes()).decode() if encoding == "base64" else values
