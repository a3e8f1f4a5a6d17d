"""usageMetadata (ai.google.dev/api/generate-content#UsageMetadata), both ways."""

from typing import Any

from proxy.formats.neutral import Usage
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
