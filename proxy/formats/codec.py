"""What every wire format provides: one package each, with the same files in it.

    request.py    parse_request, render_request
    response.py   parse_response, render_response, parse_error, render_error
    stream.py     StreamDecoder, StreamEncoder
    relay.py      what same-format relaying needs: the few facts of a request, and a meter that reads the stream as it passes

Everything is pure: bytes in, bytes or neutral types out, no clock but the one for `created`, no I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from msgspec.structs import replace

from proxy.formats.account_ids import AccountReference, IdReader
from proxy.formats.neutral import (
    ApiError,
    Event,
    Message,
    Opaque,
    Part,
    Refusal,
    Request,
    RequestFacts,
    Response,
    ServerTool,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
)


@dataclass(frozen=True, slots=True)
class Quirks:
    """What a particular server wants differently: facts as data. They hold for what the gateway writes: a converted request, and the
    fields that it sets in a relayed one. What a client of the same format wrote goes as it came.
    """

    max_tokens_field: str = "max_tokens"
    unsupported: frozenset[str] = frozenset()
    """What it rejects or does not heed: settings by their names in `Request`, and four more that are no settings of the client's:
    `wants_usage` (`stream_options`), `thinking` (fields for those of earlier turns, and asking for them), `cache` (marks for its prompt
    cache) and `custom_tool_names` (tools that take free text)."""
    unsupported_by_model: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The same for some models only, by the beginning of their names."""
    extra_settings: frozenset[str] = frozenset()
    """Settings that its format does not have, and it takes all the same: `top_k`."""
    renamed_settings: Mapping[str, str] = field(default_factory=dict)
    """Settings that have another name there."""
    effort_aliases: Mapping[str, str] = field(default_factory=dict)
    """Of the efforts of reasoning, those that it does not know, each with the nearest that it does."""
    supports_json_schema: bool = True
    """Whether it holds answers to a JSON Schema; else the model is told the schema in words."""
    tool_call_id_length: int = 0
    """Ids of tool calls are exactly this many letters and digits; 0: as in the format."""

    def unsupported_for(self, model: str) -> frozenset[str]:
        """What this server does not take for this model."""
        return self.unsupported.union(
            *(names for prefix, names in self.unsupported_by_model.items() if model.startswith(prefix))
        )


def adapt_to_quirks(request: Request, quirks: Quirks) -> Request:
    """The request without what no setting stands for, and this server does not take."""
    rejected = quirks.unsupported_for(request.model)
    request = without_thinking(request) if "thinking" in rejected else request
    return tool_choice_as_tool_list(request) if "tool_choice" in rejected else request


def tool_choice_as_tool_list(request: Request) -> Request:
    """A choice among tools, told by which of them are offered: as far as that says it."""
    choice = request.tool_choice
    if choice is None:
        return request
    if choice.mode == "none":
        return replace(request, tools=(), tool_choice=None)
    names = choice.names
    return replace(
        request,
        tools=tuple(
            tool for tool in request.tools if not names or isinstance(tool, ServerTool) or tool.name in names
        ),
    )


def without_thinking(request: Request) -> Request:
    """The history without the thoughts in it and the proofs of them."""
    return replace(request, messages=tuple(without_thinking_parts(message) for message in request.messages))


def without_thinking_parts(message: Message) -> Message:
    return replace(
        message,
        parts=tuple(without_signature(part) for part in message.parts if not isinstance(part, Thinking)),
    )


def without_signature(part: Part) -> Part:
    return replace(part, signature=None) if isinstance(part, ToolCall) else part


def has_cache_control(request: Request) -> bool:
    parts = [part for message in request.messages for part in message.parts]
    inner = [item for part in parts if isinstance(part, ToolResult) for item in part.content]
    marked = (*request.system, *parts, *inner, *request.tools)
    return any(
        item.cache for item in marked if not isinstance(item, Thinking | Refusal | Opaque | ServerTool)
    )


@dataclass(slots=True)
class RenderedRequest:
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

    def render_error_event(self, error: ApiError, request_id: str) -> bytes:
        """A failure in place of the rest of the stream."""


