"""The interfaces that the package of each wire format implements.

Codecs convert bytes to neutral types and back. They do no input or output. Their results depend only on their
arguments, except for timestamps and new ids.
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
    UsageDefaults,
)
from proxy.formats.provider_errors import ContextLengthWords
from proxy.formats.quirks import Quirks
from proxy.formats.tools.offers import Settings


@dataclass(slots=True)
class RenderedRequest:
    """A request in a provider's format.

    `body` is the JSON object to send. `dropped` names the settings that the format cannot express, with the
    names that the client uses.
    """

    body: dict[str, Any]
    dropped: list[str] = field(default_factory=list)


class StreamDecoder(Protocol):
    """Decodes a provider's stream into neutral events. The chunks may end at any byte.

    It never raises an exception. If a stream cannot be decoded, its last event is Failed.
    """

    @property
    def usage_reader(self) -> UsageReader:
        """The usage reader of the stream. `feed` and `finish` update it."""

    def feed(self, data: bytes, /) -> list[Event]:
        """Return the events that these bytes complete."""

    def finish(self) -> list[Event]:
        """Return the last events, after the provider has closed the connection.

        These events end open parts. They include Failed if the response is not complete.
        """


class StreamEncoder(Protocol):
    """Encodes neutral events as a stream in the client's format."""

    def encode(self, event: Event, /) -> bytes:
        """Return the bytes for one event, which may be none."""

    def finish(self) -> bytes:
        """Return the bytes that end the stream.

        Call this after the Finished events of all choices.
        """

    def render_error_event(self, error: ApiError, request_id: str, /) -> bytes:
        """Render an error event, which replaces the rest of the stream."""


class Meter(Protocol):
    """Measures the usage and output of a stream while it is relayed."""

    @property
    def usage(self) -> Usage | None:
        """The usage that the provider reported; None if it reported none.

        It is marked as estimated if the gateway counted a part of it.
        """

    @property
    def output_tokens(self) -> int:
        """The gateway's count of output tokens."""

    @property
    def min_output_tokens(self) -> int:
        """The lower bound of the output tokens. The gateway's count is only an estimate."""

    @property
    def service_tier(self) -> str:
        """The service tier that the provider stated, possibly before any usage; empty if it stated none."""

    @property
    def server_tool_calls(self) -> Mapping[str, int]:
        """Calls of server tools that the meter counted, by kind.

        They are charged if the provider reports no usage.
        """

    @property
    def error(self) -> ApiError | None:
        """A failure of the provider that was not reported to the client, or None.

        After such a failure, nothing more is relayed.
        """

    @property
    def provider_failed(self) -> bool:
        """True if the provider failed, and its own error was relayed to the client."""

    @property
    def saw_final_event(self) -> bool:
        """True after the format's final event. A later failure does not make the stream incomplete.

        In a format without a final event, the value is always False.
        """

    id_reader: IdReader | None
    """If set, this reader also gets every event.

    It collects the ids of objects of the account that the stream contains.
    """

    def feed(self, data: bytes, /) -> bytes:
        """Convert bytes from the provider into bytes for the client."""

    def finish(self) -> bytes:
        """Return the last bytes for the client, after the provider has closed the stream."""

    def render_error_event(self, error: ApiError, request_id: str, /) -> bytes:
        """Render an error event in the client's format, which replaces the rest of the stream."""


class ClientRequest(Protocol):
    """A client's request, and the methods that pass it through to a provider of the same format."""

    @property
    def body(self) -> bytes: ...

    @property
    def fields(self) -> dict[str, Any]:
        """The decoded body. It must not be changed, because the codec's `parse_request` reads it too."""

    @property
    def facts(self) -> RequestFacts: ...

    def path(self, model: str) -> str:
        """Return the path and the query, relative to the provider's base URL."""

    def upstream_body(self, model: str, max_tokens: int | None, quirks: Quirks) -> bytes:
        """Return the client's body, with the provider's model name and the fields that the gateway sets."""

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        """Return the reported usage and 0, or None and the gateway's count of output tokens.

        The body is a non-streaming response.
        """

    def meter(self) -> Meter:
        """Return a meter for the streaming response to this request."""

    def references(self) -> list[AccountReference]:
        """Return the references to objects of the provider's account. Raises InvalidRequest."""

    def id_reader(self) -> IdReader | None:
        """Return a reader of the ids that the response contains, or None if it cannot contain any."""

    @property
    def stream_content_type(self) -> str:
        """The content type of streams for this client."""

    def render_keepalive(self, sent_tail: bytes) -> bytes:
        """Return bytes that keep the client's connection open while the provider sends nothing.

        `sent_tail` is the end of the data that was sent to the client. The result is empty if nothing can be
        inserted there, for example if the data ends inside of an event.
        """

    def encoder(self, request: Request) -> StreamEncoder:
        """Return the encoder for a stream of another format, with the client's stream options."""


