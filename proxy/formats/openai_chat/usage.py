"""The counts that an answer states, in OpenAI's nesting and in those of the servers that followed it."""

from typing import Any

import msgspec

from proxy.formats.neutral import Usage

MAX_TOKENS = 2**31 - 1


class PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    """OpenRouter's (openrouter.ai/docs/features/prompt-caching)."""


class CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class WireUsage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    # Together states this beside the others, and sends its usage chunk whether it is asked for or not.
    reasoning_tokens: int | None = None
    # DeepSeek's (api-docs.deepseek.com/guides/kv_cache).
    prompt_cache_hit_tokens: int | None = None


def neutral_usage(wire: WireUsage) -> Usage | None:
    """Disjoint buckets: OpenAI counts cached tokens inside the prompt. None for counts that are absent or absurd."""
    details = wire.prompt_tokens_details or PromptDetails()
    prompt, output, reasoning = wire.prompt_tokens, wire.completion_tokens or 0, reasoning_of(wire)
    cached, written = details.cached_tokens or wire.prompt_cache_hit_tokens or 0, details.cache_write_tokens or 0
    if prompt is None or not all(0 <= count <= MAX_TOKENS for count in (prompt, output, cached, written, reasoning)):
        return None
    if reasoning > output and wire.total_tokens != prompt + output:
        # xAI leaves reasoning out of the completion and bills it all the same (docs.x.ai, "Reasoning": usage).
        output += reasoning
    cached = min(cached, prompt)
    written = min(written, prompt - cached)
    fresh = prompt - cached - written
    return Usage(input=fresh, cache_read=cached, cache_write_5m=written, output=output, reasoning=min(reasoning, output))


def reasoning_of(wire: WireUsage) -> int:
    details = wire.completion_tokens_details
    return (details and details.reasoning_tokens) or wire.reasoning_tokens or 0


def read_usage(value: Any) -> Usage | None:
    """The same from JSON that may be anything."""
    try:
        return neutral_usage(msgspec.convert(value, WireUsage))
    except msgspec.ValidationError:
        return None


def wire_usage(usage: Usage) -> dict[str, Any]:
    """OpenAI's nesting; tokens written to a cache under OpenRouter's name, since OpenAI has none."""
    prompt_details = {"cached_tokens": usage.cache_read}
    if written := usage.cache_write_5m + usage.cache_write_1h:
        prompt_details["cache_write_tokens"] = written
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.output,
        "total_tokens": usage.prompt + usage.output,
        "prompt_tokens_details": prompt_details,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }
