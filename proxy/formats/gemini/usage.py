"""usageMetadata (ai.google.dev/api/generate-content#UsageMetadata), both ways."""

from typing import Any

from msgspec.structs import replace

from proxy.formats.neutral import Usage
from proxy.formats.server_tools import objects, stated_calls, stated_modalities, tier_of
from proxy.formats.tokens import count_of

MAX_TOKENS = 2**31 - 1
PROMPT, CACHED, TOOL_PROMPT = "promptTokenCount", "cachedContentTokenCount", "toolUsePromptTokenCount"
OUTPUT, THOUGHTS, TOTAL = "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount"
COUNTS = (PROMPT, CACHED, TOOL_PROMPT, OUTPUT, THOUGHTS)


def counts_in(metadata: Any) -> dict[str, int]:
    if not isinstance(metadata, dict):
        return {}
    return {name: count for name in COUNTS if (count := count_of(metadata.get(name))) is not None}


def merged(before: dict[str, int], metadata: Any) -> dict[str, int]:
    """A stream's counts are totals so far, and the last ones count. What a chunk leaves out of them stands, but for what was
    generated where it states a new total: Gemini starts over after a tool of its own."""
    counts = counts_in(metadata)
    if isinstance(metadata, dict) and TOTAL in metadata:
        before = {name: count for name, count in before.items() if name in (PROMPT, CACHED)}
    return before | counts


def searches_in(grounding: Any) -> set[str]:
    """The queries that Google searched for. Empty and repeated ones are not billed (ai.google.dev/gemini-api/docs/google-search)."""
    queries = grounding.get("webSearchQueries") if isinstance(grounding, dict) else None
    return {query for query in queries if isinstance(query, str) and query} if isinstance(queries, list) else set()


def with_services(usage: Usage | None, metadata: Any, queries: set[str]) -> Usage | None:
    """What an answer is billed for beside its tokens of text."""
    calls = stated_calls(web_search=len(queries)) | modalities_in(metadata)
    return usage and replace(usage, service_tier=tier_in(metadata), tool_calls=calls)


def modalities_in(metadata: Any) -> dict[str, int]:
    """Tokens of sound, pictures and films, which the details tell apart from text."""
    told = metadata if isinstance(metadata, dict) else {}
    found: dict[str, int] = {}
    for prefix, name in (("input", "promptTokensDetails"), ("output", "candidatesTokensDetails")):
        counts = {str(detail.get("modality")).lower(): detail.get("tokenCount") for detail in objects(told.get(name))}
        found |= stated_modalities(prefix, **{modality: counts.get(modality) for modality in ("audio", "image", "video")})
    return found


def tier_in(metadata: Any) -> str:
    return tier_of(metadata.get("serviceTier")) if isinstance(metadata, dict) else ""


def stated_usage(counts: dict[str, int], metadata: Any, has_content: bool) -> Usage | None:
    """Protocol buffers leave zeros out: metadata without a count says that a prompt which got no answer cost nothing."""
    if not counts and metadata is not None and not has_content:
        return Usage()
    return neutral_usage(counts)


def neutral_usage(counts: dict[str, int]) -> Usage | None:
    """Disjoint buckets: Google counts cached tokens inside the prompt, those of its tools' results outside it, and thoughts
    outside the output. None for counts that are absent or absurd."""
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
    metadata = {PROMPT: usage.prompt, OUTPUT: usage.output - usage.reasoning, TOTAL: usage.prompt + usage.output}
    if usage.cache_read:
        metadata[CACHED] = usage.cache_read
    if usage.reasoning:
        metadata[THOUGHTS] = usage.reasoning
    return metadata
