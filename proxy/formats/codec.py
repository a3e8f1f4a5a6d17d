"""The protocols that every wire format fulfils, with one package for each format.

Codecs are pure: bytes in, bytes or neutral types out. They do no I/O and read no clock except for `created`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from proxy.formats.account_ids import AccountReference, IdReader
from proxy.formats.constraints.constraint import Destination
from proxy.formats.metering.usage_reader import UsageReader
from proxy.formats.neutral import (
    ApiError,
    Event,
    Origin,
    Request,
    RequestFacts,
    Response,
    Usage,
)
from proxy.formats.provider_errors import ContextLengthWords
from proxy.formats.quirks import Quirks
from proxy.formats.tools.offers import Settings


@dataclass(slots=True)
class RenderedRequest:
    """A request in a provider's format.

    `body` is the JSON object to send. `dropped` names the settings that the format cannot express, by the
    client's names.
    """

    body: dict[str, Any]
    dropped: list[str] = field(default_factory=list)


class StreamDecoder(Protocol):
    """Reads a provider's stream, cut at any byte, as neutral events.

    It never raises: a stream that cannot be read ends with Failed.
    """

    @property
    def usage_reader(self) -> UsageReader:
        """The reader of the usage; `feed` and `finish` give it what the stream reports."""

    def feed(self, data: bytes, /) -> list[Event]:
        """Return the events that these bytes complete."""

    def finish(self) -> list[Event]:
        """Return the last events when the connection has ended.

        They close open parts. Failed is among them if the format shows that the response is incomplete.
        """


class StreamEncoder(Protocol):
    """Writes neutral events as a stream in the client's format."""

    def encode(self, event: Event, /) -> bytes:
        """Return the bytes of one event; they may be empty."""

    def finish(self) -> bytes:
        """Return what ends the stream, after Finished for every choice."""

    def render_error_event(self, error: ApiError, request_id: str, /) -> bytes:
        """Return an error event that takes the place of the rest of the stream."""


class Meter(Protocol):
    """Measures a stream while it passes."""

    @property
    def usage(self) -> Usage | None:
        """The usage that the provider reported; None if it reported none.

        It is marked as estimated if the gateway counted some of it.
        """

    @property
    def output_tokens(self) -> int:
        """The gateway's own count of output tokens."""

    @property
    def min_output_tokens(self) -> int:
        """The lower bound of the output tokens, if the count is an estimate."""

    @property
    def service_tier(self) -> str:
        """The service tier that the provider stated, perhaps before any usage; empty if it stated none."""

    @property
    def server_tool_calls(self) -> Mapping[str, int]:
        """Calls of the provider's own tools, by kind, that came before it reported any usage."""

    @property
    def error(self) -> ApiError | None:
        """The provider's failure, if the client has not seen it; no more of the stream is then passed on."""

    @property
    def provider_failed(self) -> bool:
        """True if the provider failed and the client saw it, because the provider's own error passed."""

    @property
    def saw_final_event(self) -> bool:
        """True if the last event has passed, in a format that has one; later bytes do not matter."""

    id_reader: IdReader | None
    """If set, reads every event too, for the ids of the provider's account that the stream issues."""

    def feed(self, data: bytes, /) -> bytes:
        """Take bytes from the provider and return those for the client."""

    def finish(self) -> bytes:
        """Return what the client still gets when the provider has closed the stream."""

    def render_error_event(self, error: ApiError, request_id: str, /) -> bytes:
        """Return an error event in the client's format that takes the place of the rest of the stream."""


class ClientRequest(Protocol):
    """A client's request, and how it is passed on to a provider of the same format."""

    @property
    def body(self) -> bytes: ...

    @property
    def fields(self) -> dict[str, Any]:
        """The body, decoded. Nothing may change it: the codec's `parse_request` reads it too."""

    @property
    def facts(self) -> RequestFacts: ...

    def path(self, model: str) -> str:
        """Return path and query below the provider's base URL."""

    def upstream_body(self, model: str, max_tokens: int | None, quirks: Quirks) -> bytes:
        """Return the client's bytes with the provider's model name and the fields that the gateway sets."""

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        """Return the usage that a non-streaming response reports, and 0.

        If it reports none, return None and the gateway's own count of output tokens.
        """

    def meter(self) -> Meter:
        """Return a meter for the stream that answers this request."""

    def references(self) -> list[AccountReference]:
        """Return the objects of the provider's account that the request names. Raises InvalidRequest."""

    def id_reader(self) -> IdReader | None:
        """Return a reader of the ids that a response issues; None for responses that issue none."""

    @property
    def stream_content_type(self) -> str:
        """The content type of this client's streams."""

    def render_keepalive(self, sent_tail: bytes) -> bytes:
        """Return a keep-alive for this client while the provider is silent.

        `sent_tail` is the end of what the client has received. The result is empty if a keep-alive cannot
        stand there.
        """

    def encoder(self, request: Request) -> StreamEncoder:
        """Return an encoder for a stream that comes from another format, as this client wants it."""


