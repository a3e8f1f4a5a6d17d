"""Upper bounds of input tokens, without any vendor's tokenizer.

Tokenizers of this field work on UTF-8 bytes: a token is at least one byte, so a text has no more tokens than bytes.
"""

from typing import Any

TOKENS_PER_MESSAGE = 4
"""Markers around a message, as in OpenAI's cookbook, "How to count tokens with tiktoken" (3, and 1 for a name)."""
TOKENS_PER_REPLY = 3
IMAGE_TOKENS = 12_000
"""OpenAI bills an image by patches of 32 x 32: 10,000 at most, times a model's factor of up to 1.2 at that size
(platform.openai.com/docs/guides/images-vision, "Calculating costs")."""
TILED_MINI_IMAGE_TOKENS = 2833 + 8 * 5667
"""gpt-4o-mini bills by tiles of 512 x 512, at most 8 after scaling, at 5,667 each (same page)."""


def image_tokens(model: str) -> int:
    return TILED_MINI_IMAGE_TOKENS if "gpt-4o-mini" in model else IMAGE_TOKENS


def text_tokens(value: Any, image: int) -> int:
    """The bound for any JSON value: bytes of the text in it; a picture, linked or embedded, counts as `image`."""
    match value:
        case str():
            if value.startswith("data:image/"):
                return image
            return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
        case dict():
            if value.get("type") in ("image_url", "input_image"):
                return image
            return sum(text_tokens(item, image) for item in value.values())
        case list():
            return sum(text_tokens(item, image) for item in value)
        case _:
            return 1
