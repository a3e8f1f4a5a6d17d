"""Plans for calling a provider: in the client's own format, or converted through the neutral types."""

import dataclasses
from collections.abc import Callable
from functools import cached_property

import msgspec
from msgspec.structs import replace

from proxy import errors
from proxy.formats import openai_responses
from proxy.formats.account_ids import FILE, AccountReference, IdReader, WithoutAccountIds
from proxy.formats.codec import (
    ClientRequest,
    EmbeddingRequest,
    Meter,
    RenderedRequest,
    StreamDecoder,
    StreamEncoder,
)
from proxy.formats.constraints.adaptation import (
    AdaptedRequest,
    adapt,
    fit_body,
    has_tools_for_responses,
    min_output_tokens,
)
from proxy.formats.constraints.constraint import Destination
from proxy.formats.constraints.restoration import StreamRestorer, restore_response
from proxy.formats.gemini import embeddings as gemini_embeddings
from proxy.formats.json_body import guard_recursion, is_json_document
from proxy.formats.metering.billable import AUTO_TIER, MODALITIES, assume_modalities
from proxy.formats.metering.stream_meter import OutputMeter
from proxy.formats.neutral import (
    NO_DEFAULTS,
    ApiError,
    Event,
    Failed,
    InvalidRequest,
    InvalidUpstreamResponse,
    Request,
    RequestFacts,
    Started,
    UnsupportedFeature,
    Usage,
    UsageDefaults,
    reported_or_none,
)
from proxy.formats.openai_chat import embeddings
from proxy.formats.provider_errors import CONTEXT_LENGTH_CODE
from proxy.formats.quirks import Quirks
from proxy.formats.registry import CODECS, EMBEDDING_CODECS
from proxy.formats.streaming.sse import has_events
from proxy.formats.tools.target import adapt_to_target
from proxy.operations import Operation
from proxy.routing.targets import ParsedResponse, RenderedError, Target, UpstreamPlan, UpstreamRequest
from proxy.upstream.response import UpstreamResponse

encode = msgspec.json.Encoder().encode
JSON_TYPE = "application/json"


def plan_request(operation: Operation, client_request: ClientRequest, target: Target) -> UpstreamPlan:
    """Return the plan for a target. The plan is a conversion if the provider lacks the client's format.

    Raises InvalidRequest, and GatewayError if the provider's format has no counterpart of the operation.
    """
    account, client_format = target.account, operation.format
    provider_format, quirks = account.format_for(client_format), account.provider.quirks
    destination = Destination(account.provider.slug, provider_format, target.model)
    if provider_format == client_format:
        if operation.convertible and (target.is_substitute or operation.has_envelope):
            return FittedPassThrough(client_request, destination, quirks)
        return PassThrough(client_request, destination, quirks)
    if operation.convertible:
        request = parse_request(client_request, client_format)
        destination = destination_of(request, target, destination)
        return ConvertedRequest(client_request, client_format, request, destination, quirks)
    match client_request:
        case (
            embeddings.CreateEmbeddingRequest()
            | gemini_embeddings.EmbedContentRequest()
            | gemini_embeddings.BatchEmbedContentsRequest()
        ) if provider_format in EMBEDDING_CODECS:
            return ConvertedEmbeddingRequest(client_request, client_format, provider_format, target.model)
    raise errors.format_not_convertible(client_request.facts.model, account.provider.name)


def parse_request(client_request: ClientRequest, client_format: str) -> Request:
    """Return the neutral form of a client's request. Raises InvalidRequest."""
    facts = client_request.facts
    return guard_recursion(
        CODECS[client_format].parse_request, client_request.fields, facts.model, facts.stream
    )


def destination_of(request: Request, target: Target, destination: Destination) -> Destination:
    """Return the destination of a converted request.

    The destination is the Responses API if the account has this API and the request needs it. For newer
    models, OpenAI's chat completions do not accept tools together with a reasoning effort.
    """
    is_available = openai_responses.FORMAT in target.account.formats
    if is_available and has_tools_for_responses(request, destination):
        return dataclasses.replace(destination, format=openai_responses.FORMAT)
    return destination


def media_type(response: UpstreamResponse) -> str:
    """Return the content type that the provider states; empty if it states none."""
    return response.headers.get("content-type", "")


