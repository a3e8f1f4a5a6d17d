"""OpenAI Embeddings (platform.openai.com/docs/api-reference/embeddings)."""

import base64
import struct
from typing import Annotated

import msgspec
from msgspec import Meta

from proxy.formats import bounds
from proxy.formats.body import decode, encode, replace_fields
from proxy.formats.neutral import BadRequest, Call, Inexpressible, Usage
from proxy.formats.neutral import Request as NeutralRequest
from proxy.formats.openai_chat.relay import ModelName, StreamMeter, measure
from proxy.formats.openai_chat.stream import StreamEncoder

PATH = "/embeddings"
MAX_DIMENSIONS = 65_536


class Request(msgspec.Struct):
    model: ModelName
    input: str | list[str | int | list[int]]
    dimensions: Annotated[int, Meta(ge=1, le=MAX_DIMENSIONS)] | None = None
    encoding_format: str | None = None


decode_request = msgspec.json.Decoder(Request).decode


class EmbeddingsCall:
    """One client request in this format, and how to relay it. It has no output tokens and no stream."""

    stream_type = "text/event-stream"

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Raises BadRequest."""
        self.body = body
        self.request = request = decode(decode_request, body)
        # Token ids stand for one token each; text has no more tokens than bytes.
        self.call = Call(model=request.model, input_bound=bounds.text_tokens(request.input), output_limit=0)

    def path(self, model: str) -> str:
        return PATH

    def texts(self) -> list[str]:
        """The texts to embed; raises Inexpressible for token ids, which mean nothing to another vendor's model."""
        given = [self.request.input] if isinstance(self.request.input, str) else self.request.input
        texts = [text for text in given if isinstance(text, str)]
        if len(texts) != len(given):
            raise Inexpressible("Token ids can be embedded by OpenAI's models only; send text.", "input")
        return texts

    def render_answer(self, vectors: list[list[float]], usage: Usage | None) -> bytes:
        """The answer to this request, made of another format's."""
        data = [{"object": "embedding", "index": index, "embedding": self.as_asked(vector)} for index, vector in enumerate(vectors)]
        prompt = usage.prompt if usage else 0
        counted = {"prompt_tokens": prompt, "total_tokens": prompt}
        return encode({"object": "list", "data": data, "model": self.request.model, "usage": counted})

    def as_asked(self, vector: list[float]) -> list[float] | str:
        """A vector as a list, or as base64 of little-endian 32-bit floats, which the official SDK asks for."""
        if self.request.encoding_format != "base64":
            return vector
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()

    def upstream_body(self, model: str, _output_limit: int | None, _limit_field: str) -> bytes:
        return self.body if model == self.request.model else replace_fields(self.body, {"model": model})

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        usage, _ = measure(body)
        return usage, 0

    def meter(self) -> StreamMeter:
        return StreamMeter(withhold_usage=False)

    def encoder(self, request: NeutralRequest) -> StreamEncoder:
        raise BadRequest("Embeddings have no stream.", "model")
