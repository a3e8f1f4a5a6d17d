"""Embeddings and token counts (ai.google.dev/api/embeddings, ai.google.dev/api/tokens): calls that generate nothing."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, field
from msgspec.structs import replace

from proxy.formats import bounds, neutral
from proxy.formats.account_ids import AccountReference, WithoutAccountIds, references_in
from proxy.formats.body import decode, encode, read_safely, replace_fields
from proxy.formats.codec import Quirks
from proxy.formats.gemini.account_ids import VOCABULARY
from proxy.formats.gemini.encoder import StreamEncoder
from proxy.formats.gemini.grounding import Grounded
from proxy.formats.gemini.relay import EVENT_STREAM, LONGEST_MODEL, StreamMeter, model_path, prompt_tokens
from proxy.formats.gemini.usage import counts_in, neutral_usage, with_services
from proxy.formats.letters import check_letters
from proxy.formats.neutral import BadAnswer, BadRequest, Call, Inexpressible, Usage
from proxy.formats.neutral import Request as NeutralRequest
from proxy.formats.server_tools import heard
from proxy.formats.sse import comment_after

MAX_BATCH = 10_000
MAX_DIMENSIONS = 65_536
MEDIA = (b"inlineData", b"inline_data", b"fileData", b"file_data")
TOKENS_PER_ESTIMATE = 4
"""Bytes of text in a token, for an estimate that is no bound."""

Size = Annotated[int, Meta(ge=1, le=MAX_DIMENSIONS)]
Contents = list[dict[str, Any]] | dict[str, Any]


class EmbedRequest(msgspec.Struct):
    content: dict[str, Any]
    model: str | None = None


class BatchEmbedRequest(msgspec.Struct):
    requests: Annotated[list[EmbedRequest], Meta(min_length=1, max_length=MAX_BATCH)]


class Wanted(msgspec.Struct):
    """What of a request for one vector other formats can say."""

    content: dict[str, Any]
    model: Any = None
    size: Size | None = field(name="outputDimensionality", default=None)
    snake_size: Size | None = field(name="output_dimensionality", default=None)

    @property
    def text(self) -> str:
        """All the parts, which make one vector. Raises Inexpressible."""
        parts = self.content.get("parts")
        given = [part.get("text") for part in (parts if isinstance(parts, list) else [parts]) if isinstance(part, dict)]
        texts = [text for text in given if isinstance(text, str)]
        if not texts or len(texts) != len(given):
            raise Inexpressible("Only text can be embedded by this model.", "content")
        return "".join(texts)


class GenerateRequest(msgspec.Struct):
    contents: Contents | None = None
    tools: Any = None
    system: Any = field(name="systemInstruction", default=None)
    snake_system: Any = field(name="system_instruction", default=None)


class CountRequest(msgspec.Struct):
    """Either the contents alone, or the whole request that is to be counted."""

    contents: Contents | None = None
    request: GenerateRequest | None = field(name="generateContentRequest", default=None)
    snake_request: GenerateRequest | None = field(name="generate_content_request", default=None)


class Embedding(msgspec.Struct):
    values: list[float]


class EmbedAnswer(msgspec.Struct, rename="camel"):
    embeddings: list[Embedding] | None = None
    embedding: Embedding | None = None
    usage_metadata: Any = None


FIELDS, BATCH_FIELDS, COUNT_FIELDS = (
    frozenset(field.encode_name for field in msgspec.structs.fields(kind)) for kind in (Wanted, BatchEmbedRequest, CountRequest)
)

decode_embed = msgspec.json.Decoder(EmbedRequest).decode
decode_wanted = msgspec.json.Decoder(Wanted).decode
decode_batch = msgspec.json.Decoder(BatchEmbedRequest).decode
decode_count = msgspec.json.Decoder(CountRequest).decode
decode_answer = msgspec.json.Decoder(EmbedAnswer).decode
decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
decode_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode


class WholeCall(WithoutAccountIds):
    """What the calls of this file share: they answer in one piece, and have no output tokens."""

    stream_type = EVENT_STREAM
    keep_alive = staticmethod(comment_after)
    verb: str

    def __init__(self, body: bytes, model: str, bound: int) -> None:
        if not 1 <= len(model) <= LONGEST_MODEL:
            raise BadRequest("The address names no model.", "model")
        self.body = body
        self.call = Call(model=model, input_bound=bound, output_limit=0)

    def path(self, model: str) -> str:
        return f"{model_path(model)}:{self.verb}"

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        try:
            return usage_in(decode_answer(body)), 0
        except (msgspec.DecodeError, RecursionError):
            return None, 0

    def references(self) -> list[AccountReference]:
        return references_in([decode(msgspec.json.decode, self.body)], VOCABULARY)

    def meter(self) -> StreamMeter:
        return StreamMeter()

    def encoder(self, request: NeutralRequest) -> StreamEncoder:
        return StreamEncoder(request)


class VectorsCall(WholeCall):
    """What requests for vectors have in common. `bodies` holds one for each vector."""

    def __init__(self, body: bytes, model: str, bound: int) -> None:
        super().__init__(body, model, bound)
        self.call = replace(self.call, tool_limits=heard(body, MEDIA, bound))

    @property
    def bodies(self) -> list[bytes]:
        return [self.body]

    def texts(self) -> list[str]:
        return [decode(decode_wanted, body).text for body in self.bodies]

    def dimensions(self) -> int | None:
        asked = [decode(decode_wanted, body) for body in self.bodies]
        sizes = {wanted.size or wanted.snake_size for wanted in asked}
        if len(sizes) > 1:
            raise Inexpressible("This model gives all the vectors of a batch the same size.", "requests")
        return sizes.pop()

    def unsaid(self) -> list[str]:
        known = frozenset(field.encode_name for field in msgspec.structs.fields(Wanted))
        given = (name for body in self.bodies for name, value in decode_raw(body).items() if bytes(value) != b"null")
        return [name for name in dict.fromkeys(given) if name not in known]


class EmbedCall(VectorsCall):
    verb = "embedContent"

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Raises BadRequest."""
        self.request = request = decode(decode_embed, body)
        check_letters(decode_raw(body), FIELDS)
        super().__init__(body, model, read_safely(lambda _: content_tokens(request.content), body))

    def upstream_body(self, model: str, _output_limit: int | None, _quirks: Quirks) -> bytes:
        return self.body if self.request.model is None else replace_fields(self.body, {"model": f"models/{model}"})

    def render_answer(self, vectors: list[list[float]], usage: Usage | None) -> bytes:
        return encode({"embedding": {"values": vectors[0]}} | stated(usage))