def is_json(response: UpstreamResponse) -> bool:
    """Return whether the provider sent a non-streaming response.

    It may do so although a stream was requested.
    """
    return media_type(response).startswith("application/json")


def no_keepalive(_sent_tail: bytes) -> bytes:
    return b""


def opening_error(decoder: StreamDecoder, data: bytes, is_complete: bool) -> ApiError | None:
    """Return the error that a stream begins with; None if it begins with output or usage.

    `is_complete` is true if the provider has ended the stream after `data`.
    """
    events = decoder.feed(data)
    if is_complete:
        events += decoder.finish()
    for event in events:
        match event:
            case Started():
                continue
            case Failed():
                return event.error
            case _:
                return None
    return None


class PassThrough:
    """Plan for a provider of the client's own format: the request and the response pass unchanged.

    The exceptions are the model's name, the output limit, and seals. The gateway has put the seals into the
    history to carry the thinking of other vendors, so it removes them.
    """

    def __init__(self, client_request: ClientRequest, destination: Destination, quirks: Quirks) -> None:
        self.client_request, self.destination, self.quirks = client_request, destination, quirks
        self.codec = CODECS[destination.format]

    @cached_property
    def facts(self) -> RequestFacts:
        """The facts of the client's request, with the lowest output limit that the gateway may set."""
        facts, least = self.client_request.facts, min_output_tokens(self.destination)
        return facts if least == facts.min_output_tokens else replace(facts, min_output_tokens=least)

    def render_upstream(self, max_tokens: int | None) -> UpstreamRequest:
        """Return the client's body with the provider's model name and the gateway's limit."""
        request, model = self.client_request, self.destination.model
        passed = request.upstream_body(model, max_tokens, self.quirks)
        body, dropped = self.codec.without_seals(passed, request.fields, self.destination)
        return UpstreamRequest(request.path(model), body, dropped)

    def is_stream(self, response: UpstreamResponse) -> bool:
        """Return whether the provider sends a stream, according to its status and content type."""
        return self.facts.stream and response.status < 400 and not is_json(response)

    def content_type(self, response: UpstreamResponse) -> str:
        """Return the content type of the client's format for a stream, else the provider's."""
        streams = self.facts.stream and response.status < 400 and self._sends_events(response)
        return self.client_request.stream_content_type if streams else media_type(response)

    def keepalive(self, response: UpstreamResponse) -> Callable[[bytes], bytes]:
        """Return the renderer of keep-alives.

        It renders nothing if the body is not a stream of events, because keep-alives would corrupt such a
        body.
        """
        return self.client_request.render_keepalive if self._sends_events(response) else no_keepalive

    def _sends_events(self, response: UpstreamResponse) -> bool:
        return "event-stream" in media_type(response)

    def meter(self) -> Meter:
        """Return a new meter, which forwards the stream unchanged."""
        return self.client_request.meter()

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        """Return the reported usage and 0, or None and the gateway's count of the output tokens."""
        return self.client_request.measure(body)

    def billed_items(self, body: bytes) -> Usage:
        """Return the service tier and the calls of server tools of a response that reports no usage."""
        return self.codec.billed_items(body, self.facts.usage_defaults)

    def parse_response(self, body: bytes) -> ParsedResponse:
        """Measure a response. The client gets the same bytes. Raises InvalidUpstreamResponse.

        A body that reports usage is JSON, so only other bodies are checked. Some servers declare their
        streams as JSON.
        """
        usage, output_tokens = self.measure(body)
        if usage is None and not is_json_document(body) and not (self.facts.stream and has_events(body)):
            raise InvalidUpstreamResponse("The provider's response is not JSON.")
        return ParsedResponse(usage, output_tokens, lambda: body)

    def parse_error(self, status: int, body: bytes) -> ApiError:
        """Return the error of a provider's error response."""
        return self.codec.parse_error(status, body)

    def opening_error(self, data: bytes, *, is_complete: bool) -> ApiError | None:
        """Return the error that opens a stream, or None."""
        return opening_error(self.codec.parse_stream(), data, is_complete)

    def passes_error(self, error: ApiError, body: bytes) -> bool:
        """Return whether the client gets the provider's error body unchanged.

        The body is changed if agents would not recognise the text with which a compatible server rejects a
        prompt that is too long.
        """
        marker = self.codec.CONTEXT_LENGTH_WORDS.marker.encode()
        return error.code != CONTEXT_LENGTH_CODE or error.code.encode() in body or marker in body

    def render_error(self, error: ApiError, request_id: str) -> RenderedError:
        """Return an error in the client's format."""
        return RenderedError(error.status, JSON_TYPE, self.codec.render_error(error, request_id))

    def references(self) -> list[AccountReference]:
        """Return the objects of the provider's account that the request names. Raises InvalidRequest."""
        return self.client_request.references()

    def id_reader(self) -> IdReader | None:
        """Return a reader of the ids that the response issues; None if it issues none."""
        return self.client_request.id_reader()


