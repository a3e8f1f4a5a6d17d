"""What OpenAI's image generation uses: tokens of another model than the one asked, beside the usage of an answer.

developers.openai.com/api/docs/guides/image-generation ("Cost and latency"): text and pictures that the image model reads, and the tokens
of what it draws. An answer states their sums in `tool_usage.image_gen` (docs/api-reference/responses/object), which can leave calls out.
What it does not state is counted by the sizes and qualities that the guide gives tokens for, under kinds that say so.
"""

import re
from typing import Any

from proxy.formats.server_tools import ESTIMATED, objects, stated_tokens
from proxy.formats.tokens import detail_in

KIND = "image_generation"
CALL = "image_generation_call"
DEFAULT_MODEL = "gpt-image-2.6-sunburst"
NAME = re.compile(r"[a-zA-Z0-9._-]{1,60}")
"""What is kept on records."""
OLDER = ("gpt-image-1", "chatgpt-image")
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
PARTIAL_TOKENS = 100
"""Of each picture that is streamed before it is complete."""
TEXT_READ, PICTURES_READ = 2_000, 12_500
"""Tokens that a picture is taken to be made from at most: a prompt, and a picture that is changed (images-vision, "Calculating costs")."""


def tool_in(tools: Any) -> dict[str, Any]:
    """The image generation among an answer's or a request's tools."""
    return next((tool for tool in objects(tools) if tool.get("type") == KIND), {})


def model_of(tool: dict[str, Any]) -> str:
    model = tool.get("model")
    return model if isinstance(model, str) and NAME.fullmatch(model) else DEFAULT_MODEL


def limits(tool: dict[str, Any], pictures: int) -> dict[str, int]:
    """The tokens to hold for so many pictures."""
    model, partial = model_of(tool), detail_in(tool, "partial_images") * PARTIAL_TOKENS
    each = {"text_input": TEXT_READ, "image_input": PICTURES_READ, "image_output": drawn(model, tool) + max(partial, 0)}
    return {f"{model}: {kind}": tokens * pictures for kind, tokens in each.items()}


def used(output: Any, tools: Any, tool_usage: Any) -> dict[str, int]:
    """The pictures of an answer, and the tokens that were used for them."""
    tool = tool_in(tools)
    model = model_of(tool)
    made = [item for item in objects(output) if item.get("type") == CALL and item.get("status") != "failed"]
    stated = stated_usage(model, tool_usage.get("image_gen")) if isinstance(tool_usage, dict) else {}
    tokens = stated or stated_tokens(f"{model}: {ESTIMATED}", image_output=sum(drawn(model, {**tool, **told(item)}) for item in made))
    return {KIND: len(made), **tokens} if made else tokens


def are_stated(tool_usage: Any) -> bool:
    return isinstance(tool_usage, dict) and detail_in(tool_usage.get("image_gen"), "output_tokens") > 0


def told(item: dict[str, Any]) -> dict[str, Any]:
    """What a call says of the picture that it made."""
    return {name: value for name in ("size", "quality") if (value := item.get(name))}


def stated_usage(model: str, image_gen: Any) -> dict[str, int]:
    """Disjoint kinds. What is not told apart counts as what costs more: input as pictures, none of it cached; output as pictures."""
    usage = image_gen if isinstance(image_gen, dict) else {}
    read, cached, drew = (usage.get(f"{name}_tokens_details") for name in ("input", "cached", "output"))
    cached_text, text = detail_in(cached, "cached_text_tokens"), detail_in(read, "text_tokens")
    cached_image, written = detail_in(cached, "cached_image_tokens"), detail_in(drew, "text_tokens")
    return stated_tokens(
        f"{model}: ",
        text_input=text - cached_text,
        cached_text_input=cached_text,
        image_input=detail_in(usage, "input_tokens") - text - cached_image,
        cached_image_input=cached_image,
        text_output=written,
        image_output=detail_in(usage, "output_tokens") - written,
    )


def drawn(model: str, picture: dict[str, Any]) -> int:
    """Tokens of a picture of this `size` and `quality`: the most where one is left open, of the standard sizes."""
    sizes, qualities = (OLDER_SIZES, OLDER_QUALITIES) if model.startswith(OLDER) else (SIZES, QUALITIES)
    size, quality = picture.get("size"), picture.get("quality")
    standard = max(sizes[name] for name in STANDARD_SIZES)
    most = standard if size in (None, "auto") else sizes.get(str(size), max(sizes.values()))
    part, whole = qualities.get(str(quality), (1, 1))
    return -(-most * part // whole)
