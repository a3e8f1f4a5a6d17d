"""Usage of responses, parsed and rendered, and the gateway's own count of output."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.formats.json_body import (
    DECODE_ERRORS,
    as_dict,
    as_str,
    contains_any,
    decode_fields,
    decode_lenient,
    decode_value,
    dict_items,
    repair_json,
)
from proxy.formats.metering.token_counts import (
    as_count,
    cache_writes,
    detail_count,
    estimate_text_tokens,
    estimate_tokens,
    input_and_output,
    output_with_reasoning,
    render_cache_writes,
)
from proxy.formats.metering.usage_reader import UsageReader
from proxy.formats.neutral import MAX_TOKENS, NO_DEFAULTS, Usage, UsageDefaults, reported_or_none
from proxy.formats.openai_responses.image_generation import has_reported_usage
from proxy.formats.openai_responses.server_tools import CALL_MARKERS, billable_calls, with_billable_extras
from proxy.formats.openai_responses.wire import ABSENT, WireUsage, decode_event_fields

DELTA_SUFFIX = ".delta"
ITEM_DONE = "response.output_item.done"
REPORT_FIELDS = ("usage", "service_tier", "tool_usage")
OUTPUT_FIELDS = ("output", "tools")
WRITTEN_FIELDS = ("content", "summary", "text", "refusal", "arguments", "input", "code")
"""Fields of an output item that contain text from the model."""


class StreamUsage(UsageReader):
    """Reads the usage of a stream. The final event contains it."""

    def __init__(self, defaults: UsageDefaults = NO_DEFAULTS) -> None:
        self.defaults = defaults
        self.tools: list[dict[str, Any]] = defaults.tools
        """The tools of the request, followed by those that the response repeats."""
        self.items: list[dict[str, Any]] = []
        self.last_usage: Usage | None = None

    def read_event(self, data: bytes, name: str = "") -> str:
        """Read the usage and output in the data of an event, and return the type of the event.

        `name` is the type to use if the data does not contain one. Raises one of DECODE_ERRORS.
        """
        event = decode_lenient(decode_event_fields, data)
        # Compatible servers send an error without a type.
        kind = as_str(event.type) or name or ("" if event.error is None else "error")
        self.read_delta(kind, event.delta)
        if kind == ITEM_DONE and event.item != ABSENT:
            self.end_item(decode_value(event.item))
        if event.response != ABSENT:
            self.read_response(decode_usage_fields(bytes(event.response)))
        return kind

    def read_delta(self, kind: str, delta: Any) -> None:
        """Count the text of a delta."""
        if kind.endswith(DELTA_SUFFIX):
            self.add_tokens(estimate_text_tokens(as_str(delta)))

    def end_item(self, item: Any) -> None:
        """Keep a complete item of the output, because it may be a billable call of a server tool."""
        self.items.append({name: value for name, value in as_dict(item).items() if name != "result"})

    def read_response(self, response: Mapping[str, Any]) -> None:
        """Read the response in an event, which may be incomplete."""
        self.read_tier(response.get("service_tier"))
        usage = parse_usage(response, self.defaults)
        self.tools = self.defaults.tools + dict_items(response.get("tools"))
        if usage and (missing := self.missing_calls(usage)):
            usage = replace(usage, billable_extras=usage.billable_extras | missing, estimated=True)
        self.last_usage = usage if reported_or_none(usage) else self.last_usage or usage
        if self.last_usage is None:
            self.output_tokens = self.output_tokens or output_tokens(response.get("output"))

    def missing_calls(self, usage: Usage) -> dict[str, int]:
        """Return the calls of server tools that were streamed, but are not in the complete response."""
        seen = self.server_tool_calls.items() if self.items else ()
        return {kind: count for kind, count in seen if kind not in usage.billable_extras}

    @property
    def reported(self) -> Usage | None:
        return self.last_usage

    @property
    def server_tool_calls(self) -> Mapping[str, int]:
        return billable_calls(self.items, self.tools, None)


def measure(body: bytes, defaults: UsageDefaults = NO_DEFAULTS) -> tuple[Usage | None, int]:
    """Return the reported usage and 0, or None and the gateway's count of output tokens.

    If the output cannot be decoded, the count is estimated from the length of the body.
    """
    try:
        response = decode_usage_fields(body)
    except DECODE_ERRORS:
        return None, estimate_tokens(len(body))
    usage = reported_or_none(parse_usage(response, defaults))
    if usage is not None:
        return usage, 0
    if dict_items(response.get("output")) != response.get("output"):
        return None, estimate_tokens(len(body))
    return None, output_tokens(response["output"])


def billed_items(body: bytes, defaults: UsageDefaults) -> Usage:
    """Return the service tier and the server tool calls of a response that reports no usage."""
    try:
        return with_billed_items(Usage(), decode_usage_fields(body), defaults)
    except DECODE_ERRORS:
        return Usage()


def decode_usage_fields(body: bytes) -> dict[str, Any]:
    """Return the fields of a response that contain its usage. Raises one of DECODE_ERRORS.

    Fields that cannot be decoded are left out. The output and the tools may be large, so they are decoded
    only if server tools were called, or if the response reports no usage.
    """
    raw = decode_fields(repair_json(body))
    fields = {name: decode_value(raw[name]) for name in REPORT_FIELDS if name in raw}
    calls_tools = contains_any(bytes(raw.get("output", b"")), CALL_MARKERS)
    if (
        calls_tools
        or has_reported_usage(fields.get("tool_usage"))
        or reported_or_none(parse_usage(fields)) is None
    ):
        fields |= {name: decode_value(raw[name]) for name in OUTPUT_FIELDS if name in raw}
    return fields


def output_tokens(value: Any) -> int:
    """Estimate the tokens of the text, arguments and thinking in an output."""
    match value:
        case list():
            return sum(map(output_tokens, value))
        case dict():
            return sum(output_tokens(value[name]) for name in WRITTEN_FIELDS if name in value)
        case str():
            return estimate_text_tokens(value)
        case _:
            return 0


def parse_usage(response: Mapping[str, Any], defaults: UsageDefaults = NO_DEFAULTS) -> Usage | None:
    """Return the usage that a response reports, with its billable extras; None if it reports none."""
    try:
        wire = msgspec.convert(response.get("usage"), WireUsage)
    except msgspec.ValidationError:
        return None
    usage = usage_from_wire(wire, defaults.cache_lifetime)
    return usage and with_billed_items(usage, response, defaults)


def with_billed_items(usage: Usage, response: Mapping[str, Any], defaults: UsageDefaults) -> Usage:
    """Add the service tier and the calls of server tools of a decoded response."""
    return with_billable_extras(
        usage,
        response.get("service_tier"),
        response.get("output"),
        defaults.tools + dict_items(response.get("tools")),
        response.get("tool_usage"),
    )


def usage_from_wire(wire: WireUsage, lifetime: str = "") -> Usage | None:
    """Return the usage in disjoint buckets; None if counts are missing, not numbers, or out of range.

    OpenAI's input count includes the tokens that are read from or written to the cache.
    """
    counts = input_and_output(wire.input_tokens, wire.output_tokens, wire.total_tokens)
    if counts is None:
        return None
    (prompt, output), details = counts, wire.input_tokens_details
    cached, (written, written_12h) = detail_count(details, "cached_tokens"), cache_writes(details, lifetime)
    reasoning = detail_count(wire.output_tokens_details, "reasoning_tokens")
    if not all(
        0 <= count <= MAX_TOKENS for count in (prompt, output, cached, written, written_12h, reasoning)
    ):
        return None
    cached = min(cached, prompt)
    written = min(written, prompt - cached)
    written_12h = min(written_12h, written)
    output = output_with_reasoning(prompt, output, reasoning, as_count(wire.total_tokens))
    return Usage(
        input=prompt - cached - written,
        cache_read=cached,
        cache_write_5m=written - written_12h,
        cache_write_12h=written_12h,
        output=output,
        reasoning=reasoning,
    )


def render_usage(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cache_read, **render_cache_writes(usage)},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.output,
    }
