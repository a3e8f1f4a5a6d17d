"""Embeddings (ai.google.dev/api/embeddings), and the base class of requests without generated output."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, field
from msgspec.structs import replace

from proxy.formats.account_ids import AccountReference, WithoutAccountIds, references_in
from proxy.formats.field_case import check_letters
from proxy.formats.gemini.account_ids import ACCOUNT_ID_FIELDS
from proxy.formats.gemini.capabilities import MAX_MODEL_LENGTH
from proxy.formats.gemini.encoder import StreamEncoder
from proxy.formats.gemini.passthrough import EVENT_STREAM_TYPE, StreamMeter, prompt_tokens
from proxy.formats.gemini.request import model_path
from proxy.formats.gemini.usage import parse_embedding_usage
from proxy.formats.json_body import (
    DECODE_ERRORS,
    convert_json,
    decode_available_fields,
    decode_fields,
    encode,
    parse_object,
    replace_fields,
)
from proxy.formats.metering import token_bounds
from proxy.formats.metering.billable import possible_modalities
from proxy.formats.neutral import (
    InvalidRequest,
    InvalidUpstreamResponse,
    RequestFacts,
    UnsupportedFeature,
    Usage,
)
from proxy.formats.neutral import Request as NeutralRequest
from proxy.formats.quirks import Quirks
from proxy.formats.streaming.sse import keepalive_comment

MAX_BATCH = 10_000
MAX_DIMENSIONS = 65_536
MEDIA_MARKERS = (b"inlineData", b"inline_data", b"fileData", b"file_data")
Dimensions = Annotated[int, Meta(ge=1, le=MAX_DIMENSIONS)]
Contents = list[dict[str, Any]] | dict[str, Any]


class EmbedContentFields(msgspec.Struct):
    content: dict[str, Any]
    model: str | None = None


class BatchEmbedContentsFields(msgspec.Struct):
    requests: Annotated[list[EmbedContentFields], Meta(min_length=1, max_length=MAX_BATCH)]


class ConvertibleEmbedFields(msgspec.Struct):
    """The fields of a request for one vector that can be converted to other formats."""

    content: dict[str, Any]
    model: Any = None
    dimensions: Dimensions | None = field(name="outputDimensionality", default=None)
    snake_dimensions: Dimensions | None = field(name="output_dimensionality", default=None)

    @property
    def text(self) -> str:
        """Return the joined text of all parts, because they are embedded as one vector.

        Raises UnsupportedFeature.
        """
        parts = self.content.get("parts")
        given = [
            part.get("text")
            for part in (parts if isinstance(parts, list) else [parts])
            if isinstance(part, dict)
        ]
        texts = [text for text in given if isinstance(text, str)]
        if not texts or len(texts) != len(given):
            raise UnsupportedFeature("This model can embed only text.", "content")
        return "".join(texts)


class EmbeddingValues(msgspec.Struct):
    values: list[float]


class EmbedResponse(msgspec.Struct, rename="camel"):
    embeddings: list[EmbeddingValues] | None = None
    embedding: EmbeddingValues | None = None
    usage_metadata: Any = None


FIELDS, BATCH_FIELDS = (
    frozenset(field.encode_name for field in msgspec.structs.fields(kind))
    for kind in (ConvertibleEmbedFields, BatchEmbedContentsFields)
)

decode_embed_response = msgspec.json.Decoder(EmbedResponse).decode
decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class NonGeneratingRequest(WithoutAccountIds):
    """Base class of requests that have no output tokens, and whose responses do not stream."""

    stream_content_type = EVENT_STREAM_TYPE
    render_keepalive = staticmethod(keepalive_comment)
    action: str

    def __init__(self, body: bytes, fields: dict[str, Any], model: str, max_input_tokens: int) -> None:
        if not 1 <= len(model) <= MAX_MODEL_LENGTH:
            raise InvalidRequest("The URL does not name a model.", "model")
        self.body, self.fields = body, fields
        self.facts = RequestFacts(model=model, max_input_tokens=max_input_tokens, max_output_tokens=0)

    def path(self, model: str) -> str:
        return f"{model_path(model)}:{self.action}"

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        return measure(body)

    def references(self) -> list[AccountReference]:
        return references_in([self.fields], ACCOUNT_ID_FIELDS)

    def meter(self) -> StreamMeter:
        return StreamMeter()

    def encoder(self, request: NeutralRequest) -> StreamEncoder:
        return StreamEncoder(request)


class EmbeddingRequestBase(NonGeneratingRequest):
    """Base class of requests for vectors. `items` contains one object for each vector."""

    def __init__(self, body: bytes, fields: dict[str, Any], model: str, max_input_tokens: int) -> None:
        super().__init__(body, fields, model, max_input_tokens)
        self.facts = replace(
            self.facts, max_billable_extras=possible_modalities(body, MEDIA_MARKERS, max_input_tokens)
        )

    @property
    def items(self) -> list[dict[str, Any]]:
        return [self.fields]

    def texts(self) -> list[str]:
        return [convert_json(item, ConvertibleEmbedFields).text for item in self.items]

    def dimensions(self) -> int | None:
        requests = [convert_json(item, ConvertibleEmbedFields) for item in self.items]
        sizes = {request.dimensions or request.snake_dimensions for request in requests}
        if len(sizes) > 1:
            raise UnsupportedFeature(
                "This model needs the same outputDimensionality in all requests of a batch.", "requests"
            )
        return sizes.pop()

    def unsupported_settings(self) -> list[str]:
        names = (name for item in self.items for name, value in item.items() if value is not None)
        return [name for name in dict.fromkeys(names) if name not in FIELDS]


class EmbedContentRequest(EmbeddingRequestBase):
    action = "embedContent"

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Raise InvalidRequest for a body that is not valid."""
        fields = parse_object(body)
        self.request = request = convert_json(fields, EmbedContentFields)
        check_letters(fields, FIELDS)
        super().__init__(body, fields, model, embedded_content_tokens(request.content))

    def upstream_body(self, model: str, _max_tokens: int | None, _quirks: Quirks) -> bytes:
        """Return the body with the provider's model name, if it has one, and without `metadata`."""
        fields = {} if self.request.model is None else {"model": f"models/{model}"}
        removed = self.fields.keys() & {"metadata"}
        return replace_fields(self.body, fields, removed) if fields or removed else self.body

    def render_response(self, vectors: list[list[float]], usage: Usage | None) -> bytes:
        return encode({"embedding": {"values": vectors[0]}} | render_usage_metadata(usage))


