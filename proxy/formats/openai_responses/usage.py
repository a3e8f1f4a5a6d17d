"""Reported usage, in both directions."""

from typing import Any

import msgspec

from proxy.formats.json_body import DECODE_ERRORS
from proxy.formats.metering.token_counts import detail_count, input_and_output
from proxy.formats.neutral import MAX_TOKENS, Usage
from proxy.formats.openai_responses.server_tools import with_billable_extras
from proxy.formats.openai_responses.wire import WireUsage, decode_usage


def parse_usage(wire: dict[str, Any]) -> Usage | None:
    """Return the usage that a decoded response reports, with what else it bills, or None."""
    try:
        usage = usage_from_wire(msgspec.convert(wire.get("usage"), WireUsage))
    except msgspec.ValidationError:
        return None
    return usage and with_billable_extras(
        usage, wire.get("service_tier"), wire.get("output"), wire.get("tools"), wire.get("tool_usage")
    )


def usage_from_wire(wire: WireUsage) -> Usage | None:
    """Return the usage in disjoint buckets; None if counts are missing, mistyped or out of range.

    OpenAI counts tokens read from and written to its cache inside the input.
    """
    counts = input_and_output(wire.input_tokens, wire.output_tokens, wire.total_tokens)
    if counts is None:
        return None
    (prompt, output), details = counts, wire.input_tokens_details
    cached, written = detail_count(details, "cached_tokens"), detail_count(details, "cache_write_tokens")
    reasoning = detail_count(wire.output_tokens_details, "reasoning_tokens")
    if not all(0 <= count <= MAX_TOKENS for count in (prompt, output, cached, written, reasoning)):
        return None
    cached = min(cached, prompt)
    written = min(written, prompt - cached)
    # Compatible servers that report more reasoning than output did not count it as output.
    output += reasoning if reasoning > output else 0
    return Usage(
        input=prompt - cached - written,
        cache_read=cached,
        cache_write_5m=written,
        output=output,
        reasoning=reasoning,
    )


def render_usage(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    written = usage.cache_write_5m + usage.cache_write_1h
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": written},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.output,
    }


def parse_raw_usage(raw: msgspec.Raw) -> Usage | None:
    """Return the usage in undecoded JSON, or None."""
    try:
        return usage_from_wire(decode_usage(raw))
    except DECODE_ERRORS:
        return None
