"""Reported usage, in OpenAI's form and in those of compatible servers."""

from typing import Any

import msgspec

from proxy.formats.json_body import DECODE_ERRORS
from proxy.formats.metering.billable import normalize_tier, reported_calls, reported_modalities
from proxy.formats.metering.token_counts import as_count, detail_count, input_and_output
from proxy.formats.neutral import MAX_TOKENS, Usage
from proxy.formats.openai_chat.wire import WireUsage, decode_usage


def usage_from_wire(wire: WireUsage, service_tier: Any = None) -> Usage | None:
    """Return the usage in disjoint buckets; None if counts are missing, mistyped or out of range.

    OpenAI counts cached tokens inside the prompt. The service tier stands in the response beside the usage.
    """
    counts = input_and_output(wire.prompt_tokens, wire.completion_tokens, wire.total_tokens)
    if counts is None:
        return None
    (prompt, output), reasoning, details = counts, reasoning_tokens(wire), wire.prompt_tokens_details
    cached = detail_count(details, "cached_tokens") or as_count(wire.prompt_cache_hit_tokens) or 0
    written = detail_count(details, "cache_write_tokens")
    if not all(0 <= count <= MAX_TOKENS for count in (prompt, output, cached, written, reasoning)):
        return None
    if reasoning > output and as_count(wire.total_tokens) != prompt + output:
        # xAI does not count reasoning as completion, but bills it (docs.x.ai, "Reasoning": usage).
        output += reasoning
    cached = min(cached, prompt)
    written = min(written, prompt - cached)
    fresh = prompt - cached - written
    return Usage(
        input=fresh,
        cache_read=cached,
        cache_write_5m=written,
        output=output,
        reasoning=min(reasoning, output),
        service_tier=normalize_tier(service_tier),
        billable_extras=billable_extras(wire),
    )


def billable_extras(wire: WireUsage) -> dict[str, int]:
    """Return searches, and audio tokens within the prompt and the completion."""
    audio_input = detail_count(wire.prompt_tokens_details, "audio_tokens")
    audio_output = detail_count(wire.completion_tokens_details, "audio_tokens")
    searches = reported_calls(
        web_search=detail_count(wire.server_tool_use, "web_search_requests") or wire.num_search_queries
    )
    return (
        searches
        | reported_modalities("input", audio=audio_input)
        | reported_modalities("output", audio=audio_output)
    )


def reasoning_tokens(wire: WireUsage) -> int:
    return (
        detail_count(wire.completion_tokens_details, "reasoning_tokens")
        or as_count(wire.reasoning_tokens)
        or 0
    )


def parse_raw_usage(raw: msgspec.Raw, service_tier: Any = None) -> Usage | None:
    """Return the usage in undecoded JSON, or None."""
    try:
        return usage_from_wire(decode_usage(raw), service_tier)
    except DECODE_ERRORS:
        return None


def parse_usage(value: Any, service_tier: Any = None) -> Usage | None:
    """Return the usage in decoded JSON of any type, or None."""
    try:
        return usage_from_wire(msgspec.convert(value, WireUsage), service_tier)
    except msgspec.ValidationError:
        return None


def render_usage(usage: Usage) -> dict[str, Any]:
    """Return the usage in OpenAI's form.

    Tokens written to a cache stand under OpenRouter's name, since OpenAI has none.
    """
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
