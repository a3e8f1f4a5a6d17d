"""What providers bill beside tokens: the service tier that they served in, and calls of the tools that they run themselves.

Kinds of tools have one name each in all formats: `web_search`, `file_search`, `code_interpreter` and the like. What they cost is
no business of a format's (`billing/prices/`).
"""

from collections.abc import Iterable
from typing import Any

from proxy.formats.json_body import contains_any
from proxy.formats.json_body import dict_items as dict_items
from proxy.formats.metering.token_counts import as_count
from proxy.formats.neutral import MAX_TOKENS

DEFAULT_MAX_CALLS = 10
"""How often a tool is taken to be called at most by a request that sets no limit: vendors have none."""
MAX_CALLS = 1_000
ESTIMATED_PREFIX = "estimated_"
"""In kinds of tokens that a provider did not state, and that are counted here by what its documents say."""
MAX_TIER_LENGTH = 20


def normalize_tier(reported: Any) -> str:
    """A service tier as a vendor writes it, in requests and answers; empty where none is stated."""
    return (
        reported.strip().lower().removeprefix("service_tier_")[:MAX_TIER_LENGTH]
        if isinstance(reported, str)
        else ""
    )


def tool_call_limit(requested: Any) -> int:
    """A limit of calls that a request sets, or the one that is assumed."""
    count = as_count(requested)
    return DEFAULT_MAX_CALLS if count is None or count < 0 else min(count, MAX_CALLS)


def count_kinds(kinds: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for kind in kinds:
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def reported_calls(**counts: Any) -> dict[str, int]:
    """Counts that a provider states, without those that are absent, zero or absurd."""
    found = {kind: as_count(count) for kind, count in counts.items()}
    return {kind: min(count, MAX_CALLS) for kind, count in found.items() if count and count > 0}


def reported_modalities(prefix: str, **counts: Any) -> dict[str, int]:
    """Tokens that are not text, by kind: `input_audio` and the like."""
    return reported_tokens(f"{prefix}_", **counts)


def reported_tokens(prefix: str, **counts: Any) -> dict[str, int]:
    """Counts of tokens, by kinds that begin so."""
    found = {f"{prefix}{kind}": as_count(count) for kind, count in counts.items()}
    return {kind: min(count, MAX_TOKENS) for kind, count in found.items() if count and count > 0}


def has_estimated_kind(kinds: Iterable[str]) -> bool:
    """Whether some of an answer's kinds were counted by us."""
    return any(ESTIMATED_PREFIX in kind for kind in kinds)


def possible_modalities(body: bytes, markers: Iterable[bytes], max_input_tokens: int) -> dict[str, int]:
    """The limit of a request that may hold sound, pictures or films, which cost more than text: all of its input."""
    return (
        dict.fromkeys(("input_audio", "input_image", "input_video"), max_input_tokens)
        if contains_any(body, markers)
        else {}
    )
