"""Usage of responses: usageMetadata, parsed and rendered, and the gateway's count of output.

Source: ai.google.dev/api/generate-content#UsageMetadata.
"""

from typing import Any

from msgspec.structs import replace

from proxy.formats.gemini.grounding import GroundingUsage
from proxy.formats.gemini.modalities import assumed_modalities, parse_modalities
from proxy.formats.gemini.wire import (
    PartFacts,
    WireResponse,
    decode_raw_response_facts,
    decode_response_facts,
)
from proxy.formats.json_body import DECODE_ERRORS, as_dict, decode_lenient, decode_value, dict_items
from proxy.formats.metering.billable import parse_tier
from proxy.formats.metering.token_counts import as_count, estimate_text_tokens, estimate_tokens
from proxy.formats.metering.usage_reader import UsageReader
from proxy.formats.neutral import MAX_TOKENS, NO_DEFAULTS, Usage, UsageDefaults, reported_or_none

PROMPT, CACHED, TOOL_PROMPT = "promptTokenCount", "cachedContentTokenCount", "toolUsePromptTokenCount"
OUTPUT, THOUGHTS, TOTAL = "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount"
MISTYPED = -1
"""The value for a count that is not a number. Like any negative count, it makes the usage invalid."""
COUNTS = (PROMPT, CACHED, TOOL_PROMPT, OUTPUT, THOUGHTS)


class StreamUsage(UsageReader):
    """Reads the usage of a stream. Each chunk reports the usage from the start of the response.

    Until the final usage arrives, the reported counts may lag behind the text. The output is then the larger
    of the reported count and the gateway's own count.
    """

    def __init__(self, defaults: UsageDefaults = NO_DEFAULTS) -> None:
        self.defaults = defaults
        self.counts: dict[str, int] = {}
        self.metadata: dict[str, Any] = {}
        self.grounding = GroundingUsage()
        self.finishes: dict[int, bool] = {}
        self.is_blocked = self.has_feedback = self.has_parts = self.has_final_usage = False

    @property
    def saw_finish_reason(self) -> bool:
        return bool(self.finishes) and all(self.finishes.values())

    @property
    def is_complete(self) -> bool:
        """Return whether the response has ended.

        Google has no final event: a finish reason ends a response. Two responses end without one: the
        response to a blocked prompt, and a response with feedback on the prompt but no content.
        """
        return self.saw_finish_reason or self.is_blocked or (self.has_feedback and not self.has_parts)

    def read_feedback(self, feedback: Any) -> None:
        self.has_feedback = self.has_feedback or feedback is not None
        self.is_blocked = self.is_blocked or (
            isinstance(feedback, dict) and bool(feedback.get("blockReason"))
        )

    def read_candidate(self, index: Any, finish_reason: Any, grounding: Any) -> None:
        """Note whether a choice has finished, and count the searches in its grounding metadata."""
        index = index if isinstance(index, int) else 0
        self.finishes[index] = bool(finish_reason) or self.finishes.get(index, False)
        self.grounding.add(grounding)

    def read_metadata(self, metadata: Any) -> None:
        """Read the usage of a chunk; call this after its candidates."""
        if metadata is not None:
            self.counts = merge_counts(self.counts, metadata)
            self.metadata |= as_dict(metadata)
            self.has_final_usage = self.is_complete and bool(parse_counts(metadata))

    def read_undecodable(self, data: bytes) -> None:
        """Read a chunk that cannot be decoded completely: use the fields that can be decoded.

        Raises one of DECODE_ERRORS if no field can be decoded.
        """
        chunk = decode_lenient(decode_raw_response_facts, data)
        self.add_tokens(estimate_tokens(len(bytes(chunk.candidates))))
        for candidate in dict_items(decode_value(chunk.candidates)):
            self.has_parts = True
            self.read_candidate(
                candidate.get("index"), candidate.get("finishReason"), candidate.get("groundingMetadata")
            )
        self.read_metadata(decode_value(chunk.usage_metadata))

    @property
    def reported(self) -> Usage | None:
        usage = with_billable_extras(
            shown_usage(self.counts, self.metadata or None, is_blocked=self.is_blocked),
            self.metadata,
            self.grounding,
            self.defaults,
        )
        if usage is None or self.has_final_usage:
            return usage
        return replace(usage, output=max(usage.output, self.output_tokens), estimated=True)


