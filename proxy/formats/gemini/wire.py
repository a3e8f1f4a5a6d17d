"""Structs of the JSON in requests, responses and stream events of generateContent."""

import re
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from msgspec import Meta, field

from proxy.formats.gemini.capabilities import MAX_N
from proxy.formats.json_body import TokenLimit
from proxy.formats.neutral import MAX_TOKENS, InvalidRequest, Origin

FORMAT: Origin = "gemini"
NULL = msgspec.Raw(b"null")
VERBATIM_FIELDS = frozenset(
    (
        "args",
        "headers",
        "labels",
        "metadata",
        "parameters",
        "parametersJsonSchema",
        "response",
        "responseJsonSchema",
        "responseSchema",
        "_responseJsonSchema",
    )
)
"""Fields whose value is JSON that the client defines. The names in it are not converted to camelCase."""


class WireStruct(msgspec.Struct, rename="camel"):
    """Base class of Google's types. Unknown fields are ignored."""


# Parts --------------------------------------------------------------------------------------------


class Blob(WireStruct):
    mime_type: str = ""
    data: str = ""
    display_name: str | None = None


class FileData(WireStruct):
    file_uri: str
    mime_type: str | None = None
    display_name: str | None = None


class FunctionCall(WireStruct):
    name: str = ""
    args: Any = None
    id: str | None = None


class FunctionResponse(WireStruct):
    name: str = ""
    response: Any = None
    id: str | None = None
    parts: list[dict[str, Any]] | None = None


# Requests -----------------------------------------------------------------------------------------


class FunctionDeclaration(WireStruct):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    parameters_json_schema: dict[str, Any] | None = None
    response: Any = None
    response_json_schema: Any = None
    behavior: Any = None


class FunctionCallingConfig(WireStruct):
    mode: str | None = None
    allowed_function_names: list[str] | None = None


class ToolConfig(WireStruct):
    function_calling_config: FunctionCallingConfig | None = None


class ThinkingConfig(WireStruct):
    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: str | None = None


class GenerationConfig(WireStruct):
    max_output_tokens: TokenLimit | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Annotated[float, Meta(ge=-MAX_TOKENS, le=MAX_TOKENS)] | None = None
    stop_sequences: list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    candidate_count: Annotated[int, Meta(ge=0, le=MAX_N)] | None = None
    response_mime_type: str | None = None
    response_schema: dict[str, Any] | None = None
    response_json_schema: dict[str, Any] | None = None
    thinking_config: ThinkingConfig | None = None
    response_logprobs: bool | None = None
    logprobs: int | None = None


class WireTurn(WireStruct):
    role: str | None = None
    parts: list[dict[str, Any]] | dict[str, Any] | None = None


class WireRequest(WireStruct):
    contents: list[WireTurn] | WireTurn
    system_instruction: WireTurn | str | None = None
    tools: list[dict[str, Any]] | dict[str, Any] | None = None
    tool_config: ToolConfig | None = None
    generation_config: dict[str, Any] | None = None
    cached_content: str | None = None


# Responses ----------------------------------------------------------------------------------------


class WireContent(WireStruct):
    parts: list[dict[str, Any]] | None = None


class WireCandidate(WireStruct):
    index: int | None = None
    content: WireContent | None = None
    finish_reason: str | None = None
    logprobs_result: Any = None
    grounding_metadata: Any = None
    citation_metadata: Any = None
    url_context_metadata: Any = None


class WireResponse(WireStruct):
    candidates: list[WireCandidate] | None = None
    prompt_feedback: Any = None
    usage_metadata: Any = None
    model_version: str | None = None
    response_id: str | None = None
    create_time: str | None = None
    error: Any = None

    @property
    def is_blocked(self) -> bool:
        return isinstance(self.prompt_feedback, dict) and bool(self.prompt_feedback.get("blockReason"))


# Pass-through -------------------------------------------------------------------------------------


