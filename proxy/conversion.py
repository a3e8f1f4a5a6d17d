"""A request in one format on its way to a provider that speaks another, through the neutral hub."""

from types import ModuleType

import msgspec
from msgspec.structs import replace

from proxy import errors
from proxy.accounts import Account
from proxy.formats import anthropic, gemini, openai_chat, openai_embeddings, openai_responses
from proxy.formats.account_ids import FILE, AccountReference, WithoutAccountIds
from proxy.formats.codec import Embedder, Embedding, Incoming, Quirks, StreamDecoder, StreamEncoder
from proxy.formats.gemini import embeddings as gemini_embeddings
from proxy.formats.metering import OutputMeter
from proxy.formats.neutral import (
    BadAnswer,
    Event,
    Failed,
    Failure,
    Inexpressible,
    Part,
    PartDelta,
    Refusal,
    Request,
    Response,
    Text,
    Thinking,
    ToolCall,
    Usage,
    UsageSeen,
    stated,
)
from proxy.formats.openai_chat.relay import RelayedRequest
from proxy.formats.openai_chat.relay import input_bound as openai_chat_bound
from proxy.formats.tokens import tokens_in_text
from proxy.operations import Operation

CODECS: dict[str, ModuleType] = {codec.NAME: codec for codec in (openai_chat, openai_responses, anthropic, gemini)}
EMBEDDERS: dict[str, Embedder] = {
    openai_chat.NAME: openai_embeddings,
    openai_responses.NAME: openai_embeddings,
    gemini.NAME: gemini_embeddings,
}
"""By the format that a provider is reached by; OpenAI has one for vectors, whichever it has for answers."""
EMBEDDING_CALLS = (openai_embeddings.EmbeddingsCall, gemini_embeddings.EmbedCall, gemini_embeddings.BatchEmbedCall)
encode = msgspec.json.Encoder().encode


def plan(operation: Operation, incoming: Incoming, account: Account) -> Incoming:
    """How to reach a provider: in the client's own format where it speaks that one, else through the hub.

    Raises BadRequest, and GatewayError where the operation has no counterpart there.
    """
    spoken = account.format_for(operation.format)
    if spoken == operation.format:
        return incoming
    if operation.convertible:
        return Conversion(incoming, operation.format, spoken, account.provider.quirks)
    if isinstance(incoming, EMBEDDING_CALLS) and spoken in EMBEDDERS:
        return EmbeddingsConversion(incoming, operation.format, spoken)
    raise errors.format_not_served(incoming.call.model, account.provider.name)


class Conversion(WithoutAccountIds):
    """Behaves like a relay of the client's own format, but speaks the target's to the provider.

    `dropped` names the settings that the target cannot express, once the provider's body has been made.
    """

    def __init__(self, incoming: Incoming, client: str, target: str, quirks: Quirks) -> None:
        """Raises BadRequest."""
        self.incoming, self.body = incoming, incoming.body
        self.call = replace(incoming.call, unbounded=(), of_other_models=())  # What no format reads ends here.
        self.client, self.target, self.quirks = CODECS[client], CODECS[target], quirks
        self.request = self.client.parse_request(incoming.body, self.call.model, self.call.stream)
        self.dropped: list[str] = []
        self.response: Response | None = None
        if target == openai_chat.NAME:
            self.call = replace(self.call, input_bound=max(self.call.input_bound, self.chat_bound()))
        if client == openai_responses.NAME and (fields := openai_responses.stateful_fields(self.request)):
            raise Inexpressible(f"{fields[0]} works only with models that are served by the Responses API.", fields[0])

    def chat_bound(self) -> int:
        """What the provider's own relay would count: the demo model charges by that."""
        rendered = self.target.render_request(self.request, self.quirks)
        return openai_chat_bound(msgspec.convert(rendered.body, RelayedRequest))

    def path(self, model: str) -> str:
        path: str = self.target.request_path(model, self.call.stream)
        return path

    def upstream_body(self, model: str, output_limit: int | None, _quirks: Quirks) -> bytes:
        """Raises Inexpressible for content and tools that the target's format has no words for."""
        limit = min((limit for limit in (self.request.max_tokens, output_limit) if limit is not None), default=None)
        rendered = self.target.render_request(replace(self.request, model=model, max_tokens=limit, wants_usage=True), self.quirks)
        self.dropped = rendered.dropped
        return encode(rendered.body)

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        """Reads the provider's answer; raises BadAnswer."""
        self.response = response = self.target.parse_response(body)
        if usage := stated(response.usage):
            return usage, 0
        return None, sum(tokens_in_text(written(part)) for choice in response.choices for part in choice.parts)

    def answer(self, body: bytes) -> bytes:
        """The answer that was measured, in the client's dialect."""
        if self.response is None:
            self.measure(body)
        answer: bytes = self.client.render_response(self.response, self.request)
        return answer

    def references(self) -> list[AccountReference]:
        """Return the ids of files, which are passed on between OpenAI's two formats.

        No other id reaches a provider of another format: the codecs refuse it, or leave it out.
        """
        if self.client.NAME.partition("_")[0] != self.target.NAME.partition("_")[0]:
            return []
        return [reference for reference in self.incoming.references() if reference.kind == FILE]

    @property
    def stream_type(self) -> str:
        return self.incoming.stream_type

    def keep_alive(self, passed: bytes) -> bytes:
        return self.incoming.keep_alive(passed)

    def encoder(self, request: Request) -> StreamEncoder:
        return self.incoming.encoder(request)

    def meter(self) -> "ConversionMeter":
        return ConversionMeter(self.target.StreamDecoder(), self.encoder(self.request))


