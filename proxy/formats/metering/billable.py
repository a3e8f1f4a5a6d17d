"""Facts that change the cost besides text tokens: the service tier, and billable extras.

Each kind of tool has the same name in all formats: `web_search`, `file_search`, `code_interpreter` and so on.
The prices are in `billing/pricing/`.
"""

import re
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from proxy.formats.json_body import contains_any
from proxy.formats.metering.token_counts import as_count
from proxy.formats.neutral import MAX_TOKENS, Usage

DEFAULT_MAX_CALLS = 10
"""The assumed limit of a server tool's calls, for requests without one. Vendors have no limit."""
MAX_CALLS = 1_000
ESTIMATED_PREFIX = "estimated_"
"""Prefix of kinds of tokens that the gateway estimated because the provider did not report them."""
MAX_TIER_LENGTH = 20
AUTO_TIER, BATCH_TIER = "auto", "batch"
UNREADABLE_TIER = "?"
"""Start of the names of tiers for which no price has rates."""
REGIONAL_TIER = re.compile(r"(.*_)?(us|global)")
"""Names of tiers by which prices distinguish regions of inference.

Vendors do not have such service tiers.
"""
MODALITIES = ("input_audio", "input_image", "input_video")
"""Kinds of input tokens that may cost more than text."""


def normalize_tier(reported: Any) -> str:
    """Return a tier or a region in lower case; empty if none is stated.

    `auto` is not a tier: in a request, it allows any tier. A response that repeats it reports no tier.
    """
    if not isinstance(reported, str):
        return ""
    tier = reported.strip().lower().removeprefix("service_tier_")[:MAX_TIER_LENGTH]
    return "" if tier == AUTO_TIER else tier


def parse_tier(value: Any) -> str:
    """Return the service tier that a request asks for, or that a response states; empty if there is none.

    A value that is not a text becomes a tier for which no price has rates. The names of regions, and the tier
    of batches, which a single request cannot use, become such a tier too.
    """
    if value and not isinstance(value, str):
        return UNREADABLE_TIER
    tier = normalize_tier(value)
    is_impossible = tier == BATCH_TIER or REGIONAL_TIER.fullmatch(tier)
    return f"{UNREADABLE_TIER}{tier}"[:MAX_TIER_LENGTH] if is_impossible else tier


def named_tiers(**tiers: str) -> tuple[tuple[str, str], ...]:
    """Return the fields of a request that ask for a tier, each with its tier."""
    return tuple((field, tier) for field, tier in tiers.items() if tier)


def tool_call_limit(requested: Any) -> int:
    """Return the limit of calls in a request, or the assumed limit."""
    count = as_count(requested)
    return DEFAULT_MAX_CALLS if count is None or count < 0 else min(count, MAX_CALLS)


def count_kinds(kinds: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for kind in kinds:
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def reported_calls(**counts: Any) -> dict[str, int]:
    """Return the reported counts, at most MAX_CALLS each, without missing, zero and negative counts."""
    found = {kind: as_count(count) for kind, count in counts.items()}
    return {kind: min(count, MAX_CALLS) for kind, count in found.items() if count and count > 0}


def reported_modalities(prefix: str, **counts: Any) -> dict[str, int]:
    """Return the counts of tokens that are not text, by kind, such as `input_audio`."""
    return reported_tokens(f"{prefix}_", **counts)


def reported_tokens(prefix: str, **counts: Any) -> dict[str, int]:
    """Return the counts of tokens by kind. The names of the kinds get this prefix."""
    found = {f"{prefix}{kind}": as_count(count) for kind, count in counts.items()}
    return {kind: min(count, MAX_TOKENS) for kind, count in found.items() if count and count > 0}


def assume_modalities(usage: Usage | None, kinds: Iterable[str]) -> Usage | None:
    """Return the usage with all input tokens counted as each of these kinds that it does not report."""
    if usage is None:
        return None
    assumed = {kind: usage.prompt for kind in kinds if kind not in usage.billable_extras and usage.prompt}
    return replace(usage, billable_extras=usage.billable_extras | assumed) if assumed else usage


def has_estimated_kind(kinds: Iterable[str]) -> bool:
    """Return whether the gateway estimated some of the kinds."""
    return any(ESTIMATED_PREFIX in kind for kind in kinds)


def possible_modalities(body: bytes, markers: Iterable[bytes], max_input_tokens: int) -> dict[str, int]:
    """Return the limits for a request that may contain audio, images or video.

    The gateway does not count these kinds separately. For each of them, it assumes that all input tokens are
    of this kind.
    """
    return dict.fromkeys(MODALITIES, max_input_tokens) if contains_any(body, markers) else {}