class EmbeddingRequest(ClientRequest, Protocol):
    """A client's request for embeddings. Its methods are also used to convert the request."""

    def texts(self) -> list[str]:
        """Return the texts to embed. Raises UnsupportedFeature for other input."""

    def dimensions(self) -> int | None:
        """Return the length of a vector if the client sets it, otherwise None. Raises InvalidRequest."""

    def unsupported_settings(self) -> list[str]:
        """Return the settings that no other format supports, with the names that the client uses."""

    def render_response(self, vectors: list[list[float]], usage: Usage | None) -> bytes:
        """Render the response to this request, from vectors and usage of another format's response."""


class EmbeddingCodec(Protocol):
    """A format's requests and responses for embeddings."""

    def render_embed_request(
        self, texts: list[str], model: str, dimensions: int | None, /
    ) -> tuple[str, dict[str, Any]]:
        """Return the path and the body of a request that embeds each of these texts separately."""

    def measure(self, body: bytes, /) -> tuple[Usage | None, int]:
        """Return the reported usage, or None, and the number of output tokens, which is always 0."""

    def parse_embed_response(self, body: bytes, /) -> tuple[list[list[float]], Usage | None]:
        """Return the vectors in the order of the texts, and the usage if the response reports it.

        Raises InvalidUpstreamResponse.
        """


class Codec(Protocol):
    """The interface of a format's package."""

    @property
    def FORMAT(self) -> Origin: ...  # noqa: N802

    @property
    def CONTEXT_LENGTH_WORDS(self) -> ContextLengthWords: ...  # noqa: N802

    def request_path(self, model: str, stream: bool, /) -> str:
        """Return the path and the query, relative to a provider's base URL."""

    def parse_request(self, fields: dict[str, Any], model: str, stream: bool, /) -> Request:
        """Parse a client's request whose body has these fields. Raises InvalidRequest.

        `model` and `stream` are needed only by formats in which the URL contains them. The caller must handle
        RecursionError, because a body may be nested too deeply.
        """

    def server_tools_for(self, request: Request, quirks: Quirks, /) -> Settings:
        """Return the server tools that a request can offer, each with its supported settings."""

    def render_request(self, request: Request, quirks: Quirks, /) -> RenderedRequest:
        """Render the request. It must not contain tools or opaque parts of another vendor.

        Raises UnsupportedFeature for content and tools that this format cannot express.
        """

    def rendered_facts(self, body: dict[str, Any], model: str, /) -> RequestFacts:
        """Return upper bounds for a rendered request: its input tokens, and its calls of server tools."""

    def render_max_tokens(self, rendered: RenderedRequest, request: Request, quirks: Quirks, /) -> None:
        """Set the output limit of `request` in a rendered request.

        `rendered` is the result for the same request with another limit.
        """

    def without_seals(
        self, body: bytes, fields: Mapping[str, Any], destination: Destination, /
    ) -> tuple[bytes, tuple[str, ...]]:
        """Return the body of a request that passes through, without seals, and the dropped settings.

        Thinking of this format's vendor is restored from its seal. Thinking of other vendors is removed. A
        setting is dropped if the vendor accepts it only together with the removed thinking. `fields` is the
        decoded body.
        """

    def parse_response(self, body: bytes, /) -> Response:
        """Parse a non-streaming response. Raises InvalidUpstreamResponse."""

    def render_response(self, response: Response, request: Request, /) -> bytes:
        """Render a non-streaming response in this format. `request` is the client's request."""

    def measure(self, body: bytes, /) -> tuple[Usage | None, int]:
        """Return the reported usage and 0, or None and the gateway's count of output tokens.

        The body is a non-streaming response. The usage is the same as from `parse_response`, but it is found
        even if the response cannot be converted.
        """

    def billed_items(self, body: bytes, defaults: UsageDefaults, /) -> Usage:
        """Return the service tier and the server tool calls of a response that reports no usage.

        The token counts of the result are 0.
        """

    def parse_stream(self) -> StreamDecoder:
        """Return a decoder for one stream of a provider."""

    def render_stream(self, request: Request, /) -> StreamEncoder:
        """Return an encoder for one stream to a client. `request` is the client's request."""

    def parse_error(self, status: int, body: bytes, /) -> ApiError:
        """Parse a provider's error response, whose body may be any bytes."""

    def render_error(self, api_error: ApiError, request_id: str, /) -> bytes:
        """Render the body of an error response."""

    def render_error_event(self, api_error: ApiError, request_id: str, /) -> bytes:
        """Render the error as an event inside of a started stream."""