class Meter(Protocol):
    """Reads a stream as it passes."""

    @property
    def usage(self) -> Usage | None:
        """What the provider stated; None if it stated nothing. It is marked if the gateway has counted some of it."""

    @property
    def output_tokens(self) -> int:
        """Our own count of tokens."""

    @property
    def min_output_tokens(self) -> int:
        """What they are at least, where the count is an estimate."""

    @property
    def server_tool_calls(self) -> Mapping[str, int]:
        """Calls of the provider's own tools, by kind, that came before it stated any usage."""

    @property
    def error(self) -> ApiError | None:
        """Set where the provider failed and the client has not been told: nothing more of the stream is passed on."""

    @property
    def provider_failed(self) -> bool:
        """The provider failed, and the client saw it: what the provider said has passed as it was."""

    @property
    def saw_final_event(self) -> bool:
        """The last event has passed, in a format that has one: nothing that comes after it matters."""

    ids: IdReader | None
    """Reads every event too, if it is set: for the ids of the provider's account that the stream issues."""

    def feed(self, data: bytes) -> bytes:
        """Takes bytes from the provider, gives those for the client."""

    def finish(self) -> bytes: ...

    def render_error_event(self, error: ApiError, request_id: str) -> bytes:
        """A failure in place of the rest of the stream, in the client's dialect."""


class ClientRequest(Protocol):
    """A client's request, and how to relay it to a provider of the same format."""

    @property
    def body(self) -> bytes: ...

    @property
    def facts(self) -> RequestFacts: ...

    def path(self, model: str) -> str:
        """Path and query below the provider's base URL."""

    def upstream_body(self, model: str, max_tokens: int | None, quirks: Quirks) -> bytes:
        """The client's bytes, but for the model's name there and what the gateway must set."""

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        """The usage that a whole answer states, and our own count of output tokens where it states none."""

    def meter(self) -> Meter: ...

    def references(self) -> list[AccountReference]:
        """Return the objects of the provider's account that the request names. Raises BadRequest."""

    def id_reader(self) -> IdReader | None:
        """Return a reader of the ids that an answer issues; None for answers that issue none."""

    @property
    def stream_content_type(self) -> str:
        """The content type of this client's streams."""

    def render_keepalive(self, sent_tail: bytes) -> bytes:
        """What tells this client, while the provider is silent, that its stream goes on; nothing where that has no place. `sent_tail`
        is the end of what the client has got.
        """

    def encoder(self, request: Request) -> StreamEncoder:
        """For an answer that comes in another format: how this client wants its stream."""


class EmbeddingRequest(ClientRequest, Protocol):
    """A client's request for vectors, in the terms that providers of other formats share."""

    def texts(self) -> list[str]:
        """What to embed, each by itself; raises Inexpressible for what is no text."""

    def dimensions(self) -> int | None:
        """Numbers in a vector, where the client says how many; raises BadRequest."""

    def unsupported_settings(self) -> list[str]:
        """Settings that no other format has, by the client's names."""

    def render_response(self, vectors: list[list[float]], usage: Usage | None) -> bytes:
        """The answer to this request, made of another format's."""


class EmbeddingCodec(Protocol):
    """A format in which providers embed texts, seen from outside."""

    def render_embed_request(
        self, texts: list[str], model: str, dimensions: int | None
    ) -> tuple[str, dict[str, Any]]:
        """Path and body that embed these texts, each by itself."""

    def parse_embed_response(self, body: bytes) -> tuple[list[list[float]], Usage | None]:
        """The vectors in the order of the texts, and the usage where one is stated. Raises BadAnswer."""


class Codec(Protocol):
    """A format's package, seen from outside."""

    def request_path(self, model: str, stream: bool) -> str:
        """Path and query below a provider's base URL."""

    def parse_request(self, body: bytes, model: str, stream: bool) -> Request:
        """Raises BadRequest. `model` and `stream` are from the address, for the format that has them there; others read the body."""

    def render_request(self, request: Request, quirks: Quirks) -> RenderedRequest:
        """Raises Inexpressible for content and tools that this format has no words for."""

    def parse_response(self, body: bytes) -> Response:
        """Raises BadAnswer."""

    def render_response(self, response: Response, request: Request) -> bytes: ...

    def parse_error(self, status: int, body: bytes) -> ApiError: ...

    def render_error(self, api_error: ApiError, request_id: str) -> bytes: ...

    def render_error_event(self, api_error: ApiError, request_id: str) -> bytes:
        """The same as an event of a stream that has begun."""
