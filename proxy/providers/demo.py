"""The built-in demo provider: answers in process, so that a first run, tests and benchmarks need no key.

`demo/chat` emits exactly `max_tokens` tokens (64 by default) and counts its input with the very function that reservations
use; `demo/embed` gives the same vector for the same text. Behaviour is set by a `demo` object in the body:
`delay_ms` between streamed tokens (10), `status` of an error to answer with, `fail_after` streamed tokens.
"""

import asyncio
import base64
import hashlib
import time
from array import array
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from billing.pricing import simple_price
from proxy.formats.metering.token_bounds import IMAGE_TOKENS, text_tokens
from proxy.formats.openai_chat import embeddings
from proxy.formats.openai_chat.passthrough import max_input_tokens
from proxy.formats.openai_chat.request import request_path
from proxy.formats.openai_chat.wire import RequestFields
from proxy.upstream.client import UpstreamConnectionError

MODELS = ("demo/chat", "demo/embed")
PRICE = simple_price("1", "2", "demo, play money")
DEFAULT_MAX_TOKENS = 64
MAX_TOKENS = 32_768
MAX_NONSTREAMING_TOKENS = 65_536
"""Of all choices together, in an answer that is not streamed."""
DEFAULT_DIMENSIONS = 256
MAX_DIMENSIONS = 3_072
MAX_INPUTS = 2_048
MAX_VECTOR_VALUES = 500_000
"""Inputs times dimensions: they are computed in the process that serves everyone."""
SAMPLE_TEXT = "This answer comes from the demo model inside the gateway so that you can try keys and budgets before you add a provider."
SAMPLE_WORDS = SAMPLE_TEXT.split()

encode = msgspec.json.Encoder().encode


class DemoOptions(msgspec.Struct):
    delay_ms: Annotated[float, Meta(ge=0, le=60_000)] = 10
    status: Annotated[int, Meta(ge=400, le=599)] | None = None
    fail_after: Annotated[int, Meta(ge=0)] | None = None


class DemoBody(msgspec.Struct):
    demo: DemoOptions = msgspec.field(default_factory=DemoOptions)


class DemoResponse:
    """Looks like an upstream's reply: status, headers, and a body whole or in chunks."""

    def __init__(self, status: int, body: bytes | Callable[[], AsyncIterator[bytes]]) -> None:
        self.status = status
        self.body = body
        self.headers = {
            "content-type": "application/json"
            if isinstance(body, bytes)
            else "text/event-stream; charset=utf-8"
        }

    async def read(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else b"".join([chunk async for chunk in self.body()])

    def chunks(self) -> AsyncIterator[bytes]:
        assert not isinstance(self.body, bytes)
        return self.body()

    async def __aenter__(self) -> "DemoResponse":
        return self

    async def __aexit__(self, *_: object) -> None:
        """There is no connection to close."""


async def respond(path: str, body: bytes) -> DemoResponse:
    """What a provider would answer at this path of the OpenAI API."""
    try:
        behaviour = msgspec.json.decode(body, type=DemoBody).demo
    except msgspec.ValidationError as error:
        return error_response(400, str(error))
    if behaviour.status is not None:
        return error_response(behaviour.status, "The demo provider was told to fail.")
    if path == embeddings.PATH:
        return embed_response(msgspec.json.decode(body, type=embeddings.EmbeddingFields))
    if path != request_path(MODELS[0], False):
        return error_response(404, "The demo models answer chat completions and embeddings.")
    return chat_response(msgspec.json.decode(body, type=RequestFields), behaviour)


def error_response(status: int, message: str) -> DemoResponse:
    return DemoResponse(
        status, encode({"error": {"message": message, "type": "demo_error", "param": None, "code": None}})
    )


def chat_response(request: RequestFields, options: DemoOptions) -> DemoResponse:
    limit = request.max_completion_tokens or request.max_tokens
    if limit is not None and limit > MAX_TOKENS:
        return error_response(
            400, f"max_tokens is too large: {limit}. This model gives at most {MAX_TOKENS} tokens."
        )
    count, choices = limit or DEFAULT_MAX_TOKENS, request.n or 1
    if not request.stream and count * choices > MAX_NONSTREAMING_TOKENS:
        return error_response(
            400,
            f"n x max_tokens is too large: {count * choices}. Without a stream it may be at most {MAX_NONSTREAMING_TOKENS}.",
        )
    head = {"id": f"chatcmpl-demo{time.time_ns():x}", "created": int(time.time()), "model": request.model}
    usage = build_usage(max_input_tokens(request), count * choices)
    finish = "stop" if limit is None else "length"
    if request.stream:
        wants_usage = bool((request.stream_options or {}).get("include_usage"))
        return DemoResponse(
            200, lambda: stream_chat(head, count, choices, finish, usage if wants_usage else None, options)
        )
    message = {"role": "assistant", "content": "".join(sample_tokens(count)), "refusal": None}
    answers = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": finish}
        for index in range(choices)
    ]
    return DemoResponse(
        200, encode({**head, "object": "chat.completion", "choices": answers, "usage": usage})
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
            raise UpstreamConnectionError("the demo provider was told to fail")
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
    """What gets a vector each: a list of token ids is one input, as at OpenAI."""
    one = isinstance(request.input, str) or all(isinstance(part, int) for part in request.input)
    return [request.input] if one else request.input


def limit_error(inputs: int, size: int) -> str:
    """What is wrong with this many vectors of this size; empty where nothing is."""
    if inputs > MAX_INPUTS:
        return f"input has too many entries: {inputs}. This model takes at most {MAX_INPUTS}."
    if size > MAX_DIMENSIONS:
        return f"dimensions is too large: {size}. This model gives at most {MAX_DIMENSIONS}."
    if inputs * size > MAX_VECTOR_VALUES:
        return f"inputs x dimensions is too large: {inputs * size}. This model gives at most {MAX_VECTOR_VALUES} numbers at once."
    return ""


def hash_vector(text: str, size: int) -> list[float]:
    """A unit vector drawn from the text's hash: equal texts are equal, others nearly orthogonal."""
    raw = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(size)
    values = [byte - 127.5 for byte in raw]
    length = sum(value * value for value in values) ** 0.5
    return [value / length for value in values]


def encode_vector(values: list[float], encoding: str | None) -> list[float] | str:
    return base64.b64encode(array("f", values).tobytes()).decode() if encoding == "base64" else values
