"""Requests and responses for embeddings (platform.openai.com/docs/api-reference/embeddings)."""

import base64
import struct
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from proxy.formats.account_ids import WithoutAccountIds
from proxy.formats.json_body import (
    DECODE_ERRORS,
    ModelName,
    as_dict,
    convert_json,
    decode_available_fields,
    encode,
    parse_object,
    replace_fields,
)
from proxy.formats.metering import token_bounds
from proxy.formats.metering.billable import AUTO_TIER, named_tiers, parse_tier
from proxy.formats.metering.unknown_fields import (
    extract_unknown_fields,
    fields_allowing_other_models,
    first_value,
    unbounded_cost_fields,
)
from proxy.formats.neutral import (
    InvalidRequest,
    InvalidUpstreamResponse,
    RequestFacts,
    UnsupportedFeature,
    Usage,
    UsageDefaults,
    reported_or_none,
)
from proxy.formats.neutral import Request as NeutralRequest
from proxy.formats.openai_chat.encoder import StreamEncoder
from proxy.formats.openai_chat.passthrough import StreamMeter
from proxy.formats.openai_chat.usage import parse_usage_object
from proxy.formats.quirks import Quirks
from proxy.formats.streaming.sse import keepalive_comment

PATH = "/embeddings"
MAX_DIMENSIONS = 65_536


class EmbeddingFields(msgspec.Struct):
    model: ModelName
    input: str | list[str | int | list[int]]
    dimensions: Annotated[int, Meta(ge=1, le=MAX_DIMENSIONS)] | None = None
    encoding_format: str | None = None


class Vector(msgspec.Struct):
    embedding: list[float] | str
    index: int | None = None

    @property
    def values(self) -> list[float]:
        """The numbers of the vector. Some servers send base64 although the client did not request it."""
        if isinstance(self.embedding, list):
            return self.embedding
        data = base64.b64decode(self.embedding)
        return list(struct.unpack(f"<{len(data) // 4}f", data))


class EmbeddingResponse(msgspec.Struct):
    data: list[Vector]


BOUNDED_FIELDS = frozenset(EmbeddingFields.__struct_fields__)

decode_response = msgspec.json.Decoder(EmbeddingResponse).decode


class CreateEmbeddingRequest(WithoutAccountIds):
    """A client's request for embeddings. It has neither output tokens nor a stream."""

    stream_content_type = "text/event-stream"
    render_keepalive = staticmethod(keepalive_comment)

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Parse the request. Raises InvalidRequest."""
        self.body, self.fields = body, parse_object(body)
        self.request = request = convert_json(self.fields, EmbeddingFields)
        unknown = extract_unknown_fields(self.fields, BOUNDED_FIELDS)
        tier = parse_tier(first_value(unknown, "service_tier"))
        self.facts = RequestFacts(
            model=request.model,
            # Each token id is one token. A text has at most as many tokens as bytes.
            max_input_tokens=token_bounds.text_tokens(request.input)
            + token_bounds.unknown_fields_tokens(unknown),
            max_output_tokens=0,
            service_tier=tier or AUTO_TIER,
            requested_tiers=named_tiers(service_tier=tier),
            usage_defaults=UsageDefaults(service_tier=tier),
            unbounded_cost_fields=unbounded_cost_fields(unknown),
            other_model_fields=fields_allowing_other_models(unknown),
        )

    def path(self, model: str) -> str:
        return PATH

    def texts(self) -> list[str]:
        """Return the texts to embed.

        Raises UnsupportedFeature for token ids, because only OpenAI's models know them.
        """
        given = [self.request.input] if isinstance(self.request.input, str) else self.request.input
        texts = [text for text in given if isinstance(text, str)]
        if len(texts) != len(given):
            raise UnsupportedFeature("Only OpenAI's models can embed token ids. Send text.", "input")
        return texts

    def dimensions(self) -> int | None:
        return self.request.dimensions

    def unsupported_settings(self) -> list[str]:
        return []

    def render_response(self, vectors: list[list[float]], usage: Usage | None) -> bytes:
        """Render the response to this request from another format's response."""
        data = [
            {"object": "embedding", "index": index, "embedding": self.encode_vector(vector)}
            for index, vector in enumerate(vectors)
        ]
        prompt = usage.prompt if usage else 0
        counted = {"prompt_tokens": prompt, "total_tokens": prompt}
        return encode({"object": "list", "data": data, "model": self.request.model, "usage": counted})

    def encode_vector(self, vector: list[float]) -> list[float] | str:
        """Return a vector as a list, or as base64 of little-endian 32-bit floats.

        The official SDK requests base64.
        """
        if self.request.encoding_format != "base64":
            return vector
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()

    def upstream_body(self, model: str, _output_limit: int | None, _quirks: Quirks) -> bytes:
        """Return the body with the provider's model name, without `metadata`, which OpenAI rejects."""
        removed = self.fields.keys() & {"metadata"}
        if model == self.request.model and not removed:
            return self.body
        return replace_fields(self.body, {"model": model}, removed)

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        return measure(body)

    def meter(self) -> StreamMeter:
        return StreamMeter(withhold_usage=False)

    def encoder(self, request: NeutralRequest) -> StreamEncoder:
        raise InvalidRequest("Embeddings have no stream.", "model")


# For clients of another format --------------------------------------------------------------------


def render_embed_request(texts: list[str], model: str, dimensions: int | None) -> tuple[str, dict[str, Any]]:
    """Return the path and the body of a request that embeds each of these texts separately."""
    size = {"dimensions": dimensions} if dimensions is not None else {}
    return PATH, {"model": model, "input": texts} | size


def parse_embed_response(body: bytes) -> tuple[list[list[float]], Usage | None]:
    """Return the vectors in the order of the texts, and the usage if the response reports it.

    Raises InvalidUpstreamResponse.
    """
    try:
        vectors = decode_response(body).data
        ordered = sorted(vectors, key=lambda vector: vector.index or 0)
        values = [vector.values for vector in ordered]
    except (*DECODE_ERRORS, struct.error) as error:
        raise InvalidUpstreamResponse(f"The provider's response cannot be read: {error}.") from None
    if not values:
        raise InvalidUpstreamResponse("The provider's response contains no embeddings.")
    return values, measure(body)[0]


def measure(body: bytes) -> tuple[Usage | None, int]:
    """Return the reported usage, which has only input, or None; and 0 output tokens."""
    try:
        usage = as_dict(decode_available_fields(body).get("usage"))
    except DECODE_ERRORS:
        return None, 0
    return reported_or_none(
        parse_usage_object({**usage, "completion_tokens": usage.get("completion_tokens") or 0})
    ), 0
