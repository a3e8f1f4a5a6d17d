"""A request in one format on its way to a provider that speaks another, through the neutral hub."""

from types import ModuleType

import msgspec
from msgspec.structs import replace

from proxy import errors
from proxy.formats import anthropic, gemini, openai_chat, openai_responses
from proxy.formats.account_ids import FILE, AccountReference, WithoutAccountIds
from proxy.formats.codec import ClientRequest, EmbeddingCodec, EmbeddingRequest, StreamDecoder, StreamEncoder
from proxy.formats.gemini import embeddings as gemini_embeddings
from proxy.formats.metering.stream_meter import OutputMeter
from proxy.formats.metering.token_counts import estimate_text_tokens
from proxy.formats.neutral import (
    ApiError,
    Event,
    Failed,
    InvalidUpstreamResponse,
    Part,
    PartDelta,
    Refusal,
    Request,
    Response,
    Text,
    Thinking,
    ToolCall,
    UnsupportedFeature,
    Usage,
    UsageReported,
    stated,
)
from proxy.formats.openai_chat import embeddings
from proxy.formats.openai_chat.passthrough import max_input_tokens as openai_chat_bound
from proxy.formats.openai_chat.wire import RequestFields
from proxy.formats.quirks import Quirks
from proxy.operations import Operation
from proxy.routing.accounts import Account

CODECS: dict[str, ModuleType] = {
    codec.FORMAT: codec for codec in (openai_chat, openai_responses, anthropic, gemini)
}
EMBEDDING_CODECS: dict[str, EmbeddingCodec] = {
    openai_chat.FORMAT: embeddings,
    openai_responses.FORMAT: embeddings,
    gemini.FORMAT: gemini_embeddings,
}
"""By the format that a provider is reached by; OpenAI has one for vectors, whichever it has for answers."""
EMBEDDING_REQUEST_TYPES = (
    embeddings.CreateEmbeddingRequest,
    gemini_embeddings.EmbedContentRequest,
    gemini_embeddings.BatchEmbedContentsRequest,
)
encode = msgspec.json.Encoder().encode


def plan_request(operation: Operation, client_request: ClientRequest, account: Account) -> ClientRequest:
    """How to reach a provider: in the client's own format where it speaks that one, else through the hub.

    Raises BadRequest, and GatewayError where the operation has no counterpart there.
    """
    spoken = account.format_for(operation.format)
    if spoken == operation.format:
        return client_request
    if operation.convertible:
        return ConvertedRequest(client_request, operation.format, spoken, account.provider.quirks)
    if isinstance(client_request, EMBEDDING_REQUEST_TYPES) and spoken in EMBEDDING_CODECS:
        return ConvertedEmbeddingRequest(client_request, operation.format, spoken)
    raise errors.format_not_convertible(client_request.facts.model, account.provider.name)


class ConvertedRequest(WithoutAccountIds):
    """Behaves like a relay of the client's own format, but speaks the target's to the provider.

    `dropped` names the settings that the target cannot express, once the provider's body has been made.
    """

    def __init__(
        self, client_request: ClientRequest, client_format: str, provider_format: str, quirks: Quirks
    ) -> None:
        """Raises BadRequest."""
        self.client_request, self.body = client_request, client_request.body
        self.facts = replace(
            client_request.facts, unbounded_cost_fields=(), other_model_fields=()
        )  # What no format reads ends here.
        self.client_codec, self.provider_codec, self.quirks = (
            CODECS[client_format],
            CODECS[provider_format],
            quirks,
        )
        self.request = self.client_codec.parse_request(
            client_request.body, self.facts.model, self.facts.stream
        )
        self.dropped: list[str] = []
        self.parsed_response: Response | None = None
        if provider_format == openai_chat.FORMAT:
            self.facts = replace(
                self.facts, max_input_tokens=max(self.facts.max_input_tokens, self.demo_input_bound())
            )
        if client_format == openai_responses.FORMAT and (
            fields := openai_responses.stateful_fields(self.request)
        ):
            raise UnsupportedFeature(
                f"{fields[0]} works only with models that are served by the Responses API.", fields[0]
            )

    def demo_input_bound(self) -> int:
        """What the provider's own relay would count: the demo model charges by that."""
        rendered = self.provider_codec.render_request(self.request, self.quirks)
        return openai_chat_bound(msgspec.convert(rendered.body, RequestFields))

    def path(self, model: str) -> str:
        path: str = self.provider_codec.request_path(model, self.facts.stream)
        return path

    def upstream_body(self, model: str, max_tokens: int | None, _quirks: Quirks) -> bytes:
        """Raises Inexpressible for content and tools that the target's format has no words for."""
        limit = min(
            (limit for limit in (self.request.max_tokens, max_tokens) if limit is not None), default=None
        )
        rendered = self.provider_codec.render_request(
            replace(self.request, model=model, max_tokens=limit, wants_usage=True), self.quirks
        )
        self.dropped = rendered.dropped
        return encode(rendered.body)

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        """Reads the provider's answer; raises BadAnswer."""
        self.parsed_response = response = self.provider_codec.parse_response(body)
        if usage := stated(response.usage):
            return usage, 0
        return None, sum(
            estimate_text_tokens(generated_text(part)) for choice in response.choices for part in choice.parts
        )

    def render_response(self, body: bytes) -> bytes:
        """The answer that was measured, in the client's dialect."""
        if self.parsed_response is None:
            self.measure(body)
        answer: bytes = self.client_codec.render_response(self.parsed_response, self.request)
        return answer

    def references(self) -> list[AccountReference]:
        """Return the ids of files, which are passed on between OpenAI's two formats.

        No other id reaches a provider of another format: the codecs refuse it, or leave it out.
        """
        if self.client_codec.FORMAT.partition("_")[0] != self.provider_codec.FORMAT.partition("_")[0]:
            return []
        return [reference for reference in self.client_request.references() if reference.kind == FILE]

    @property
    def stream_content_type(self) -> str:
        return self.client_request.stream_content_type

    def render_keepalive(self, sent_tail: bytes) -> bytes:
        return self.client_request.render_keepalive(sent_tail)

    def encoder(self, request: Request) -> StreamEncoder:
        return self.client_request.encoder(request)

    def meter(self) -> "ConvertedStreamMeter":
        return ConvertedStreamMeter(self.provider_codec.StreamDecoder(), self.encoder(self.request))


