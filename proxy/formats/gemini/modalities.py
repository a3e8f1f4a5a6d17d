"""Modalities of tokens: text, audio, images and video, as a request uses and a response reports them.

Source: ai.google.dev/api/generate-content#ModalityTokenCount.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from proxy.formats.json_body import as_dict, as_str, contains_any, dict_items
from proxy.formats.metering.billable import reported_modalities
from proxy.formats.metering.token_counts import as_count
from proxy.formats.neutral import MAX_TOKENS, Usage, UsageDefaults

MODALITIES = ("audio", "image", "video")
"""All modalities except text.

They are ordered by their price: audio costs the most, then images in the output.
"""
AUDIO_MARKERS = (b"audio", b"video", b"fileUri", b"file_uri", b"cachedContent", b"cached_content")
"""If a request contains one of these byte strings, it may contain audio, directly or by reference."""
OUTPUT_MARKERS = (b"esponseModalities", b"esponse_modalities")
SETTINGS = ("generationConfig", "generation_config")
CACHED = ("cachedContent", "cached_content")
DETAILS = {"input": "promptTokensDetails", "output": "candidatesTokensDetails"}
INLINE, FILE = ("inlineData", "inline_data"), ("fileData", "file_data")


def possible_modalities(body: bytes, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the kinds that the tokens of a request and of its response may have, besides text.

    At most two kinds are returned: the most expensive one of the input, and that of the output.
    """
    found: tuple[str, ...] = ()
    if contains_any(body, AUDIO_MARKERS) and (kind := input_modality(fields)):
        found += (f"input_{kind}",)
    if contains_any(body, OUTPUT_MARKERS) and (kind := output_modality(fields)):
        found += (f"output_{kind}",)
    return found


def input_modality(fields: Mapping[str, Any]) -> str:
    """Return `audio` or `video` if the input may contain it. Content without a type may be audio.

    No model bills images in the input at a rate of their own.
    """
    if any(fields.get(name) for name in CACHED):
        return MODALITIES[0]
    kinds = {
        kind
        for content in dict_items(fields.get("contents"))
        for part in dict_items(content.get("parts"))
        for kind in part_modalities(part)
    }
    return most_expensive(kinds - {"image"})


def part_modalities(part: Mapping[str, Any]) -> list[str]:
    """Return the modality of the data in a part, in a list; empty if it has no data."""
    data = [as_dict(part[name]) for name in (*INLINE, *FILE) if name in part]
    types = [as_str(each.get("mimeType") or each.get("mime_type")) for each in data]
    return [type.partition("/")[0] if type else MODALITIES[0] for type in types]


def output_modality(fields: Mapping[str, Any]) -> str:
    """Return the most expensive modality that the request asks for."""
    settings = next((as_dict(fields[name]) for name in SETTINGS if name in fields), {})
    requested = settings.get("responseModalities") or settings.get("response_modalities")
    return most_expensive(str(each).lower() for each in requested) if isinstance(requested, list) else ""


def most_expensive(found: Iterable[str]) -> str:
    """Return the first of MODALITIES that is found; empty if none is."""
    kinds = set(found)
    return next((modality for modality in MODALITIES if modality in kinds), "")


def assumed_modalities(usage: Usage, metadata: Any, defaults: UsageDefaults) -> dict[str, int]:
    """Return the tokens of the modalities that the request uses and the response does not report."""
    reported = as_dict(metadata)
    counts: dict[str, int] = {}
    for kind in defaults.modalities:
        side, _, modality = kind.partition("_")
        total = usage.prompt if side == "input" else usage.output
        if not dict_items(reported.get(DETAILS[side])):
            counts |= reported_modalities(side, **{modality: total})
    return counts


def parse_modalities(metadata: Any) -> dict[str, int]:
    """Return the tokens of audio, images and video, by modality, from Google's details of its counts.

    Google's details of the prompt include cached tokens, which are subtracted here. They do not include the
    tokens of the results of Google's tools, which are added here.
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
