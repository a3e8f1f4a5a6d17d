"""The JSON of the Responses API, as far as the gateway reads it."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from proxy.formats.json_body import ModelName, TokenLimit
from proxy.formats.neutral import MAX_TOKENS, Origin

FORMAT: Origin = "openai_responses"
ABSENT = msgspec.Raw(b"null")


# Converted requests -------------------------------------------------------------------------------


class WireRequest(msgspec.Struct):
    model: str = ""
    input: str | list[dict[str, Any] | str] | None = None
    instructions: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    max_output_tokens: TokenLimit | None = None
    temperature: float | None = None
    top_p: float | None = None
    parallel_tool_calls: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOKENS)] | None = None
    include: list[str] | None = None
    user: str | None = None
    stream: bool | None = None
    stream_options: Any = None


class WireFormat(msgspec.Struct):
    type: str
    name: str = "answer"
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class WireTool(msgspec.Struct):
    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    format: dict[str, Any] | None = None


# Passed-through requests --------------------------------------------------------------------------


class RequestFields(msgspec.Struct):
    """The fields that the gateway must know of a request that passes through."""

    model: ModelName
    input: str | list[dict[str, Any] | str] | None = None
    instructions: str | list[dict[str, Any]] | None = None
    stream: bool | None = None
    max_output_tokens: TokenLimit | None = None
    tools: Any = None
    text: Any = None
    previous_response_id: Any = None
    conversation: Any = None
    prompt: Any = None
    service_tier: Any = None
    max_tool_calls: Any = None
    store: Any = None
    background: Any = None


# Responses and streams ----------------------------------------------------------------------------


class WireUsage(msgspec.Struct):
    """Usage. Its fields may have any type, because compatible servers send floats, or a list of details."""

    input_tokens: Any = None
    output_tokens: Any = None
    total_tokens: Any = None
    input_tokens_details: Any = None
    output_tokens_details: Any = None


class WireEvent(msgspec.Struct):
    """A stream event. Its fields may have any type; a field of the wrong type counts as missing."""

    type: str = ""
    delta: Any = None
    item: Any = None
    item_id: Any = None
    output_index: Any = None
    content_index: Any = None
    summary_index: Any = None
    logprobs: Any = None
    annotation: Any = None
    response: Any = None
    error: Any = None


class StreamEventFields(msgspec.Struct):
    """The fields of an event that a meter reads. Large fields are decoded only if they are needed."""

    type: Any = ""
    delta: Any = None
    item: msgspec.Raw = ABSENT
    response: msgspec.Raw = ABSENT
    error: Any = None


decode_event = msgspec.json.Decoder(WireEvent).decode
decode_event_fields = msgspec.json.Decoder(StreamEventFields).decode
