"""Fields of the document: the name, the column, and the conversion in both directions.

A parser raises ValueError with a sentence for people.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from billing.money import decimal_usd, parse_usd

Converter = Callable[[Any], Any]


def unchanged(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an entry. `parse` converts a value of the document into one of the column."""

    name: str
    column: str
    parse: Converter
    render: Converter = unchanged


def parse_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("it must be a text; write it in quotes.")
    if not value.isprintable():
        raise ValueError("it contains unprintable characters.")
    return value


def parse_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("it must be true or false.")
    return value


def parse_number(value: Any) -> int:
    if type(value) is not int:
        raise ValueError("it must be a whole number.")
    return value


def parse_list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("it must be a list.")
    return value


def parse_texts(value: Any) -> list[str]:
    return [parse_text(item) for item in parse_list(value)]


def parse_moment(value: Any) -> dt.datetime:
    """Parse a time with a timezone."""
    try:
        moment = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(parse_text(value))
    except ValueError:
        raise ValueError("it must be a time such as 2026-11-20T09:00:00+00:00.") from None
    if moment.tzinfo is None:
        raise ValueError("it must have a timezone, as in 2026-11-20T09:00:00+00:00.")
    return moment.astimezone(dt.UTC)


def parse_amount(value: Any) -> int:
    """Parse US dollars into nano-USD."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("it must be an amount in US dollars, such as 12.50.")
    return parse_usd(str(value))


def parse_amounts(value: Any) -> dict[str, int]:
    """Parse amounts by name."""
    if not isinstance(value, dict):
        raise ValueError("it must be amounts by name, such as {web_search: 0.01}.")
    return {parse_text(name): parse_amount(amount) for name, amount in value.items()}


def render_amounts(amounts: dict[str, int]) -> dict[str, str]:
    return {name: decimal_usd(nano) for name, nano in amounts.items()}


def render_moment(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat()


def optional(convert: Converter) -> Converter:
    """Return a converter that leaves null unchanged."""
    return lambda value: None if value is None else convert(value)


def text(name: str, column: str = "") -> Field:
    return Field(name, column or name, parse_text)


def flag(name: str) -> Field:
    return Field(name, name, parse_flag)


def number(name: str) -> Field:
    return Field(name, name, parse_number)


def limit(name: str) -> Field:
    """Return the field of a whole number; null means that there is no limit."""
    return Field(name, name, optional(parse_number))


def texts(name: str, column: str = "") -> Field:
    return Field(name, column or name, parse_texts)


def items(name: str) -> Field:
    return Field(name, name, parse_list)


def moment(name: str) -> Field:
    return Field(name, name, optional(parse_moment), optional(render_moment))


def amount(name: str, column: str) -> Field:
    return Field(name, column, optional(parse_amount), optional(decimal_usd))
