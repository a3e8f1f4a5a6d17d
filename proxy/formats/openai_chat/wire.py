"""The JSON structures of chat completions that the gateway reads."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from proxy.formats.json_body import ModelName, TokenLimit, decode_object, repair_json
from proxy.formats.neutral import Origin

FORMAT: Origin = "openai_chat"
DONE = b"[DONE]"
MAX_N = 128

ChoiceCount = Annotated[int, Meta(ge=1, le=MAX_N)]


# Converted requests -------------------------------------------------------------------------------


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class WireMessage(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[str | dict[str, Any]] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    function_call: dict[str, Any] | None = None
    refusal: str | None = None
    audio: dict[str, Any] | None = None
    cache_control: dict[str, Any] | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    reasoning_signature: Any = None
    images: Any = None


class WireRequest(msgspec.Struct):
    """The fields that have a neutral counterpart. All other fields are settings of this format only."""

    model: ModelName
    messages: Annotated[list[WireMessage], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: ChoiceCount | None = None
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    tools: list[dict[str, Any]] | None = None
    functions: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    function_call: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    web_search_options: dict[str, Any] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    reasoning: Any = None
    thinking: Any = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    user: str | None = None


# Passed-through requests --------------------------------------------------------------------------


class RequestFields(msgspec.Struct):
    """The fields that the gateway must know of a request that it passes through."""

    model: ModelName
    messages: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    n: ChoiceCount | None = None
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    tools: Any = None
    functions: Any = None
    response_format: Any = None
    service_tier: Any = None
    web_search_options: Any = None


# Responses ----------------------------------------------------------------------------------------


class WireUsage(msgspec.Struct):
    """Usage with fields of any type. Servers send counts as floats and strings, and a list as details."""

    prompt_tokens: Any = None
    completion_tokens: Any = None
    total_tokens: Any = None
    # Names of the Responses API, which some compatible servers use in this format too.
    input_tokens: Any = None
    output_tokens: Any = None
    prompt_tokens_details: Any = None
    """`cached_tokens`, and OpenRouter's `cache_write_tokens` (openrouter.ai/docs/features/prompt-caching)."""
    completion_tokens_details: Any = None
    # Together's. It sends its usage chunk even if usage was not requested.
    reasoning_tokens: Any = None
    # Tokens read from the cache: DeepSeek's (api-docs.deepseek.com/guides/kv_cache) and Moonshot's
    # (platform.moonshot.ai/docs/api/chat) names.
    prompt_cache_hit_tokens: Any = None
    cached_tokens: Any = None
    # Searches, by OpenRouter (openrouter.ai/docs/guides/features/plugins/web-search) and Perplexity.
    server_tool_use: Any = None
    num_search_queries: Any = None


def decode_response(data: bytes) -> dict[str, Any]:
    """Return the object that a provider sent; truncated characters are replaced. Raises ValueError."""
    return decode_object(repair_json(data))
