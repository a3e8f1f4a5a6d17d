"""What every wire format provides: one package each, with the same files in it.

    request.py    parse_request, render_request
    response.py   parse_response, render_response, parse_error, render_error
    stream.py     StreamDecoder, StreamEncoder
    relay.py      what same-format relaying needs: the few facts of a request, and a meter that reads the stream as it passes

Everything is pure: bytes in, bytes or neutral types out, no clock but the one for `created`, no I/O.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

from proxy.formats.neutral import Call, Event, Failure, Request, Response, Usage


@dataclass(frozen=True, slots=True)
class Quirks:
    """What a particular server or model wants differently: facts as data."""

    output_limit_field: str = "max_tokens"
    unsupported: frozenset[str] = frozenset()
    """Names of settings (fields of `Request`) that it rejects."""


@dataclass(slots=True)
class Rendered:
    """A request in a target's words: JSON for its body, and the settings that its format cannot express, by the client's names."""

    body: dict[str, Any]
    dropped: list[str] = field(default_factory=list)


class StreamDecoder(Protocol):
    """A provider's stream, cut at any byte, as neutral events. It never raises: what cannot be read becomes Failed."""

    def feed(self, data: bytes) -> list[Event]: ...

    def finish(self) -> list[Event]:
        """At the end of the connection: closes open parts; adds Failed where the format says that the answer is incomplete."""


class StreamEncoder(Protocol):
    """Neutral events in the client's dialect."""

    def encode(self, event: Event) -> bytes: ...

    def finish(self) -> bytes:
        """What ends the stream, after Finished for every choice."""

    def error_event(self, failure: Failure, request_id: str) -> bytes:
        """A failure in place of the rest of the stream."""


class Meter(Protocol):
    """Reads a stream as it passes."""

    @property
    def usage(self) -> Usage | None:
        """What the provider stated."""

    @property
    def output_seen(self) -> int:
        """Our own count of tokens."""

    @property
    def failure(self) -> Failure | None:
        """Set where the provider failed and the client has not been told: nothing more of the stream is passed on."""

    @property
    def provider_failed(self) -> bool:
        """The provider failed, and the client saw it: what the provider said has passed as it was."""

    def feed(self, data: bytes) -> bytes:
        """Takes bytes from the provider, gives those for the client."""

    def finish(self) -> bytes: ...

    def error_event(self, failure: Failure, request_id: str) -> bytes:
        """A failure in place of the rest of the stream, in the client's dialect."""


class Incoming(Protocol):
    """A client's request, and how to relay it to a provider of the same format."""

    @property
    def body(self) -> bytes: ...

    @property
    def call(self) -> Call: ...

    def path(self, model: str) -> str:
        """Path and query below the provider's base URL."""

    def upstream_body(self, model: str, output_limit: int | None, limit_field: str) -> bytes:
        """The client's bytes, but for the model's name there and what the gateway must set."""

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        """The usage that a whole answer states, and our own count of output tokens where it states none."""

    def meter(self) -> Meter: ...

    @property
    def stream_type(self) -> str:
        """The content type of this client's streams."""

    def encoder(self, request: Request) -> StreamEncoder:
        """For an answer that comes in another format: how this client wants its stream."""


class Codec(Protocol):
    """A format's package, seen from outside."""

    def request_path(self, model: str, stream: bool) -> str:
        """Path and query below a provider's base URL."""

    def parse_request(self, body: bytes, model: str, stream: bool) -> Request:
        """Raises BadRequest. `model` and `stream` are from the address, for the format that has them there; others read the body."""

    def render_request(self, request: Request, quirks: Quirks) -> Rendered:
        """Raises Inexpressible for content and tools that this format has no words for."""

    def parse_response(self, body: bytes) -> Response:
        """Raises BadAnswer."""

    def render_response(self, response: Response, request: Request) -> bytes: ...

    def parse_error(self, status: int, body: bytes) -> Failure: ...

    def render_error(self, failure: Failure, request_id: str) -> bytes: ...

    def error_event(self, failure: Failure, request_id: str) -> bytes:
        """The same as an event of a stream that has begun."""