class FittedPassThrough(PassThrough):
    """Plan for a request to a model that the client did not choose. The body is fitted to this model."""

    def render_upstream(self, max_tokens: int | None) -> UpstreamRequest:
        """Return the client's body without the settings that the model rejects."""
        passed = super().render_upstream(max_tokens)
        try:
            request = parse_request(self.client_request, self.destination.format)
        except InvalidRequest:
            # The body has a feature that the gateway does not know. It is sent unchanged, and the provider
            # decides.
            return passed
        body, dropped = fit_body(passed.body, request, self.destination, self.quirks)
        return dataclasses.replace(passed, body=body, dropped=(*passed.dropped, *dropped))


class Converted(WithoutAccountIds):
    """The common part of all plans that convert between two formats."""

    def __init__(
        self, client_request: ClientRequest, client_format: str, provider_format: str, model: str
    ) -> None:
        """Keep the client's request and the formats; `model` is the model's name at the provider."""
        self.client_request, self.model = client_request, model
        self.client_codec, self.provider_codec = CODECS[client_format], CODECS[provider_format]

    def is_stream(self, response: UpstreamResponse) -> bool:
        """Return whether the client gets a stream.

        A decoder also accepts a non-streaming body, so this does not depend on the response.
        """
        return self.client_request.facts.stream and response.status < 400

    def content_type(self, response: UpstreamResponse) -> str:
        """Return the content type of the client's format."""
        return self.client_request.stream_content_type if self.is_stream(response) else "application/json"

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        """Return the reported usage and 0, or None and the gateway's count of the output tokens."""
        return self.provider_codec.measure(body)

    def billed_items(self, body: bytes) -> Usage:
        """Return the service tier and the calls of server tools of a response that reports no usage."""
        return self.provider_codec.billed_items(body, NO_DEFAULTS)

    def keepalive(self, _response: UpstreamResponse) -> Callable[[bytes], bytes]:
        """Return the renderer of keep-alives."""
        return self.client_request.render_keepalive

    def parse_error(self, status: int, body: bytes) -> ApiError:
        """Return the error of a provider's error response."""
        return self.provider_codec.parse_error(status, body)

    def opening_error(self, data: bytes, *, is_complete: bool) -> ApiError | None:
        """Return the error that opens a stream, or None."""
        return opening_error(self.provider_codec.parse_stream(), data, is_complete)

    def passes_error(self, _error: ApiError, _body: bytes) -> bool:
        """Return False: the client cannot read errors of another format."""
        return False

    def render_error(self, error: ApiError, request_id: str) -> RenderedError:
        """Return an error in the client's format."""
        return RenderedError(error.status, JSON_TYPE, self.client_codec.render_error(error, request_id))

    def references(self) -> list[AccountReference]:
        """Return the ids of files, which pass between the two formats of OpenAI.

        No other id reaches a provider of another format, because codecs reject or drop it.
        """
        if self.client_codec.FORMAT.partition("_")[0] != self.provider_codec.FORMAT.partition("_")[0]:
            return []
        return [reference for reference in self.client_request.references() if reference.kind == FILE]


class ConvertedRequest(Converted):
    """Plan for a generation request to a provider of another format."""

    def __init__(
        self,
        client_request: ClientRequest,
        client_format: str,
        request: Request,
        destination: Destination,
        quirks: Quirks,
    ) -> None:
        """Adapt the neutral form of the client's request to its destination. Raises UnsupportedFeature."""
        super().__init__(client_request, client_format, destination.format, destination.model)
        if client_format == openai_responses.FORMAT and (
            features := openai_responses.stateful_features(request)
        ):
            raise UnsupportedFeature(
                f"{features[0]} works only with models that are served by the Responses API.", features[0]
            )
        self.quirks, facts = quirks, client_request.facts
        self.request, request = request, replace(request, model=destination.model)
        offered = self.provider_codec.server_tools_for(request, quirks)
        request, self.left_out = adapt_to_target(request, self.provider_codec.FORMAT, offered)
        self.adapted = guard_recursion(adapt, request, destination)
        self.facts = self.facts_as_sent(adapted_facts(facts, self.request, self.adapted))

    @cached_property
    def rendered(self) -> RenderedRequest:
        """The request in the provider's format, with the client's limit. Raises UnsupportedFeature."""
        request = replace(self.adapted.request, model=self.model, wants_usage=True)
        rendered = self.provider_codec.render_request(request, self.quirks)
        rendered.dropped = list(dict.fromkeys([*self.left_out, *self.adapted.changes, *rendered.dropped]))
        return rendered

    def facts_as_sent(self, facts: RequestFacts) -> RequestFacts:
        """Return the facts with the bounds of the rendered request, whose tools differ from the client's."""
        sent = self.provider_codec.rendered_facts(self.rendered.body, facts.model)
        modalities = {
            kind: tokens for kind, tokens in facts.max_billable_extras.items() if kind in MODALITIES
        }
        return replace(
            facts,
            max_input_tokens=max(facts.max_input_tokens, sent.max_input_tokens),
            max_billable_extras=modalities | sent.max_billable_extras,
        )

    def render_upstream(self, max_tokens: int | None) -> UpstreamRequest:
        """Return the request in the provider's format, with the lower of both output limits.

        Raises UnsupportedFeature for content and tools that the provider's format cannot express.
        """
        rendered = self.rendered
        del self.rendered  # A stream may last for minutes, so release the memory.
        if max_tokens is not None and self._allows_lower_limit(max_tokens):
            request = replace(self.adapted.request, model=self.model, max_tokens=max_tokens)
            self.provider_codec.render_max_tokens(rendered, request, self.quirks)
        path = self.provider_codec.request_path(self.model, self.facts.stream)
        body, dropped = encode(rendered.body), tuple(rendered.dropped)
        return UpstreamRequest(path, body, dropped, format=self.provider_codec.FORMAT)

    def _allows_lower_limit(self, max_tokens: int) -> bool:
        limit = self.adapted.request.max_tokens
        is_lower = limit is None or max_tokens < limit
        return is_lower and "max_tokens" not in self.quirks.unsupported_for(self.model)

    def render_error(self, error: ApiError, request_id: str) -> RenderedError:
        """Return an error in the client's format.

        A client of streamed Responses gets the error of a prompt that is too long as OpenAI sends it: in a
        failed response, not as a status. Codex compacts its history only if it gets the error in this form.
        """
        if self.client_codec.FORMAT != openai_responses.FORMAT or not (
            self.facts.stream and error.code == CONTEXT_LENGTH_CODE
        ):
            return super().render_error(error, request_id)
        failed = self.client_request.encoder(self.request).render_error_event(error, request_id)
        return RenderedError(200, self.client_request.stream_content_type, failed)

    def parse_response(self, body: bytes) -> ParsedResponse:
        """Parse the provider's response. Raises InvalidUpstreamResponse."""
        response = restore_response(self.provider_codec.parse_response(body), self.adapted.aliases)
        usage, output_tokens = reported_or_none(response.usage), 0
        if usage is None:
            usage, output_tokens = self.measure(body)
        usage = assume_modalities(usage, self.facts.usage_defaults.modalities)
        return ParsedResponse(
            usage, output_tokens, lambda: self.client_codec.render_response(response, self.request)
        )

    def meter(self) -> "ConvertedStreamMeter":
        """Return a new meter, which converts the stream."""
        return ConvertedStreamMeter(
            self.provider_codec.parse_stream(),
            self.client_request.encoder(self.request),
            StreamRestorer(self.adapted.aliases),
            self.facts.usage_defaults,
        )