def written(part: Part) -> str:
    match part:
        case Text() | Thinking() | Refusal():
            return part.text
        case ToolCall():
            return part.arguments
        case _:
            return ""


class EmbeddingsConversion(Conversion):
    """A request for vectors to a provider that is asked for them in another format."""

    def __init__(self, incoming: Embedding, client: str, target: str) -> None:
        """Raises BadRequest, and Inexpressible for what is no text."""
        self.incoming = self.asked = incoming
        self.call, self.body, self.dropped = incoming.call, incoming.body, incoming.unsaid()
        self.client, self.target, self.embedder = CODECS[client], CODECS[target], EMBEDDERS[target]
        self.texts, self.dimensions = incoming.texts(), incoming.dimensions()
        self.vectors: list[list[float]] = []
        self.usage: Usage | None = None

    def path(self, model: str) -> str:
        path, self.wanted = self.embedder.render_embed_request(self.texts, model, self.dimensions)
        return path

    def upstream_body(self, _model: str, _output_limit: int | None, _quirks: Quirks) -> bytes:
        return encode(self.wanted)

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        """Raises BadAnswer."""
        self.vectors, self.usage = self.embedder.parse_embed_response(body)
        if len(self.vectors) != len(self.texts):
            raise BadAnswer(f"The provider's answer holds {len(self.vectors)} embeddings for {len(self.texts)} texts.")
        return stated(self.usage), 0

    def answer(self, body: bytes) -> bytes:
        return self.asked.render_answer(self.vectors, self.usage)


class ConversionMeter(OutputMeter):
    """Turns the provider's stream into the client's, and reads it as it passes."""

    def __init__(self, decoder: StreamDecoder, encoder: StreamEncoder) -> None:
        self.decoder, self.encoder = decoder, encoder
        self.last_usage: Usage | None = None
        self.failure: Failure | None = None
        self.provider_failed = False

    @property
    def usage(self) -> Usage | None:
        """What the provider stated; if it has not stated the final output, at least what was seen of it."""
        usage = stated(self.last_usage)
        return replace(usage, output=max(usage.output, self.output_seen)) if usage and usage.estimated else usage

    def feed(self, data: bytes) -> bytes:
        return b"".join(map(self.pass_on, self.decoder.feed(data)))

    def finish(self) -> bytes:
        passed = b"".join(map(self.pass_on, self.decoder.finish()))
        return passed if self.failure else passed + self.encoder.finish()

    def error_event(self, failure: Failure, request_id: str) -> bytes:
        return self.encoder.error_event(failure, request_id)

    def pass_on(self, event: Event) -> bytes:
        if self.failure is not None:
            return b""
        match event:
            case Failed():
                self.failure = event.failure  # told by `error_event`, which knows the request's id
                return b""
            case UsageSeen():
                self.last_usage = event.usage
                event = UsageSeen(usage=self.usage or event.usage)
            case PartDelta():
                self.count(tokens_in_text(event.text))
            case _:
                pass
        return self.encoder.encode(event)