class BatchEmbedCall(VectorsCall):
    verb = "batchEmbedContents"

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Raises BadRequest."""
        self.request = request = decode(decode_batch, body)
        super().__init__(body, model, read_safely(lambda _: sum(content_tokens(item.content) for item in request.requests), body))
        check_letters(decode_raw(body), BATCH_FIELDS)
        for item in self.bodies:
            check_letters(decode_raw(item), FIELDS, "requests.")

    def upstream_body(self, model: str, _output_limit: int | None, _quirks: Quirks) -> bytes:
        """Google wants the model of the address in each request too."""
        renamed = [msgspec.Raw(replace_fields(item, {"model": f"models/{model}"})) for item in self.bodies]
        return replace_fields(self.body, {"requests": renamed})

    @property
    def bodies(self) -> list[bytes]:
        return list(map(bytes, decode_raws(decode_raw(self.body)["requests"])))

    def render_answer(self, vectors: list[list[float]], usage: Usage | None) -> bytes:
        return encode({"embeddings": [{"values": vector} for vector in vectors]} | stated(usage))


class CountTokensCall(WholeCall):
    """How many tokens a prompt has. It costs nothing."""

    verb = "countTokens"

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Raises BadRequest."""
        self.request = request = decode(decode_count, body)
        check_letters(decode_raw(body), COUNT_FIELDS)
        super().__init__(body, model, read_safely(lambda _: counted_tokens(request, bounds.image_tokens(model)), body))

    def upstream_body(self, model: str, _output_limit: int | None, _quirks: Quirks) -> bytes:
        fields = decode_raw(self.body)
        names = [name for name in ("generateContentRequest", "generate_content_request") if fields.get(name, b"null") != b"null"]
        renamed = {name: msgspec.Raw(replace_fields(bytes(fields[name]), {"model": f"models/{model}"})) for name in names}
        return replace_fields(self.body, renamed) if renamed else self.body

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        return None, 0

    def estimate(self) -> bytes:
        """The answer for providers that cannot count."""
        return encode({"totalTokens": -(-self.call.input_bound // TOKENS_PER_ESTIMATE)})


def usage_in(answer: EmbedAnswer) -> Usage | None:
    """Sound, pictures and films cost more than text (ai.google.dev/gemini-api/docs/pricing, "Gemini Embedding 2")."""
    return with_services(neutral.stated(neutral_usage(counts_in(answer.usage_metadata))), answer.usage_metadata, Grounded())


def stated(usage: Usage | None) -> dict[str, Any]:
    return {"usageMetadata": {"promptTokenCount": usage.prompt}} if usage else {}


def content_tokens(content: dict[str, Any]) -> int:
    return prompt_tokens(content, bounds.IMAGE_TOKENS)


def counted_tokens(request: CountRequest, image: int) -> int:
    whole = request.request or request.snake_request or GenerateRequest(contents=request.contents)
    prompt = (whole.contents, whole.system or whole.snake_system, whole.tools)
    return sum(prompt_tokens(value, image) for value in prompt)


# For clients of another format --------------------------------------------------------------------------------------------


def render_embed_request(texts: list[str], model: str, dimensions: int | None) -> tuple[str, dict[str, Any]]:
    """Path and body that embed these texts, each by itself."""
    size = {"outputDimensionality": dimensions} if dimensions is not None else {}
    requests = [{"model": f"models/{model}", "content": {"parts": [{"text": text}]}} | size for text in texts]
    return f"{model_path(model)}:{BatchEmbedCall.verb}", {"requests": requests}


def parse_embed_response(body: bytes) -> tuple[list[list[float]], Usage | None]:
    """The vectors in the order of the texts, and the usage where one is stated. Raises BadAnswer."""
    try:
        answer = decode_answer(body)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise BadAnswer(f"The provider's answer cannot be read: {error}.") from None
    embeddings = answer.embeddings or ([answer.embedding] if answer.embedding else [])
    if not embeddings:
        raise BadAnswer("The provider's answer holds no embeddings.")
    return [embedding.values for embedding in embeddings], usage_in(answer)
