"""Usage of OpenAI's image generation tool, which runs another model than the requested one.

The image model reads text and images, and generates image tokens
(developers.openai.com/api/docs/guides/image-generation, "Cost and latency"). A response reports the sums in
`tool_usage.image_gen` (docs/api-reference/responses/object), but some responses do not have this field. The
gateway then estimates the tokens from the guide's table by size and quality, and the name of the kind says
that it is an estimate.
"""

import re
from typing import Any

from proxy.formats.json_body import dict_items
from proxy.formats.metering.billable import ESTIMATED_PREFIX, reported_tokens
from proxy.formats.metering.token_counts import detail_count

TOOL_TYPE = "image_generation"
CALL_TYPE = "image_generation_call"
DEFAULT_MODEL = "gpt-image-2.6-sunburst"
MODEL_NAME = re.compile(r"[a-zA-Z0-9._-]{1,60}")
"""Model names that the gateway stores in usage records."""
OLDER_MODELS = ("gpt-image-1", "chatgpt-image")
OLDER_SIZES = {"1024x1024": 4160, "1024x1536": 6240, "1536x1024": 6208}
SIZES = {
    "1024x1024": 7024,
    "1024x1536": 5488,
    "1536x1024": 5488,
    "2048x2048": 14_272,
    "2560x1440": 7370,
    "3840x2160": 13_342,
}
"""The tokens of an image in high quality, by size, from the guide's table and calculator."""
OLDER_QUALITIES = {"low": (272, 4160), "medium": (1056, 4160)}
QUALITIES = {"low": (196, 7024), "medium": (1, 4), "xhigh": (2, 1), "max": (4, 1)}
"""The tokens of each quality, as a fraction of the tokens in high quality.

OpenAI does not document the tokens of the two qualities above high. Each is assumed to double the tokens of
the quality below.
"""
STANDARD_SIZES = tuple(OLDER_SIZES)
BOUNDED_SETTINGS = {
    *("type", "action", "background", "input_fidelity", "input_image_mask", "model", "moderation"),
    *("output_compression", "output_format", "partial_images", "quality", "size", "svg"),
}
"""Settings for which the tokens of an image are known.

Either the estimate uses the setting, or the tokens do not depend on it.
"""
STILL_FORMATS, KNOWN_QUALITIES = (None, "png", "webp", "jpeg"), (None, "auto", "high", *QUALITIES)
PARTIAL_IMAGE_TOKENS = 100
"""Tokens of each partial image in a stream."""
MAX_TEXT_INPUT_TOKENS, MAX_IMAGE_INPUT_TOKENS = 2_000, 12_500
"""The assumed maximum input tokens for each image: of its prompt, and of an image to edit.

Source: docs/guides/images-vision, "Calculating costs".
"""


def find_tool(tools: Any) -> dict[str, Any]:
    """Return the settings of image generation in the tools of a request; empty without such a tool.

    If the tools that a response repeats follow in the list, their settings take precedence.
    """
    settings: dict[str, Any] = {}
    for tool in dict_items(tools):
        if tool.get("type") == TOOL_TYPE:
            settings |= {name: value for name, value in tool.items() if value not in (None, "auto")}
    return settings


def has_unbounded_images(tools: Any) -> bool:
    """Return whether the gateway cannot estimate the tokens of the images that these tools may generate."""
    image_tools = [tool for tool in dict_items(tools) if tool.get("type") == TOOL_TYPE]
    return len(image_tools) > 1 or any(has_unbounded_tokens(tool) for tool in image_tools)


def has_unbounded_tokens(tool: dict[str, Any]) -> bool:
    """Return whether the gateway cannot estimate the tokens of an image with these settings.

    For example, a GIF has several frames, and a text model writes an SVG.
    """
    return (
        not tool.keys() <= BOUNDED_SETTINGS
        or tool.get("output_format") not in STILL_FORMATS
        or tool.get("quality") not in KNOWN_QUALITIES
    )


def image_model(tool: dict[str, Any]) -> str:
    model = tool.get("model")
    return model if isinstance(model, str) and MODEL_NAME.fullmatch(model) else DEFAULT_MODEL


def max_usage(tool: dict[str, Any], image_count: int) -> dict[str, int]:
    """Return the tokens to reserve for this number of images, by kind."""
    model = image_model(tool)
    each = {
        "text_input": MAX_TEXT_INPUT_TOKENS,
        "image_input": MAX_IMAGE_INPUT_TOKENS,
        "image_output": image_tokens(model, tool),
    }
    return {f"{model}: {kind}": tokens * image_count for kind, tokens in each.items()}


def image_usage(output: Any, tools: Any, tool_usage: Any) -> dict[str, int]:
    """Return the number of images in a response and the tokens used for them, by kind."""
    tool = find_tool(tools)
    model = image_model(tool)
    made = [
        item
        for item in dict_items(output)
        if item.get("type") == CALL_TYPE and item.get("status") != "failed"
    ]
    reported = parse_image_usage(model, tool_usage.get("image_gen")) if isinstance(tool_usage, dict) else {}
    tokens = reported or reported_tokens(
        f"{model}: {ESTIMATED_PREFIX}",
        image_output=sum(image_tokens(model, {**tool, **image_settings(item)}) for item in made),
    )
    return {TOOL_TYPE: len(made), **tokens} if made else tokens


def has_reported_usage(tool_usage: Any) -> bool:
    return isinstance(tool_usage, dict) and detail_count(tool_usage.get("image_gen"), "output_tokens") > 0


def image_settings(item: dict[str, Any]) -> dict[str, Any]:
    """Return the size and quality that a call reports for its image."""
    return {name: value for name in ("size", "quality") if (value := item.get(name))}


def parse_image_usage(model: str, image_gen: Any) -> dict[str, int]:
    """Return the reported tokens in disjoint kinds.

    Tokens for which the response gives no details count as the most expensive kind: image tokens that are not
    cached.
    """
    usage = image_gen if isinstance(image_gen, dict) else {}
    read, cached, drew = (usage.get(f"{name}_tokens_details") for name in ("input", "cached", "output"))
    cached_text, text = detail_count(cached, "cached_text_tokens"), detail_count(read, "text_tokens")
    cached_image, written = detail_count(cached, "cached_image_tokens"), detail_count(drew, "text_tokens")
    return reported_tokens(
        f"{model}: ",
        text_input=text - cached_text,
        cached_text_input=cached_text,
        image_input=detail_count(usage, "input_tokens") - text - cached_image,
        cached_image_input=cached_image,
        text_output=written,
        image_output=detail_count(usage, "output_tokens") - written,
    )


def image_tokens(model: str, settings: dict[str, Any]) -> int:
    """Return the tokens of an image with these settings, and of the partial images before it.

    If the settings leave the quality open, the highest documented quality is assumed. If they leave the size
    open, the standard size with the most tokens is assumed. For an unknown size, the size with the most
    tokens is assumed.
    """
    sizes, qualities = (
        (OLDER_SIZES, OLDER_QUALITIES) if model.startswith(OLDER_MODELS) else (SIZES, QUALITIES)
    )
    size, quality = settings.get("size"), settings.get("quality")
    standard = max(sizes[name] for name in STANDARD_SIZES)
    most = standard if size in (None, "auto") else sizes.get(str(size), max(sizes.values()))
    part, whole = qualities.get(str(quality), (1, 1))
    partial = max(detail_count(settings, "partial_images"), 0) * PARTIAL_IMAGE_TOKENS
    return -(-most * part // whole) + partial
