"""Usage in the forms of OpenAI and of compatible servers, and the gateway's count of the output."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.formats.json_body import DECODE_ERRORS, as_dict, decode_available_fields, dict_items
from proxy.formats.metering.billable import parse_tier, reported_calls, reported_tokens
from proxy.formats.metering.token_counts import (
    as_count,
    cache_writes,
    detail_count,
    estimate_tokens,
    input_and_output,
    output_with_reasoning,
    render_cache_writes,
    text_bytes,
)
from proxy.formats.metering.usage_reader import UsageReader
from proxy.formats.neutral import MAX_TOKENS, NO_DEFAULTS, Usage, UsageDefaults, reported_or_none
from proxy.formats.openai_chat.wire import WireUsage

UNCOUNTED_DELTA_FIELDS = ("role", "id")


class StreamUsage(UsageReader):
    """Reads the usage from the chunks of a stream.

    Some servers report the usage so far in every chunk. If more output has arrived since the last report, the
    gateway's count applies.
    """

    def __init__(self, defaults: UsageDefaults = NO_DEFAULTS) -> None:
        self.defaults = defaults
        self.last_usage: Usage | None = None
        self.counted_at_last_report = 0
        """The gateway's count of the output that the last report covers."""

    def read(self, chunk: Mapping[str, Any]) -> None:
        """Count the output of a chunk, and read its usage. A chunk after [DONE] may also report usage."""
        self.read_tier(chunk.get("service_tier"))
        for choice in dict_items(chunk.get("choices")):
            self.add_tokens(choice_tokens(choice))
        usage = parse_usage(chunk, self.defaults)
        if reported_or_none(usage):
            self.last_usage, self.counted_at_last_report = usage, self.output_tokens
        else:
            self.last_usage = self.last_usage or usage

    @property
    def reported(self) -> Usage | None:
        usage = reported_or_none(self.last_usage)
        if usage is None or self.output_tokens == self.counted_at_last_report:
            return self.last_usage
        return replace(usage, output=max(usage.output, self.output_tokens), estimated=True)


def measure(body: bytes, defaults: UsageDefaults = NO_DEFAULTS) -> tuple[Usage | None, int]:
    """Return the reported usage and 0, or None and the gateway's count of output tokens.

    If the choices cannot be decoded, the count is estimated from the length of the body.
    """
    try:
        response = decode_available_fields(body)
    except DECODE_ERRORS:
        return None, estimate_tokens(len(body))
    usage = reported_or_none(parse_usage(response, defaults))
    if usage is not None:
        return usage, 0
    choices = dict_items(response.get("choices"))
    if choices != response.get("choices"):
        return None, estimate_tokens(len(body))
    return None, sum(map(choice_tokens, choices))


def billed_items(body: bytes, _defaults: UsageDefaults) -> Usage:
    """Return the service tier and the server tool calls of a response that reports no usage."""
    try:
        return Usage(service_tier=parse_tier(decode_available_fields(body).get("service_tier")))
    except DECODE_ERRORS:
        return Usage()


def choice_tokens(choice: dict[str, Any]) -> int:
    """Return the gateway's count of output tokens in one choice of a response or chunk."""
    return delta_tokens(choice.get("message") or choice.get("delta")) or estimate_tokens(
        text_bytes(choice.get("text"))
    )


def delta_tokens(delta: Any) -> int:
    """Return the gateway's count of the tokens in one delta."""
    return estimate_tokens(
        sum(
            text_bytes(value)
            for name, value in as_dict(delta).items()
            if value and name not in UNCOUNTED_DELTA_FIELDS
        )
    )


def parse_usage(body: Mapping[str, Any], defaults: UsageDefaults = NO_DEFAULTS) -> Usage | None:
    """Return the usage that a decoded response or chunk reports, or None.

    Groq has a separate field for it in the last chunk (console.groq.com/docs/api-reference), and Moonshot
    reports it in the choice (platform.moonshot.ai/docs/api/chat). The first report with any tokens is used.
    """
    places = (
        body.get("usage"),
        as_dict(body.get("x_groq")).get("usage"),
        *(choice.get("usage") for choice in dict_items(body.get("choices"))),
    )
    found = [parse_usage_object(place, body.get("service_tier"), defaults) for place in places if place]
    reports = [usage for usage in found if usage is not None]
    return next(filter(reported_or_none, reports), reports[0] if reports else None)


def parse_usage_object(
    value: Any, service_tier: Any = None, defaults: UsageDefaults = NO_DEFAULTS
) -> Usage | None:
    """Return the usage in decoded JSON of any type, or None."""
    try:
        return usage_from_wire(msgspec.convert(value, WireUsage), service_tier, defaults)
    except msgspec.ValidationError:
        return None


def usage_from_wire(
    wire: WireUsage, service_tier: Any = None, defaults: UsageDefaults = NO_DEFAULTS
) -> Usage | None:
    """Return the usage in disjoint buckets; None if counts are missing, mistyped or out of range.

    OpenAI's count of prompt tokens includes cached tokens. The service tier is not in the usage, but in the
    response. `defaults` apply to cache writes whose lifetime is not reported, and to audio.
    """
    given = wire.input_tokens if wire.prompt_tokens is None else wire.prompt_tokens
    made = wire.output_tokens if wire.completion_tokens is None else wire.completion_tokens
    counts = input_and_output(given, made, wire.total_tokens)
    if counts is None:
        return None
    (prompt, output), reasoning, details = counts, reasoning_tokens(wire), wire.prompt_tokens_details
    cached, (written, written_12h) = cached_tokens(wire), cache_writes(details, defaults.cache_lifetime)
    if not all(
        0 <= count <= MAX_TOKENS for count in (prompt, output, cached, written, written_12h, reasoning)
    ):
        return None
    output = output_with_reasoning(prompt, output, reasoning, as_count(wire.total_tokens))
    cached = min(cached, prompt)
    written = min(written, prompt - cached)
    written_12h = min(written_12h, written)
    return Usage(
        input=prompt - cached - written,
        cache_read=cached,
        cache_write_5m=written - written_12h,
        cache_write_12h=written_12h,
        output=output,
        reasoning=min(reasoning, output),
        service_tier=parse_tier(service_tier),
        billable_extras=searches(wire) | audio_tokens(wire, prompt, output, defaults),
    )


def searches(wire: WireUsage) -> dict[str, int]:
    return reported_calls(
        web_search=detail_count(wire.server_tool_use, "web_search_requests") or wire.num_search_queries
    )


def audio_tokens(wire: WireUsage, prompt: int, output: int, defaults: UsageDefaults) -> dict[str, int]:
    """Return the audio tokens of the prompt and of the completion.

    If the response does not report them, but the request has audio, all tokens count as audio.
    """
    counts: dict[str, int] = {}
    for kind, details, total in (
        ("input_audio", wire.prompt_tokens_details, prompt),
        ("output_audio", wire.completion_tokens_details, output),
    ):
        reported = as_dict(details).get("audio_tokens")
        assumed = total if kind in defaults.modalities else 0
        counts |= reported_tokens("", **{kind: assumed if reported is None else reported})
    return counts


def reasoning_tokens(wire: WireUsage) -> int:
    return (
        detail_count(wire.completion_tokens_details, "reasoning_tokens")
        or as_count(wire.reasoning_tokens)
        or 0
    )


def cached_tokens(wire: WireUsage) -> int:
    """Return the tokens that were read from the cache. The name of the field depends on the server."""
    return (
        detail_count(wire.prompt_tokens_details, "cached_tokens")
        or as_count(wire.prompt_cache_hit_tokens)
        or as_count(wire.cached_tokens)
        or 0
    )


def render_usage(usage: Usage) -> dict[str, Any]:
    """Render the usage in OpenAI's form.

    Cache writes have the field names of OpenAI and of OpenRouter.
    """
    prompt_details: dict[str, Any] = {"cached_tokens": usage.cache_read}
    if usage.cache_write:
        prompt_details |= render_cache_writes(usage)
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.output,
        "total_tokens": usage.prompt + usage.output,
        "prompt_tokens_details": prompt_details,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }
