"""OpenAI Embeddings (platform.openai.com/docs/api-reference/embeddings)."""

from typing import Annotated

import msgspec
from msgspec import Meta

from proxy.formats import bounds
from proxy.formats.body import decode, replace_fields
from proxy.formats.neutral import Call, Usage
from proxy.formats.openai_chat import ModelName, StreamMeter, measure

MAX_DIMENSIONS = 65_536


class Request(msgspec.Struct):
    model: ModelName
    input: str | list[str | int | list[int]]
    dimensions: Annotated[int, Meta(ge=1, le=MAX_DIMENSIONS)] | None = None
    encoding_format: str | None = None


decode_request = msgspec.json.Decoder(Request).decode


class EmbeddingsCall:
    """One client request in this format, and how to relay it. It has no output tokens and no stream."""

    path = "/embeddings"

    def __init__(self, body: bytes) -> None:
        """Raises BadRequest."""
        self.body = body
        self.request = request = decode(decode_request, body)
        # Token ids stand for one token each; text has no more tokens than bytes.
        self.call = Call(request.model, bounds.text_tokens(request.input, bounds.IMAGE_TOKENS), output_limit=0)

    def upstream_body(self, model: str, _output_limit: int | None, _limit_field: str) -> bytes:
        return self.body if model == self.request.model else replace_fields(self.body, {"model": model})

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        return measure(body)

    def meter(self) -> StreamMeter:
        return StreamMeter(withhold_usage=False)