class GenerationFields(msgspec.Struct):
    """Fields of a generationConfig, in camelCase and in snake_case. Google accepts both spellings."""

    max_output_tokens: TokenLimit | None = field(name="maxOutputTokens", default=None)
    snake_max_output_tokens: TokenLimit | None = field(name="max_output_tokens", default=None)
    candidate_count: int | None = field(name="candidateCount", default=None)
    snake_candidate_count: int | None = field(name="candidate_count", default=None)
    response_schema: Any = field(name="responseSchema", default=None)
    snake_response_schema: Any = field(name="response_schema", default=None)
    response_json_schema: Any = field(name="responseJsonSchema", default=None)
    snake_response_json_schema: Any = field(name="response_json_schema", default=None)

    @property
    def n(self) -> int:
        return self.candidate_count or self.snake_candidate_count or 1

    @property
    def schemas(self) -> list[Any]:
        schemas = (
            self.response_schema,
            self.snake_response_schema,
            self.response_json_schema,
            self.snake_response_json_schema,
        )
        return [schema for schema in schemas if schema is not None]


class RequestFields(msgspec.Struct):
    contents: list[dict[str, Any]] | dict[str, Any]
    tools: Any = None
    settings: GenerationFields | None = field(name="generationConfig", default=None)
    snake_settings: GenerationFields | None = field(name="generation_config", default=None)
    system: Any = field(name="systemInstruction", default=None)
    snake_system: Any = field(name="system_instruction", default=None)
    cached: Any = field(name="cachedContent", default=None)
    snake_cached: Any = field(name="cached_content", default=None)
    service_tier: Any = field(name="serviceTier", default=None)
    snake_service_tier: Any = field(name="service_tier", default=None)

    @property
    def messages(self) -> list[dict[str, Any]]:
        return self.contents if isinstance(self.contents, list) else [self.contents]


SPELLINGS = {
    kind: [(own, snake) for own in fields for snake in fields if snake.name == f"snake_{own.name}"]
    for kind in (RequestFields, GenerationFields)
    if (fields := msgspec.structs.fields(kind))
}


class PartFacts(msgspec.Struct):
    text: str | None = None
    call: msgspec.Raw = field(name="functionCall", default=msgspec.Raw())
    code: msgspec.Raw = field(name="executableCode", default=msgspec.Raw())


class ContentFacts(msgspec.Struct):
    parts: list[PartFacts] | None = None


class CandidateFacts(msgspec.Struct, rename="camel"):
    index: Any = None
    content: ContentFacts | None = None
    finish_reason: str | None = None
    grounding_metadata: Any = None


class ResponseFacts(msgspec.Struct, rename="camel"):
    candidates: list[CandidateFacts] | None = None
    prompt_feedback: Any = None
    usage_metadata: Any = None
    error: Any = None

    @property
    def parts(self) -> list[PartFacts]:
        contents = [candidate.content for candidate in self.candidates or () if candidate.content]
        return [part for content in contents for part in content.parts or ()]


class RawResponseFacts(msgspec.Struct, rename="camel"):
    candidates: msgspec.Raw = NULL
    usage_metadata: msgspec.Raw = NULL


decode_raw_response_facts = msgspec.json.Decoder(RawResponseFacts).decode
decode_response_facts = msgspec.json.Decoder(ResponseFacts).decode
decode_response = msgspec.json.Decoder(WireResponse).decode
decode_responses = msgspec.json.Decoder(list[WireResponse]).decode


def parse_responses(data: bytes) -> list[WireResponse]:
    """Parse one response, or a list of them. Raises one of DECODE_ERRORS."""
    return decode_responses(data) if data.lstrip().startswith(b"[") else [decode_response(data)]


# Spellings ----------------------------------------------------------------------------------------


def reject_both_spellings(message: RequestFields | GenerationFields) -> None:
    """Raise InvalidRequest if a field occurs in both spellings.

    The gateway cannot know which of the two values the provider uses.
    """
    for own, snake in SPELLINGS[type(message)]:
        if getattr(message, own.name) is not None and getattr(message, snake.name) is not None:
            raise InvalidRequest(f"Send {own.encode_name} or {snake.encode_name}, not both.", own.encode_name)


@lru_cache(maxsize=1024)
def to_camel_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])_([a-z])", lambda match: match[1].upper(), name)


def with_camel_case_fields(value: Any) -> Any:
    """Return JSON with its field names in camelCase. JSON that the client defines does not change."""
    match value:
        case dict():
            fields = ((to_camel_case(name), item) for name, item in value.items())
            return {
                name: item if name in VERBATIM_FIELDS else with_camel_case_fields(item)
                for name, item in fields
            }
        case list():
            return [with_camel_case_fields(item) for item in value]
        case _:
            return value
