"""usageMetadata (ai.google.dev/api/generate-content#UsageMetadata), both ways."""

from typing import Any

from msgspec.structs import replace

from proxy.formats import neutral
from proxy.formats.gemini.grounding import GroundingUsage
from proxy.formats.gemini.wire import WireResponse
from proxy.formats.json_body import dict_items
from proxy.formats.metering.billable import normalize_tier, reported_modalities
from proxy.formats.metering.token_counts import as_count
from proxy.formats.neutral import MAX_TOKENS, Usage

PROMPT, CACHED, TOOL_PROMPT = "promptTokenCount", "cachedContentTokenCount", "toolUsePromptTokenCount"
OUTPUT, THOUGHTS, TOTAL = "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount"
MISTYPED = -1
"""Stands for a count that is none. Like any negative one, it makes the whole usage worthless."""
MODALITIES = ("audio", "image", "video")
COUNTS = (PROMPT, CACHED, TOOL_PROMPT, OUTPUT, THOUGHTS)


def parse_counts(metadata: Any) -> dict[str, int]:
    """Return the counts that stand in metadata: protocol buffers leave those out that are zero."""
    if not isinstance(metadata, dict):
        return {}
    given = {name: metadata[name] for name in COUNTS if metadata.get(name) is not None}
    return {name: MISTYPED if (count := as_count(value)) is None else count for name, value in given.items()}


def merge_counts(before: dict[str, int], metadata: Any) -> dict[str, int]:
    """A stream's counts are totals so far, and the last ones count. What a chunk leaves out of them stands, but for what was
    generated where it states a new total: Gemini starts over after a tool of its own.
    """
    counts = parse_counts(metadata)
    if isinstance(metadata, dict) and TOTAL in metadata:
        before = {name: count for name, count in before.items() if name in (PROMPT, CACHED)}
    return before | counts


def with_billable_extras(usage: Usage | None, metadata: Any, grounding_usage: GroundingUsage) -> Usage | None:
    """What an answer is billed for beside its tokens of text."""
    return usage and replace(
        usage,
        service_tier=parse_service_tier(metadata),
        billable_extras=grounding_usage.billable_extras | parse_modalities(metadata),
    )


def parse_modalities(metadata: Any) -> dict[str, int]:
    """Tokens of sound, pictures and films, which the details tell apart from text. Those of the prompt count what was read from a
    cache as well, and not what Google's tools have found.
    """
    prompt, cached, found, made = (
        tokens_by_modality(metadata, f"{name}TokensDetails")
        for name in ("prompt", "cache", "toolUsePrompt", "candidates")
    )
    heard = {
        name: max(prompt.get(name, 0) - cached.get(name, 0), 0) + found.get(name, 0) for name in MODALITIES
    }
    return (
        reported_modalities("input", **heard)
        | reported_modalities("cached", **cached)
        | reported_modalities("output", **made)
    )


def tokens_by_modality(metadata: Any, name: str) -> dict[str, int]:
    details = dict_items(metadata.get(name)) if isinstance(metadata, dict) else []
    counts = {str(detail.get("modality")).lower(): as_count(detail.get("tokenCount")) for detail in details}
    return {
        modality: count
        for modality in MODALITIES
        if (count := counts.get(modality)) and 0 < count <= MAX_TOKENS
    }


def parse_service_tier(metadata: Any) -> str:
    return normalize_tier(metadata.get("serviceTier")) if isinstance(metadata, dict) else ""


def shown_usage(counts: dict[str, int], metadata: Any, blocked: bool) -> Usage | None:
    """Return the usage to show to a client: zeros for a blocked prompt without counts.

    Such zeros state nothing that could be charged.
    """
    if not counts and blocked and isinstance(metadata, dict):
        return Usage()
    return usage_from_counts(counts)


def usage_from_counts(counts: dict[str, int]) -> Usage | None:
    """Disjoint buckets: Google counts cached tokens inside the prompt, those of its tools' results outside it, and thoughts
    outside the output. None for counts that are absent, mistyped or absurd.
    """
    if not counts or not all(0 <= count <= MAX_TOKENS for count in counts.values()):
        return None
    prompt, thoughts = counts.get(PROMPT, 0), counts.get(THOUGHTS, 0)
    cached = min(counts.get(CACHED, 0), prompt)
    return Usage(
        input=prompt - cached + counts.get(TOOL_PROMPT, 0),
        cache_read=cached,
        output=counts.get(OUTPUT, 0) + thoughts,
        reasoning=thoughts,
    )


def render_usage(usage: Usage) -> dict[str, int]:
    metadata = {
        PROMPT: usage.prompt,
        OUTPUT: usage.output - usage.reasoning,
        TOTAL: usage.prompt + usage.output,
    }
    if usage.cache_read:
        metadata[CACHED] = usage.cache_read
    if usage.reasoning:
        metadata[THOUGHTS] = usage.reasoning
    return metadata


def parse_embedding_usage(metadata: Any) -> Usage | None:
    """Sound, pictures and films cost more than text (ai.google.dev/gemini-api/docs/pricing, "Gemini Embedding 2")."""
    return with_billable_extras(
        neutral.stated(usage_from_counts(parse_counts(metadata))), metadata, GroundingUsage()
    )


def parse_usage(response: WireResponse) -> Usage | None:
    grounded = GroundingUsage()
    for candidate in response.candidates or ():
        grounded.add(candidate.grounding_metadata)
    metadata = response.usage_metadata
    return with_billable_extras(
        shown_usage(parse_counts(metadata), metadata, response.is_blocked), metadata, grounded
    )
