"""Usage of responses, parsed and rendered, and the gateway's own count of output.

In this format, `input_tokens` does not include the cached tokens of the prompt.
"""

from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.formats.anthropic.wire import TokenCounts, WireUsage
from proxy.formats.json_body import (
    DECODE_ERRORS,
    as_dict,
    as_str,
    decode_available_fields,
    dict_items,
    encode,
)
from proxy.formats.metering.billable import (
    MAX_TIER_LENGTH,
    UNREADABLE_TIER,
    normalize_tier,
    parse_tier,
    reported_calls,
)
from proxy.formats.metering.token_counts import (
    as_count,
    as_counts,
    detail_count,
    estimate_text_tokens,
    estimate_tokens,
)
from proxy.formats.metering.usage_reader import UsageReader
from proxy.formats.neutral import MAX_TOKENS, NO_DEFAULTS, Usage, UsageDefaults, reported_or_none

WEB_SEARCH_BLOCK, SEARCH_COUNT = ("server_tool_use", "web_search"), "web_search_requests"
STANDARD_TIER, US_REGION = "standard", "us"
ANY_REGION = ("", "global", "not_available")
"""Values of `inference_geo` that name no single region.

The response may have run anywhere, or its model does not have regions.
"""
ITERATIONS_IN_TOTALS = ("message", "fallback_message")
"""Types of iterations whose tokens are included in the totals."""
SUMMED_FIELDS = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")


class StreamUsage(UsageReader):
    """Reads the usage from the events of a stream.

    The first event reports the input, but not the output. Until an event at the end reports the output, the
    gateway's counts of the output and of searches apply.
    """

    def __init__(self, defaults: UsageDefaults = NO_DEFAULTS) -> None:
        self.defaults = defaults
        self.merged: WireUsage | None = None
        self.searches = 0
        self.has_final_usage = self.has_final_searches = False

    def start_block(self, type: str, name: str) -> None:
        """Count a search that the provider starts."""
        self.searches += (type, name) == WEB_SEARCH_BLOCK

    def add_text(self, text: str) -> None:
        """Count the text of a delta."""
        self.add_tokens(estimate_text_tokens(text))

    def report(self, value: Any, *, is_last: bool) -> None:
        """Merge reported usage, unless its counts are not plausible.

        `is_last` is true if the event ends the message.
        """
        wire = wire_usage(value)
        if wire is None:
            return
        merged = merge_usage(self.merged, wire)
        is_final = is_last and self.is_final(wire)
        if is_final and not self.output_tokens:
            # The start of a stream reports one output token, but a refusal ends with zero.
            merged = replace(merged, output_tokens=wire.output_tokens)
        if usage_from_wire(merged, self.defaults) is not None:
            self.merged = merged
            self.has_final_usage = is_final or (is_last and self.has_final_usage)
            self.has_final_searches = is_last and (self.has_final_searches or states_searches(wire))

    def is_final(self, wire: WireUsage) -> bool:
        """Return whether a usage reports the output. Zeros do not count as a report if output has arrived."""
        counts = [as_count(getattr(wire, name)) for name in TokenCounts.__struct_fields__]
        return states_output(wire) and (any(counts) or not self.output_tokens)

    def read_response(self, body: bytes) -> None:
        """Read a non-streaming response that was sent instead of a stream."""
        usage, tokens = measure(body)
        self.add_tokens(tokens)
        if usage is not None:
            self.report(decode_available_fields(body).get("usage"), is_last=True)

    @property
    def reported(self) -> Usage | None:
        usage = usage_from_wire(self.merged, self.defaults) if self.merged else None
        if usage is None or reported_or_none(usage) is None:
            return usage
        if not self.has_final_searches:
            usage = with_searches(usage, self.searches)
        if self.has_final_usage:
            return usage
        return replace(usage, output=max(usage.output, self.output_tokens), estimated=True)


def measure(body: bytes, defaults: UsageDefaults = NO_DEFAULTS) -> tuple[Usage | None, int]:
    """Return the reported usage and 0, or None and the gateway's count of output tokens.

    If the content cannot be decoded, the count is estimated from the length of the body.
    """
    try:
        response = decode_available_fields(body)
    except DECODE_ERRORS:
        return None, estimate_tokens(len(body))
    usage = reported_or_none(parse_usage(response.get("usage"), response.get("content"), defaults))
    if usage is not None:
        return usage, 0
    blocks = dict_items(response.get("content"))
    if blocks != response.get("content"):
        return None, estimate_tokens(len(body))
    return None, sum(estimate_text_tokens(block_text(block)) for block in blocks)


def billed_items(body: bytes, defaults: UsageDefaults) -> Usage:
    """Return the service tier and the server tool calls of a response that reports no usage."""
    try:
        response = decode_available_fields(body)
    except DECODE_ERRORS:
        return Usage()
    tier = parse_service_tier(wire_usage(response.get("usage")) or WireUsage(), defaults)
    return with_searches(Usage(service_tier=tier), shown_searches(response.get("content")))


def block_text(block: dict[str, Any]) -> str:
    tool_input = encode(block["input"]).decode() if block.get("input") else ""
    return as_str(block.get("text")) + as_str(block.get("thinking")) + tool_input


def wire_usage(value: Any) -> WireUsage | None:
    """Return the usage in decoded JSON of any type, or None."""
    try:
        return msgspec.convert(value, WireUsage)
    except msgspec.ValidationError:
        return None


def merge_usage(earlier: WireUsage | None, later: WireUsage) -> WireUsage:
    """Merge the usage at the start of a stream with a later usage, whose counts take precedence.

    Counts are totals so far. A later zero means that the server omitted the count.
    """
    if earlier is None:
        return later
    reported = {
        name: value
        for name in WireUsage.__struct_fields__
        if (value := getattr(later, name)) is not None and as_count(value) != 0
    }
    return replace(earlier, **reported)


