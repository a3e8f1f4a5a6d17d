"""Parts of messages, which all wire formats have in common."""

from collections.abc import Iterator, Set
from typing import Any


def text_of(content: object) -> str:
    """Return the text of a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))


def unknown_fields(place: str, value: dict[str, Any], known: Set[str]) -> Iterator[str]:
    """Yield a violation for each field of `value` that the API does not know."""
    for name in value.keys() - known:
        yield f"Unknown parameter: '{place}.{name}'."