class EmbeddingRequest(ClientRequest, Protocol):
    """A client's request for embeddings, in the terms that providers of other formats share."""

    def texts(self) -> list[str]:
        """Return the texts to embed, each by itself. Raises UnsupportedFeature for other input."""

    def dimensions(self) -> int | None:
        """Return the length of a vector, if the client sets it. Raises InvalidRequest."""

    def unsupported_settings(self) -> list[str]:
        """Return the settings that no other format has, by the client's names."""

    def render_response(self, vectors: list[list[float]], usage: Usage | None) -> bytes:
        """Return the response to this request, made from another format's response."""


class EmbeddingCodec(Protocol):
    """A format's requests and responses for embeddings."""

    def render_embed_request(
        self, texts: list[str], model: str, dimensions: int | None, /
    ) -> tuple[str, dict[str, Any]]:
        """Return path and body of a request that embeds these texts, each by itself."""

    def measure(self, body: bytes, /) -> tuple[Usage | None, int]:
        """Return the usage that a response reports, or None; and 0 output tokens."""

    def parse_embed_response(self, body: bytes, /) -> tuple[list[list[float]], Usage | None]:
        """Return the vectors in the order of the texts, and the usage if the response reports it.

        Raises InvalidUpstreamResponse.
        """


class Codec(Protocol):
    """The public names of a format's package."""

    @property
    def FORMAT(self) -> Origin: ...  # noqa: N802

    @property
    def CONTEXT_LENGTH_WORDS(self) -> ContextLengthWords: ...  # noqa: N802

    def request_path(self, model: str, stream: bool, /) -> str:
        """Return path and query below a provider's base URL."""

    def parse_request(self, fields: dict[str, Any], model: str, stream: bool, /) -> Request:
        """Return the neutral form of a client's request, whose body has these fields. Raises InvalidRequest.

        `model` and `stream` are those of the client's request; in most formats, they are fields too. The
        caller handles RecursionError: a body can be nested too deeply to walk.
        """

    def server_tools_for(self, request: Request, quirks: Quirks, /) -> Settings:
        """Return the server tools that can be offered in a request, each with the settings that it has."""

    def render_request(self, request: Request, quirks: Quirks, /) -> RenderedRequest:
        """Return the request in this format; no tool or record in it is another vendor's own.

        Raises UnsupportedFeature for content and tools that this format cannot express.
        """

    def rendered_facts(self, body: dict[str, Any], model: str, /) -> RequestFacts:
        """Return the bounds of what a rendered request can use: input tokens, and calls of its tools."""

    def render_max_tokens(self, rendered: RenderedRequest, request: Request, quirks: Quirks, /) -> None:
        """Set the output limit of `request`, in a rendered form of the same request with another limit."""

    def without_seals(
        self, body: bytes, fields: Mapping[str, Any], destination: Destination, /
    ) -> tuple[bytes, tuple[str, ...]]:
        """Return the body of a request that is passed through, without the gateway's seals.

        What a seal holds of this format's own vendor is restored, and the thinking of others taken out.
        `fields` are the body's, decoded. The names are of settings that the vendor accepts only with the
        thinking that was taken out.
        """

    def parse_response(self, body: bytes, /) -> Response:
        """Return the neutral form of a non-streaming response. Raises InvalidUpstreamResponse."""

    def render_response(self, response: Response, request: Request, /) -> bytes:
        """Return a non-streaming response in this format; `request` is the client's."""

    def measure(self, body: bytes, /) -> tuple[Usage | None, int]:
        """Return the usage that a non-streaming response reports, and 0.

        If it reports none, return None and the gateway's own count of output tokens. `parse_response` reads
        usage alike; this also reads it from a response that cannot be converted.
        """

    def parse_stream(self) -> StreamDecoder:
        """Return a decoder for one stream of a provider."""

    def render_stream(self, request: Request, /) -> StreamEncoder:
        """Return an encoder for one stream to a client; `request` is the client's."""

    def parse_error(self, status: int, body: bytes, /) -> ApiError:
        """Return the neutral form of a provider's error response, whatever its body is."""

    def render_error(self, api_error: ApiError, request_id: str, /) -> bytes:
        """Return the body of an error response."""

    def render_error_event(self, api_error: ApiError, request_id: str, /) -> bytes:
        """Return the error as an event of a stream that has begun."""
