"""usageMetadata, parsed and rendered (ai.google.dev/api/generate-content#UsageMetadata)."""

from typing import Any

from msgspec.structs import replace

from proxy.formats.gemini.grounding import GroundingUsage
from proxy.formats.gemini.wire import WireResponse
from proxy.formats.json_body import dict_items
from proxy.formats.metering.billable import normalize_tier, reported_modalities
from proxy.formats.metering.token_counts import as_count
from proxy.formats.neutral import MAX_TOKENS, Usage, stated

PROMPT, CACHED, TOOL_PROMPT = "promptTokenCount", "cachedContentTokenCount", "toolUsePromptTokenCount"
OUTPUT, THOUGHTS, TOTAL = "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount"
MISTYPED = -1
"""Stands for a count that is not a number. Like any negative count, it invalidates the usage."""
MODALITIES = ("audio", "image", "video")
COUNTS = (PROMPT, CACHED, TOOL_PROMPT, OUTPUT, THOUGHTS)


def parse_usage(response: WireResponse) -> Usage | None:
    grounding_usage = GroundingUsage()
    for candidate in response.candidates or ():
        grounding_usage.add(candidate.grounding_metadata)
    metadata = response.usage_metadata
    usage = shown_usage(parse_counts(metadata), metadata, is_blocked=response.is_blocked)
    return with_billable_extras(usage, metadata, grounding_usage)


def parse_embedding_usage(metadata: Any) -> Usage | None:
    """Return the usage of embeddings.

    Audio, images and video cost more than text (ai.google.dev/gemini-api/docs/pricing, "Gemini Embedding 2").
    """
    return with_billable_extras(stated(usage_from_wire(metadata)), metadata, GroundingUsage())


def usage_from_wire(metadata: Any) -> Usage | None:
    """Return the token counts in usageMetadata; None if they are absent, mistyped or absurd."""
    return usage_from_counts(parse_counts(metadata))


def parse_counts(metadata: Any) -> dict[str, int]:
    """Return the counts in metadata. Protocol buffers leave out counts of zero."""
    if not isinstance(metadata, dict):
        return {}
    reported = {name: metadata[name] for name in COUNTS if metadata.get(name) is not None}
    return {
        name: MISTYPED if (count := as_count(value)) is None else count for name, value in reported.items()
    }


def merge_counts(earlier: dict[str, int], metadata: Any) -> dict[str, int]:
    """Merge the counts of a chunk into those before it. Counts are totals so far.

    Counts that a chunk leaves out stay. If it reports a new total, only those of the prompt stay: Gemini
    starts over after one of its own tools.
    """
    counts = parse_counts(metadata)
    if isinstance(metadata, dict) and TOTAL in metadata:
        earlier = {name: count for name, count in earlier.items() if name in (PROMPT, CACHED)}
    return earlier | counts


def with_billable_extras(usage: Usage | None, metadata: Any, grounding_usage: GroundingUsage) -> Usage | None:
    """Add the service tier and what is billed beside tokens of text."""
    return usage and replace(
        usage,
        service_tier=parse_service_tier(metadata),
        billable_extras=grounding_usage.billable_extras | parse_modalities(metadata),
    )


def parse_modalities(metadata: Any) -> dict[str, int]:
    """Return the tokens of audio, images and video, which the details list.

    Those of the prompt include tokens read from the cache, but not those that Google's tools have added.
    """
    prompt, cached, tool_prompt, output = (
        tokens_by_modality(metadata, f"{name}TokensDetails")
        for name in ("prompt", "cache", "toolUsePrompt", "candidates")
    )
    input_counts = {
        name: max(prompt.get(name, 0) - cached.get(name, 0), 0) + tool_prompt.get(name, 0)
        for name in MODALITIES
    }
    return (
        reported_modalities("input", **input_counts)
        | reported_modalities("cached", **cached)
        | reported_modalities("output", **output)
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


def shown_usage(counts: dict[str, int], metadata: Any, *, is_blocked: bool) -> Usage | None:
    """Return the usage to show to a client: zeros for a blocked prompt without counts.

    Such zeros report nothing that could be charged.
    """
    if not counts and is_blocked and isinstance(metadata, dict):
        return Usage()
    return usage_from_counts(counts)


def usage_from_counts(counts: dict[str, int]) -> Usage | None:
    """Return the usage in disjoint buckets; None if counts are absent, mistyped or absurd.

    Google counts cached tokens inside of the prompt, tokens of its tools' results outside of it, and thinking
    outside of the output.
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