def measure(body: bytes, defaults: UsageDefaults = NO_DEFAULTS) -> tuple[Usage | None, int]:
    """Return the reported usage and 0, or None and the gateway's count of output tokens.

    If a response cannot be decoded completely, the fields that can be decoded count. If no field can be
    decoded, the count is estimated from the number of bytes.
    """
    try:
        response = decode_lenient(decode_response_facts, body)
    except DECODE_ERRORS:
        return measure_undecodable(body, defaults)
    grounding = GroundingUsage()
    for candidate in response.candidates or ():
        grounding.add(candidate.grounding_metadata)
    metadata = response.usage_metadata
    usage = with_billable_extras(reported_or_none(usage_from_wire(metadata)), metadata, grounding, defaults)
    if usage is not None:
        return usage, 0
    is_response = response.candidates or response.prompt_feedback
    return None, sum(map(part_tokens, response.parts)) if is_response else estimate_tokens(len(body))


def billed_items(body: bytes, _defaults: UsageDefaults) -> Usage:
    """Return the service tier and the server tool calls of a response that reports no usage."""
    try:
        response = decode_lenient(decode_response_facts, body)
    except DECODE_ERRORS:
        return Usage()
    grounding = GroundingUsage()
    for candidate in response.candidates or ():
        grounding.add(candidate.grounding_metadata)
    return with_billable_extras(Usage(), response.usage_metadata, grounding) or Usage()


def measure_undecodable(body: bytes, defaults: UsageDefaults) -> tuple[Usage | None, int]:
    """Measure a response that cannot be decoded completely."""
    reader = StreamUsage(defaults)
    try:
        reader.read_undecodable(body)
    except DECODE_ERRORS:
        return None, estimate_tokens(len(body))
    usage = reader.usage and replace(reader.usage, estimated=False)
    return usage, 0 if usage else reader.output_tokens


def part_tokens(part: PartFacts) -> int:
    """Estimate the tokens of one part from its text, its call or its code.

    Images and signatures count as 0.
    """
    if part.text is not None:
        return estimate_text_tokens(part.text)
    return estimate_tokens(len(bytes(part.call)) + len(bytes(part.code)))


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
    return with_billable_extras(reported_or_none(usage_from_wire(metadata)), metadata, GroundingUsage())


def usage_from_wire(metadata: Any) -> Usage | None:
    """Return the token counts in usageMetadata; None if they are absent, not numbers, or out of range."""
    return usage_from_counts(parse_counts(metadata))


def parse_counts(metadata: Any) -> dict[str, int]:
    """Return the counts in usageMetadata.

    A count that is missing is 0, because protocol buffers leave out zeros.
    """
    if not isinstance(metadata, dict):
        return {}
    reported = {name: metadata[name] for name in COUNTS if metadata.get(name) is not None}
    return {
        name: MISTYPED if (count := as_count(value)) is None else count for name, value in reported.items()
    }


def merge_counts(earlier: dict[str, int], metadata: Any) -> dict[str, int]:
    """Merge the counts of a chunk with the counts of earlier chunks.

    Each count covers the response so far.

    Counts that a chunk leaves out stay. But if the chunk has a total, only the earlier counts of the prompt
    and of cached tokens stay, because Gemini counts from zero again after it has run one of its own tools.
    """
    counts = parse_counts(metadata)
    if isinstance(metadata, dict) and TOTAL in metadata:
        earlier = {name: count for name, count in earlier.items() if name in (PROMPT, CACHED)}
    return earlier | counts


def with_billable_extras(
    usage: Usage | None,
    metadata: Any,
    grounding_usage: GroundingUsage,
    defaults: UsageDefaults = NO_DEFAULTS,
) -> Usage | None:
    """Add the service tier and the billable extras."""
    return usage and replace(
        usage,
        service_tier=parse_service_tier(metadata),
        billable_extras=grounding_usage.billable_extras
        | assumed_modalities(usage, metadata, defaults)
        | parse_modalities(metadata),
    )


def parse_service_tier(metadata: Any) -> str:
    return parse_tier(metadata.get("serviceTier")) if isinstance(metadata, dict) else ""


def shown_usage(counts: dict[str, int], metadata: Any, *, is_blocked: bool) -> Usage | None:
    """Return the usage to show to a client. A blocked prompt without counts gets zeros.

    These zeros are only shown. They do not count as usage that the provider has reported.
    """
    if not counts and is_blocked and isinstance(metadata, dict):
        return Usage()
    return usage_from_counts(counts)


def usage_from_counts(counts: dict[str, int]) -> Usage | None:
    """Return the usage in disjoint buckets; None if counts are absent, not numbers, or out of range.

    Google's prompt count includes cached tokens, but not the tokens of its tools' results. Google's output
    count does not include thinking.
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
