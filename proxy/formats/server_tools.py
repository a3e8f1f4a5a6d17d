"""What providers bill beside tokens: the service tier that they served in, and calls of the tools that they run themselves.

Kinds of tools have one name each in all formats: `web_search`, `file_search`, `code_interpreter` and the like. What they cost is
no business of a format's (`billing/prices/`).
"""

from collections.abc import Iterable
from typing import Any

from proxy.formats.body import mentions
from proxy.formats.tokens import count_of

DEFAULT_CALLS = 10
"""How often a tool is taken to be called at most by a request that sets no limit: vendors have none."""
MOST_CALLS = 1_000
MOST_TOKENS = 2**31 - 1
ESTIMATED = "estimated_"
"""In kinds of tokens that a provider did not state, and that are counted here by what its documents say."""
LONGEST_TIER = 20


def tier_of(stated: Any) -> str:
    """A service tier as a vendor writes it, in requests and answers; empty where none is stated."""
    return stated.strip().lower().removeprefix("service_tier_")[:LONGEST_TIER] if isinstance(stated, str) else ""


def limit_of(stated: Any) -> int:
    """A limit of calls that a request sets, or the one that is assumed."""
    count = count_of(stated)
    return DEFAULT_CALLS if count is None or count < 0 else min(count, MOST_CALLS)


def counted(kinds: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for kind in kinds:
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def stated_calls(**counts: Any) -> dict[str, int]:
    """Counts that a provider states, without those that are absent, zero or absurd."""
    found = {kind: count_of(count) for kind, count in counts.items()}
    return {kind: min(count, MOST_CALLS) for kind, count in found.items() if count and count > 0}


def stated_modalities(prefix: str, **counts: Any) -> dict[str, int]:
    """Tokens that are not text, by kind: `input_audio` and the like."""
    return stated_tokens(f"{prefix}_", **counts)


def stated_tokens(prefix: str, **counts: Any) -> dict[str, int]:
    """Counts of tokens, by kinds that begin so."""
    found = {f"{prefix}{kind}": count_of(count) for kind, count in counts.items()}
    return {kind: min(count, MOST_TOKENS) for kind, count in found.items() if count and count > 0}


def are_estimated(kinds: Iterable[str]) -> bool:
    """Whether some of an answer's kinds were counted by us."""
    return any(ESTIMATED in kind for kind in kinds)


def heard(body: bytes, marks: Iterable[bytes], input_bound: int) -> dict[str, int]:
    """The limit of a request that may hold sound, pictures or films, which cost more than text: all of its input."""
    return dict.fromkeys(("input_audio", "input_image", "input_video"), input_bound) if mentions(body, marks) else {}


def objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