def generated_text(part: Part) -> str:
    match part:
        case Text() | Thinking() | Refusal():
            return part.text
        case ToolCall():
            return part.arguments
        case _:
            return ""


class ConvertedEmbeddingRequest(ConvertedRequest):
    """A request for vectors to a provider that is asked for them in another format."""

    def __init__(self, client_request: EmbeddingRequest, client_format: str, provider_format: str) -> None:
        """Raises BadRequest, and Inexpressible for what is no text."""
        self.client_request = self.embedding_request = client_request
        self.facts, self.body, self.dropped = (
            client_request.facts,
            client_request.body,
            client_request.unsupported_settings(),
        )
        self.client_codec, self.provider_codec, self.embedding_codec = (
            CODECS[client_format],
            CODECS[provider_format],
            EMBEDDING_CODECS[provider_format],
        )
        self.texts, self.dimensions = client_request.texts(), client_request.dimensions()
        self.vectors: list[list[float]] = []
        self.usage: Usage | None = None

    def path(self, model: str) -> str:
        path, self.upstream_json = self.embedding_codec.render_embed_request(
            self.texts, model, self.dimensions
        )
        return path

    def upstream_body(self, _model: str, _output_limit: int | None, _quirks: Quirks) -> bytes:
        return encode(self.upstream_json)

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        """Raises BadAnswer."""
        self.vectors, self.usage = self.embedding_codec.parse_embed_response(body)
        if len(self.vectors) != len(self.texts):
            raise InvalidUpstreamResponse(
                f"The provider's answer holds {len(self.vectors)} embeddings for {len(self.texts)} texts."
            )
        return stated(self.usage), 0

    def render_response(self, body: bytes) -> bytes:
        return self.embedding_request.render_response(self.vectors, self.usage)


class ConvertedStreamMeter(OutputMeter):
    """Turns the provider's stream into the client's, and reads it as it passes."""

    def __init__(self, decoder: StreamDecoder, encoder: StreamEncoder) -> None:
        self.decoder, self.encoder = decoder, encoder
        self.last_usage: Usage | None = None
        self.error: ApiError | None = None
        self.provider_failed = False

    @property
    def usage(self) -> Usage | None:
        """What the provider stated; if it has not stated the final output, at least what was seen of it."""
        usage = stated(self.last_usage)
        return (
            replace(usage, output=max(usage.output, self.output_tokens))
            if usage and usage.estimated
            else usage
        )

    def feed(self, data: bytes) -> bytes:
        return b"".join(map(self.forward_event, self.decoder.feed(data)))

    def finish(self) -> bytes:
        passed = b"".join(map(self.forward_event, self.decoder.finish()))
        return passed if self.error else passed + self.encoder.finish()

    def render_error_event(self, error: ApiError, request_id: str) -> bytes:
        return self.encoder.render_error_event(error, request_id)

    def forward_event(self, event: Event) -> bytes:
        if self.error is not None:
            return b""
        match event:
            case Failed():
                self.error = event.error  # told by `render_error_event`, which knows the request's id
                return b""
            case UsageReported():
                self.last_usage = event.usage
                event = UsageReported(usage=self.usage or event.usage)
            case PartDelta():
                self.add_tokens(estimate_text_tokens(event.text))
            case _:
                pass
        return self.encoder.encode(event)
