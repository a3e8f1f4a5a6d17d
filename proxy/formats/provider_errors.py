"""Text of a provider's error, in whatever form it comes.

A field counts only if it has the JSON type that a vendor documents for it. If a message has another type,
the texts inside it count; without any, the error has no message. A value is never shown as Python text.
"""

from typing import Any

DEEPEST = 8
"""Levels that are searched: a body may be nested more deeply than Python can follow."""


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def message_of(error: Any, depth: int = DEEPEST) -> str:
    """Return the text of an error, or an empty string."""
    match error:
        case _ if depth == 0:
            return ""
        case str():
            return error
        case {"message": str(message), "metadata": {"raw": str(raw)}} if message:
            # OpenRouter hides the provider's own message behind "Provider returned error".
            return f"{message}: {raw}"
        case {"msg": str(text), "loc": [*place]} if text:
            return f"{place_of(place)}: {text}" if place_of(place) else text  # FastAPI's form
        case dict():
            named = (error.get(name) for name in ("message", "msg", "error", "errors", "detail"))
            return next(filter(None, (message_of(value, depth - 1) for value in named)), "")
        case list():
            return "; ".join(filter(None, (message_of(value, depth - 1) for value in error)))
        case _:
            return ""


def place_of(steps: list[Any]) -> str:
    """Return a path as FastAPI writes it, of names and indexes."""
    return ".".join(str(step) for step in steps if isinstance(step, str | int) and not isinstance(step, bool))


def unspecified_message(status: int) -> str:
    """Return the message of an error without a text: it names the status."""
    return f"The provider answered with status {status}."
