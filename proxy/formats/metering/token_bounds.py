"""Upper bounds of input tokens, without the tokenizer of any vendor.

Tokenizers work on UTF-8 bytes. A token is at least one byte, so a text has at most as many tokens as bytes.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from proxy.formats.field_case import check_letters
from proxy.formats.json_body import encode

TOKENS_PER_MESSAGE = 4
"""The tokens that a message has besides its content: 3, and 1 for a name.

Source: OpenAI's cookbook, "How to count tokens with tiktoken".
"""
TOKENS_PER_REPLY = 3
IMAGE_TOKENS = 12_000
"""The maximum tokens of an image at OpenAI: 10,000 patches of 32 x 32 pixels, times up to 1.2.

Source: platform.openai.com/docs/guides/images-vision, "Calculating costs".
"""
TILED_MINI_IMAGE_TOKENS = 2833 + 8 * 5667
"""The maximum tokens of an image for gpt-4o-mini: 2,833, and 5,667 for each of 8 tiles (same page)."""
REFERENCED_CONTENT_TOKENS = 1_050_000
"""The assumed number of tokens of referenced content, such as a file, a link or a stored conversation.

It is the longest context window that any vendor offers.
"""
MAX_SETTING_BYTES = 64
"""The maximum size of an unknown setting that is assumed not to reach the model, in bytes.

A longer setting may contain text for the model, for example vLLM's `chat_template`.
"""
REFERENCES = frozenset({"file_id", "file_url"})
"""Fields of parts that refer to content that is stored elsewhere."""
FREE = ("arguments", "input")
"""Fields of calls that may contain objects whose field names the client chooses."""
URL_PREFIXES = ("data:image/", "http://", "https://")

SpecialPart = Callable[[dict[str, Any]], tuple[int, Collection[str]] | None]
"""A format's rule for special objects.

It returns the token bound of the object and the fields that the bound covers, or None for other objects.
"""


def max_image_tokens(model: str) -> int:
    return TILED_MINI_IMAGE_TOKENS if "gpt-4o-mini" in model else IMAGE_TOKENS


def text_tokens(value: Any, _image_tokens: int = 0) -> int:
    """Return the bound for a text, or for a list of texts and token ids. An id is one token."""
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
    """Return the names of a format's fields in messages and in their parts."""
    return frozenset(names.split())


def json_tokens(value: Any) -> int:
    """Return the bound for any JSON.

    It includes keys, numbers and punctuation, because models read them too.
    """
    return len(encode(value))


def content_tokens(value: Any, known_fields: frozenset[str], count_special: SpecialPart) -> int:
    """Return the bound for a message or for a part of a message.

    For a known field, only its value is counted. Any other field may contain text, so all bytes of its JSON
    are counted. Raises InvalidRequest for a name that differs only in case from a known field.
    """
    match value:
        case str():
            return byte_length(value)
        case list():
            return sum(content_tokens(item, known_fields, count_special) for item in value)
        case dict():
            tokens, covered = count_special(value) or (0, ())
            for name, item in value.items():
                if name in covered:
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
    """Return the bound for an image by URL or data URL.

    For any other value, the bytes of its JSON are added.
    """
    return (
        image_tokens
        if isinstance(url, str) and url.startswith(URL_PREFIXES)
        else image_tokens + json_tokens(url)
    )


def other_fields_tokens(value: dict[str, Any], counted: Collection[str]) -> int:
    """Return the bound for the fields of an object that are not in `counted`."""
    return sum(byte_length(name) + json_tokens(item) for name, item in value.items() if name not in counted)


def unknown_fields_tokens(unknown_fields: Mapping[str, Any]) -> int:
    """Return the bound for unknown fields.

    Only objects, lists and long settings count, because the model may read them.
    """
    sizes = {name: json_tokens(value) for name, value in unknown_fields.items()}
    return sum(
        byte_length(name) + size
        for name, size in sizes.items()
        if isinstance(unknown_fields[name], dict | list) or size > MAX_SETTING_BYTES
    )