def usage_from_wire(wire: WireUsage, defaults: UsageDefaults) -> Usage | None:
    """Return the usage; None if its counts are absent or not plausible."""
    lifetime = defaults.cache_lifetime
    usage = parse_token_counts(wire, wire.output_tokens_details, lifetime)
    return usage and replace(
        usage_over_iterations(wire, usage, lifetime),
        service_tier=parse_service_tier(wire, defaults),
        billable_extras=parse_billable_extras(wire),
    )


def parse_usage(value: Any, content: Any, defaults: UsageDefaults = NO_DEFAULTS) -> Usage | None:
    """Return the usage of a complete response with this content; None unless it reports the output.

    Only a usage at the start of a stream may omit the output.
    """
    wire = wire_usage(value)
    if wire is None or not states_output(wire):
        return None
    usage = usage_from_wire(wire, defaults)
    if usage is None or states_searches(wire):
        return usage
    return with_searches(usage, shown_searches(content))


def shown_searches(content: Any) -> int:
    """Return the number of searches in the blocks of a response."""
    return sum((block.get("type"), block.get("name")) == WEB_SEARCH_BLOCK for block in dict_items(content))


def states_searches(wire: WireUsage) -> bool:
    return as_count(as_dict(wire.server_tool_use).get(SEARCH_COUNT)) is not None


def with_searches(usage: Usage, shown: int) -> Usage:
    """Return the usage with the searches that a response shows but does not report."""
    if not shown:
        return usage
    searches = reported_calls(web_search=shown)
    return replace(usage, billable_extras=usage.billable_extras | searches, estimated=True)


def states_output(wire: WireUsage) -> bool:
    return as_count(wire.output_tokens) is not None


def parse_service_tier(wire: WireUsage, defaults: UsageDefaults) -> str:
    """Return the service tier of the response. For parts that the response omits, the request decides.

    Fast mode becomes a tier, because it has its own prices (docs, "Fast mode", "Pricing"). The name of the
    tier includes the region of inference, unless it is any region (docs, "Data residency").
    """
    speed = parse_tier(wire.speed) or defaults.speed
    region = normalize_region(wire.inference_geo) or defaults.region
    tier = parse_tier(wire.service_tier) if speed in ("", STANDARD_TIER) else speed
    if region in ANY_REGION:
        return tier
    suffix = f"_{region}"
    return f"{(tier or STANDARD_TIER)[: MAX_TIER_LENGTH - len(suffix)]}{suffix}"


def normalize_region(value: Any) -> str:
    """Return a region of inference in lower case. A value that is not a text becomes an unknown region."""
    return UNREADABLE_TIER if value and not isinstance(value, str) else normalize_tier(value)


def parse_billable_extras(wire: WireUsage) -> dict[str, int]:
    used = as_dict(wire.server_tool_use)
    return reported_calls(web_search=used.get(SEARCH_COUNT), web_fetch=used.get("web_fetch_requests"))


def usage_over_iterations(wire: WireUsage, usage: Usage, lifetime: str) -> Usage:
    """Return the usage of all iterations of a response, if it reports them.

    The totals include the iterations of the message, but not those of a compaction or of an advisor, which
    are billed too (docs, "Compaction", "Usage"; types of the SDK, `BetaUsage.iterations`). If the sum is
    below the totals, it is incomplete, and the totals apply.
    """
    entries = dict_items(wire.iterations)
    rounds = [
        parse_token_counts(msgspec.convert(entry, TokenCounts), lifetime=lifetime) or Usage()
        for entry in entries
    ]
    if not any(entry.get("type") in ITERATIONS_IN_TOTALS for entry in entries):
        rounds.append(usage)
    summed = {name: sum(getattr(counts, name) for counts in rounds) for name in SUMMED_FIELDS}
    billed = Usage(**summed, reasoning=usage.reasoning)
    if billed.prompt < usage.prompt:
        billed = replace(usage, output=billed.output)
    return replace(billed, output=max(billed.output, usage.output))


def parse_token_counts(wire: TokenCounts, details: Any = None, lifetime: str = "") -> Usage | None:
    """Return the token counts. `lifetime` is that of cache writes whose lifetime is not reported.

    The total of cache writes is more reliable than its parts, which the end of a stream omits.
    """
    counts = as_counts(
        wire, "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens"
    )
    if wire.input_tokens is None or counts is None:
        return None
    uncached, written, read, output = counts
    written_5m, written_1h = (
        detail_count(wire.cache_creation, f"ephemeral_{span}_input_tokens") for span in ("5m", "1h")
    )
    written = written_5m + written_1h if wire.cache_creation_input_tokens is None else written
    if lifetime == "1h" and not written_5m + written_1h:
        written_1h = written
    reasoning = detail_count(details, "thinking_tokens")
    if not all(0 <= count <= MAX_TOKENS for count in (uncached, written, written_1h, read, output)):
        return None
    written_for_1h = min(written_1h, written)
    return Usage(
        input=uncached,
        cache_read=read,
        cache_write_5m=written - written_for_1h,
        cache_write_1h=written_for_1h,
        output=output,
        reasoning=max(0, min(reasoning, output)),
    )


def render_usage(usage: Usage | None) -> dict[str, Any]:
    """Render the usage, which the format requires. If it is unknown, all counts are zero."""
    usage = usage or Usage()
    rendered: dict[str, Any] = {
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.output,
    }
    if written_for_long := usage.cache_write_1h + usage.cache_write_12h:
        rendered["cache_creation"] = {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": written_for_long,
        }
    if usage.reasoning:
        rendered["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return rendered