class BatchEmbedContentsRequest(EmbeddingRequestBase):
    action = "batchEmbedContents"

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Raise InvalidRequest for a body that is not valid."""
        fields = parse_object(body)
        self.request = request = convert_json(fields, BatchEmbedContentsFields)
        tokens = sum(embedded_content_tokens(item.content) for item in request.requests)
        super().__init__(body, fields, model, tokens)
        check_letters(fields, BATCH_FIELDS)
        for item in self.items:
            check_letters(item, FIELDS, "requests.")

    def upstream_body(self, model: str, _max_tokens: int | None, _quirks: Quirks) -> bytes:
        """Return the body with the model of the URL in each request, as Google requires.

        Google has no `metadata`.
        """
        items = map(bytes, decode_list(decode_fields(self.body)["requests"]))
        renamed = [msgspec.Raw(replace_fields(item, {"model": f"models/{model}"})) for item in items]
        return replace_fields(self.body, {"requests": renamed}, ("metadata",))

    @property
    def items(self) -> list[dict[str, Any]]:
        requests: list[dict[str, Any]] = self.fields["requests"]
        return requests

    def render_response(self, vectors: list[list[float]], usage: Usage | None) -> bytes:
        return encode(
            {"embeddings": [{"values": vector} for vector in vectors]} | render_usage_metadata(usage)
        )


def render_usage_metadata(usage: Usage | None) -> dict[str, Any]:
    return {"usageMetadata": {"promptTokenCount": usage.prompt}} if usage else {}


def embedded_content_tokens(content: dict[str, Any]) -> int:
    return prompt_tokens(content, token_bounds.IMAGE_TOKENS)


def render_embed_request(texts: list[str], model: str, dimensions: int | None) -> tuple[str, dict[str, Any]]:
    """Return the path and body of a request for one vector for each text."""
    size = {"outputDimensionality": dimensions} if dimensions is not None else {}
    requests = [{"model": f"models/{model}", "content": {"parts": [{"text": text}]}} | size for text in texts]
    return f"{model_path(model)}:{BatchEmbedContentsRequest.action}", {"requests": requests}


def parse_embed_response(body: bytes) -> tuple[list[list[float]], Usage | None]:
    """Return the vectors in the order of the texts, and the usage if it is reported.

    Raises InvalidUpstreamResponse.
    """
    try:
        response = decode_embed_response(body)
    except DECODE_ERRORS as error:
        raise InvalidUpstreamResponse(f"The provider's response cannot be decoded: {error}.") from None
    embeddings = response.embeddings or ([response.embedding] if response.embedding else [])
    if not embeddings:
        raise InvalidUpstreamResponse("The provider's response contains no embeddings.")
    return [embedding.values for embedding in embeddings], parse_embedding_usage(response.usage_metadata)


def measure(body: bytes) -> tuple[Usage | None, int]:
    """Return the reported usage, or None, and the number of output tokens, which is always 0."""
    try:
        return parse_embedding_usage(decode_available_fields(body).get("usageMetadata")), 0
    except DECODE_ERRORS:
        return None, 0
