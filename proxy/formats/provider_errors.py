"""Errors of providers: the table of a vendor's errors, and the text of an error in any form.

A field counts only if it has the JSON type that a vendor documents for it. If a message has another type,
the texts inside it count; without any, the error has no message. A value is never shown as Python text.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

MAX_MESSAGE_LENGTH = 2000
DEEPEST = 8
"""Levels that are searched: a body may be nested more deeply than Python can follow."""


class ErrorRow(NamedTuple):
    """An error of a vendor: its name there (a `type`, `code` or `status`), and its HTTP status.

    `kind` and `code` are those of `ApiError`.
    """

    name: str
    status: int
    kind: str
    code: str


class ErrorTable:
    """The errors of a vendor. If several rows have the same name or the same status, the first one counts.

    A status without a row counts as 400 if it is a client error, else as 500: each table has these two.
    """

    def __init__(self, rows: Iterable[tuple[str, int, str, str]]) -> None:
        self.by_name: dict[str, ErrorRow] = {}
        self.by_status: dict[int, ErrorRow] = {}
        for row in map(ErrorRow._make, rows):
            self.by_name.setdefault(row.name, row)
            self.by_status.setdefault(row.status, row)

    def for_status(self, status: int) -> ErrorRow:
        """Return the row of an HTTP status."""
        return self.by_status.get(status) or self.by_status[400 if 400 <= status < 500 else 500]

    def status_of(self, name: str, default: int) -> int:
        """Return the HTTP status of an error that a vendor names."""
        row = self.by_name.get(name)
        return row.status if row else default


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