def adapted_facts(facts: RequestFacts, request: Request, adapted: AdaptedRequest) -> RequestFacts:
    """Return the facts of the adapted request, with its limits and its number of choices.

    Unknown fields, service tiers and requests for audio do not reach a provider of another format, so they
    cannot raise the cost. Audio in the input does.
    """
    modalities = tuple(kind for kind in facts.usage_defaults.modalities if kind in MODALITIES)
    limit, n = adapted.request.max_tokens, adapted.request.n
    if (limit, n) != (request.max_tokens, request.n) or facts.fixed_max_output is not None:
        facts = replace(facts, n=n, max_output_tokens=None if limit is None else limit * n)
    return replace(
        facts,
        min_output_tokens=adapted.min_tokens,
        fixed_max_output=None,
        unbounded_cost_fields=(),
        other_model_fields=(),
        writes_12h_cache=False,
        service_tier=AUTO_TIER,
        requested_tiers=(),
        usage_defaults=UsageDefaults(modalities=modalities) if modalities else NO_DEFAULTS,
    )


class ConvertedEmbeddingRequest(Converted):
    """Plan for an embedding request to a provider of another format."""

    def __init__(
        self, client_request: EmbeddingRequest, client_format: str, provider_format: str, model: str
    ) -> None:
        """Parse the texts. Raises InvalidRequest, and UnsupportedFeature for input that is not text."""
        super().__init__(client_request, client_format, provider_format, model)
        self.embedding_request = client_request
        self.embedding_codec = EMBEDDING_CODECS[provider_format]
        self.facts = client_request.facts
        self.dropped = tuple(client_request.unsupported_settings())
        self.texts, self.dimensions = client_request.texts(), client_request.dimensions()

    def render_upstream(self, _max_tokens: int | None) -> UpstreamRequest:
        """Return the request in the provider's format."""
        path, body = self.embedding_codec.render_embed_request(self.texts, self.model, self.dimensions)
        return UpstreamRequest(path, encode(body), self.dropped)

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        """Return the reported usage, or None; and 0 output tokens."""
        return self.embedding_codec.measure(body)

    def parse_response(self, body: bytes) -> ParsedResponse:
        """Parse the vectors. Raises InvalidUpstreamResponse unless each text has one vector."""
        vectors, usage = self.embedding_codec.parse_embed_response(body)
        if len(vectors) != len(self.texts):
            raise InvalidUpstreamResponse(
                f"The provider's response has {len(vectors)} embeddings for {len(self.texts)} texts."
            )
        return ParsedResponse(
            reported_or_none(usage), 0, lambda: self.embedding_request.render_response(vectors, usage)
        )

    def meter(self) -> Meter:
        """Return the meter of the client's format. Embeddings are never streamed."""
        return self.client_request.meter()


class ConvertedStreamMeter(OutputMeter):
    """Converts the provider's stream into the client's. The decoder's usage reader meters it."""

    def __init__(
        self,
        decoder: StreamDecoder,
        encoder: StreamEncoder,
        restorer: StreamRestorer,
        defaults: UsageDefaults = NO_DEFAULTS,
    ) -> None:
        super().__init__(decoder.usage_reader)
        self.decoder, self.encoder, self.restorer, self.defaults = decoder, encoder, restorer, defaults

    @property
    def usage(self) -> Usage | None:
        """Return the reported usage. Media of the request that it does not report are added."""
        return assume_modalities(self.reader.usage, self.defaults.modalities)

    def feed(self, data: bytes) -> bytes:
        """Convert bytes from the provider into bytes for the client."""
        return b"".join(map(self.forward_event, self.decoder.feed(data)))

    def finish(self) -> bytes:
        """Return the end of the client's stream. After a failure, the result is empty."""
        passed = b"".join(map(self.forward_event, self.decoder.finish()))
        return passed if self.error else passed + self.encoder.finish()

    def render_error_event(self, error: ApiError, request_id: str) -> bytes:
        """Render a failure, which replaces the rest of the stream, in the client's format."""
        return self.encoder.render_error_event(error, request_id)

    def forward_event(self, event: Event) -> bytes:
        """Render an event in the client's format. After a failure, the result is empty."""
        if self.error is not None:
            return b""
        if isinstance(event, Failed):
            self.error = (
                event.error
            )  # `render_error_event` reports the failure, because it gets the request's id.
            return b""
        return b"".join(map(self.encoder.encode, self.restorer.restore(event)))
