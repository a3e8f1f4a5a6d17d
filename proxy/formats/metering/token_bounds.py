"""Upper bounds of input tokens, without any vendor's tokenizer.

Tokenizers of this field work on UTF-8 bytes: a token is at least one byte, so a text has no more tokens than bytes.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from proxy.formats.field_case import check_letters
from proxy.formats.json_body import encode

TOKENS_PER_MESSAGE = 4
"""Markers around a message, as in OpenAI's cookbook, "How to count tokens with tiktoken" (3, and 1 for a name)."""
TOKENS_PER_REPLY = 3
IMAGE_TOKENS = 12_000
"""OpenAI bills an image by patches of 32 x 32: 10,000 at most, times a model's factor of up to 1.2 at that size
(platform.openai.com/docs/guides/images-vision, "Calculating costs")."""
TILED_MINI_IMAGE_TOKENS = 2833 + 8 * 5667
"""gpt-4o-mini bills by tiles of 512 x 512, at most 8 after scaling, at 5,667 each (same page)."""
REFERENCED_CONTENT_TOKENS = 1_050_000
"""What a provider reads for a mere reference (a file, a linked document, a conversation that it keeps) may hold at most: the longest
context window that is sold."""
MAX_SETTING_BYTES = 64
"""Bytes of a setting that says nothing to a model; a longer one may be a prompt by another name, such as vLLM's `chat_template`."""
REFERENCES = frozenset({"file_id", "file_url"})
"""Fields of parts that stand for what the provider reads elsewhere."""
FREE = ("arguments", "input")
"""Fields of calls that may hold objects with names of the client's own."""
URL_PREFIXES = ("data:image/", "http://", "https://")

SpecialPart = Callable[[dict[str, Any]], tuple[int, Collection[str]] | None]
"""What a format counts by itself: of an object, the tokens and the fields that they stand for."""


def max_image_tokens(model: str) -> int:
    return TILED_MINI_IMAGE_TOKENS if "gpt-4o-mini" in model else IMAGE_TOKENS


def text_tokens(value: Any, _image_tokens: int = 0) -> int:
    """The bound for text, or a list of texts and token ids: an id is one token."""
    match value:
        case str():
            return byte_length(value)
        case list():
            return sum(map(text_tokens, value))
        case _:
            return 1


def byte_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def field_names(names: str) -> frozenset[str]:
    """A format's own names of fields in messages and their parts."""
    return frozenset(names.split())


def json_tokens(value: Any) -> int:
    """The bound for JSON that is free in its form: models read keys, numbers and marks too."""
    return len(encode(value))


def content_tokens(value: Any, known_fields: frozenset[str], count_special: SpecialPart) -> int:
    """The bound for a message or a part of one. Of a format's own `known_fields` the fields count by what they hold; any others, in which
    text could hide, by all their bytes. Raises BadRequest for one of the words in other letters.
    """
    match value:
        case str():
            return byte_length(value)
        case list():
            return sum(content_tokens(item, known_fields, count_special) for item in value)
        case dict():
            tokens, told = count_special(value) or (0, ())
            for name, item in value.items():
                if name in told:
                    continue
                if name in known_fields and not (name in FREE and isinstance(item, dict | list)):
                    tokens += content_tokens(item, known_fields, count_special)
                else:
                    check_letters((name,), known_fields)
                    check_letters((name,), REFERENCES)
                    tokens += byte_length(name) + json_tokens(item)
            return tokens
        case _:
            return 1


def image_tokens_for(url: Any, image_tokens: int) -> int:
    """A picture, linked or embedded; what only claims to be one counts by its bytes as well."""
    return (
        image_tokens
        if isinstance(url, str) and url.startswith(URL_PREFIXES)
        else image_tokens + json_tokens(url)
    )


def other_fields_tokens(value: dict[str, Any], counted: Collection[str]) -> int:
    """The bound for what else stands in an object whose fields `counted` are counted already."""
    return sum(byte_length(name) + json_tokens(item) for name, item in value.items() if name not in counted)


def unknown_fields_tokens(unknown_fields: Mapping[str, bytes]) -> int:
    """The bound for the fields of a request that no one counts by name: any object or list may be put before the model."""
    return sum(
        byte_length(name) + len(raw)
        for name, raw in unknown_fields.items()
        if raw[:1] in (b"{", b"[") or len(raw) > MAX_SETTING_BYTES
    )
