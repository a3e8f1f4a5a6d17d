"""Structs of the JSON in requests, responses and stream events of the Messages API."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Raw

from proxy.formats.json_body import ModelName, TokenLimit, decode_fields, encode
from proxy.formats.neutral import Origin

T = TypeVar("T")
FORMAT: Origin = "anthropic"
NULL = Raw(b"null")


# Content blocks -----------------------------------------------------------------------------------


class CacheControl(msgspec.Struct):
    ttl: str | None = None


class Source(msgspec.Struct):
    type: str = ""
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: str | list[dict[str, Any]] | None = None


class Block(msgspec.Struct):
    type: str
    cache_control: CacheControl | None = None

    @property
    def cache(self) -> str | None:
        return (self.cache_control.ttl or "5m") if self.cache_control else None


class TextBlock(Block):
    text: str = ""
    citations: list[Any] | None = None


class SourceBlock(Block):
    source: Source = msgspec.field(default_factory=Source)
    title: str | None = None
    context: str | None = None


class SearchResultBlock(Block):
    source: str = ""
    title: str = ""
    content: list[dict[str, Any]] | None = None


class ToolUseBlock(Block):
    id: str = ""
    name: str = ""
    input: Any = msgspec.field(default_factory=dict)
    toolset_name: str | None = None


class ToolReferenceBlock(Block):
    tool_name: str = ""


class ToolResultBlock(Block):
    tool_use_id: str = ""
    content: str | list[dict[str, Any]] | None = None
    is_error: bool | None = None


class ThinkingBlock(Block):
    thinking: str = ""
    signature: str | None = None


class RedactedBlock(Block):
    data: str = ""


# Requests -----------------------------------------------------------------------------------------


class WireMessage(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]] | None = None


class WireTool(msgspec.Struct):
    type: str | None = None
    name: str = ""
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None


class WireToolChoice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class WireFormat(msgspec.Struct):
    type: str
    schema: dict[str, Any] | None = None


class OutputConfig(msgspec.Struct):
    effort: str | None = None
    format: WireFormat | None = None


class Metadata(msgspec.Struct):
    user_id: str | None = None


class WireThinking(msgspec.Struct):
    type: str
    budget_tokens: int | None = None
    display: str | None = None


class WireRequest(msgspec.Struct):
    model: ModelName
    messages: Annotated[list[WireMessage], Meta(min_length=1)]
    max_tokens: TokenLimit | None = None
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    mcp_servers: list[dict[str, Any]] | None = None
    tool_choice: WireToolChoice | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    thinking: WireThinking | None = None
    output_config: OutputConfig | None = None
    output_format: WireFormat | None = None
    metadata: Metadata | None = None
    stream: bool | None = None


# Responses and streams ----------------------------------------------------------------------------


class TokenCounts(msgspec.Struct):
    """Token counts of any type.

    Some compatible servers send counts as floats, and an empty list instead of details.
    """

    input_tokens: Any = None
    cache_read_input_tokens: Any = None
    cache_creation_input_tokens: Any = None
    cache_creation: Any = None
    output_tokens: Any = None


class WireUsage(TokenCounts):
    output_tokens_details: Any = None
    iterations: Any = None
    server_tool_use: Any = None
    service_tier: Any = None
    speed: Any = None
    inference_geo: Any = None


class WireResponse(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    content: list[dict[str, Any]] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Raw = NULL
    error: Any = None


class WireEvent(msgspec.Struct):
    type: str = ""
    index: int = 0
    message: dict[str, Raw] | None = None
    content_block: Raw = NULL
    delta: Raw = NULL
    usage: Raw = NULL
    error: Any = None


class Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    signature: str = ""
    citation: Any = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class BlockStart(msgspec.Struct):
    type: str = ""
    id: str = ""
    name: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str = ""
    input: Raw = NULL

    @property
    def initial_text(self) -> str:
        match self.type:
            case "text":
                return self.text or ""
            case "thinking":
                return self.thinking or ""
            case _:
                return ""


# Pass-through -------------------------------------------------------------------------------------


class RequestFields(msgspec.Struct):
    model: ModelName
    messages: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    max_tokens: TokenLimit | None = None
    stream: bool | None = None
    system: Any = None
    tools: Any = None
    output_config: Any = None
    service_tier: Any = None
    speed: Any = None
    inference_geo: Any = None
    mcp_servers: Any = None
    thread: Any = None


class StreamEventFields(msgspec.Struct):
    """The fields of an event that a meter reads.

    They have any type, so that one mistyped field does not hide the others.
    """

    type: Any = ""
    delta: Any = None
    content_block: Any = None
    message: Any = None
    usage: Any = None
    error: Any = None


# Account ids --------------------------------------------------------------------------------------


class DeltaIds(msgspec.Struct):
    container: Any = None


class MessageIds(msgspec.Struct):
    id: Any = None
    container: Any = None
    content: Any = None


class EventIds(msgspec.Struct):
    type: str = ""
    message: MessageIds | None = None
    delta: DeltaIds | None = None
    content_block: Any = None


decode_any = msgspec.json.Decoder().decode
decode_event_fields = msgspec.json.Decoder(StreamEventFields).decode
decode_response = msgspec.json.Decoder(WireResponse).decode
decode_event = msgspec.json.Decoder(WireEvent).decode
decode_delta = msgspec.json.Decoder(Delta).decode
decode_block_start = msgspec.json.Decoder(BlockStart).decode
decode_message_ids = msgspec.json.Decoder(MessageIds).decode
decode_event_ids = msgspec.json.Decoder(EventIds).decode


# Null fields --------------------------------------------------------------------------------------


def decode_ignoring_nulls(decoder: Callable[[Raw], T], raw: Raw) -> T:
    """Decode JSON. If it is invalid, decode it again without its null fields.

    Raises one of DECODE_ERRORS.
    """
    try:
        return decoder(raw)
    except msgspec.ValidationError:
        return decoder(without_nulls(raw))


def without_nulls(raw: Raw) -> Raw:
    fields = decode_fields(raw)
    return Raw(encode({name: value for name, value in fields.items() if value != NULL}))
