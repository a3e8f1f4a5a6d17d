"""What OpenAI's image generation uses: tokens of another model than the one asked, beside the usage of an answer.

developers.openai.com/api/docs/guides/image-generation ("Cost and latency"): text and pictures that the image model reads, and the tokens
of what it draws. An answer states their sums in `tool_usage.image_gen` (docs/api-reference/responses/object), which can leave calls out.
What it does not state is counted by the sizes and qualities that the guide gives tokens for, under kinds that say so.
"""

import re
from typing import Any

from proxy.formats.metering.billable import ESTIMATED_PREFIX, dict_items, reported_tokens
from proxy.formats.metering.token_counts import detail_count

TOOL_TYPE = "image_generation"
CALL_TYPE = "image_generation_call"
DEFAULT_MODEL = "gpt-image-2.6-sunburst"
MODEL_NAME = re.compile(r"[a-zA-Z0-9._-]{1,60}")
"""What is kept on records."""
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
"""Tokens of a picture in high quality, as the guide's table and its calculator give them."""
OLDER_QUALITIES = {"low": (272, 4160), "medium": (1056, 4160)}
QUALITIES = {"low": (196, 7024), "medium": (1, 4), "xhigh": (2, 1), "max": (4, 1)}
"""Parts of the tokens in high quality. No document tells those of the two qualities beyond it, which are taken to double each time."""
STANDARD_SIZES = tuple(OLDER_SIZES)
PARTIAL_IMAGE_TOKENS = 100
"""Of each picture that is streamed before it is complete."""
MAX_TEXT_INPUT_TOKENS, MAX_IMAGE_INPUT_TOKENS = 2_000, 12_500
"""Tokens that a picture is taken to be made from at most: a prompt, and a picture that is changed (images-vision, "Calculating costs")."""


def find_tool(tools: Any) -> dict[str, Any]:
    """The image generation among an answer's or a request's tools."""
    return next((tool for tool in dict_items(tools) if tool.get("type") == TOOL_TYPE), {})


def image_model(tool: dict[str, Any]) -> str:
    model = tool.get("model")
    return model if isinstance(model, str) and MODEL_NAME.fullmatch(model) else DEFAULT_MODEL


def max_usage(tool: dict[str, Any], image_count: int) -> dict[str, int]:
    """The tokens to hold for so many pictures."""
    model, partial = image_model(tool), detail_count(tool, "partial_images") * PARTIAL_IMAGE_TOKENS
    each = {
        "text_input": MAX_TEXT_INPUT_TOKENS,
        "image_input": MAX_IMAGE_INPUT_TOKENS,
        "image_output": image_tokens(model, tool) + max(partial, 0),
    }
    return {f"{model}: {kind}": tokens * image_count for kind, tokens in each.items()}


def image_usage(output: Any, tools: Any, tool_usage: Any) -> dict[str, int]:
    """The pictures of an answer, and the tokens that were used for them."""
    tool = find_tool(tools)
    model = image_model(tool)
    made = [
        item
        for item in dict_items(output)
        if item.get("type") == CALL_TYPE and item.get("status") != "failed"
    ]
    stated = parse_image_usage(model, tool_usage.get("image_gen")) if isinstance(tool_usage, dict) else {}
    tokens = stated or reported_tokens(
        f"{model}: {ESTIMATED_PREFIX}",
        image_output=sum(image_tokens(model, {**tool, **image_settings(item)}) for item in made),
    )
    return {TOOL_TYPE: len(made), **tokens} if made else tokens


def has_reported_usage(tool_usage: Any) -> bool:
    return isinstance(tool_usage, dict) and detail_count(tool_usage.get("image_gen"), "output_tokens") > 0


def image_settings(item: dict[str, Any]) -> dict[str, Any]:
    """What a call says of the picture that it made."""
    return {name: value for name in ("size", "quality") if (value := item.get(name))}


def parse_image_usage(model: str, image_gen: Any) -> dict[str, int]:
    """Disjoint kinds. What is not told apart counts as what costs more: input as pictures, none of it cached; output as pictures."""
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
    """Tokens of a picture of this `size` and `quality`: the most where one is left open, of the standard sizes."""
    sizes, qualities = (
        (OLDER_SIZES, OLDER_QUALITIES) if model.startswith(OLDER_MODELS) else (SIZES, QUALITIES)
    )
    size, quality = settings.get("size"), settings.get("quality")
    standard = max(sizes[name] for name in STANDARD_SIZES)
    most = standard if size in (None, "auto") else sizes.get(str(size), max(sizes.values()))
    part, whole = qualities.get(str(quality), (1, 1))
    return -(-most * part // whole)
