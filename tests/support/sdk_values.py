"""Random values for the types of the vendors' SDKs: all fields, with values that their types allow."""

import random
import types
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from typing_extensions import is_typeddict

MAX_DEPTH = 4
OPTIONAL_SHARE = 0.3
"""Share of the optional fields of a nested object that have a value."""
WORDS = (
    *("", "x", "é", "auto", "default", "flex", "priority", "fast", "batch", "standard", "ultrafast"),
    *("us", "global", "eu", "1h", "5m", "24h", "web_search", "enabled", "adaptive", "low", "high"),
)
NUMBERS = (0, 1, 2, 8, 100, 5000, 60_000, -1, 0.5)
ODD_VALUES: tuple[Any, ...] = (*WORDS, *NUMBERS, None, True, False, [], {}, ["x"], {"type": "enabled"})


class ValueGenerator:
    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def fields(self, kind: Any, names: Iterable[str]) -> dict[str, Any]:
        """Return values for these fields of a request's type."""
        hints = hints_of(kind)
        return {name: self.value(hints[name], 0) for name in names}

    def value(self, kind: Any, depth: int) -> Any:
        origin, arguments = get_origin(kind) or kind, get_args(kind)
        if arguments and origin in (Union, types.UnionType):
            return self.value(self.chance.choice(arguments), depth)
        if origin in (Annotated, Required, NotRequired):
            return self.value(arguments[0], depth)
        if origin is Literal:
            return self.chance.choice(arguments)
        if is_typeddict(origin) or is_kind_of(origin, BaseModel):
            return self.record(origin, depth)
        if is_kind_of(origin, Enum):
            return self.chance.choice(list(origin)).value
        if is_kind_of(origin, Mapping):
            return {self.word(): self.odd_value() for _ in range(self.chance.randint(0, 2))}
        if origin is not str and is_kind_of(origin, Iterable):
            return self.items(arguments, depth)
        return self.scalar(origin)

    def record(self, kind: Any, depth: int) -> dict[str, Any]:
        hints = hints_of(kind)
        return {
            name: self.value(hint, depth + 1)
            for name, hint in hints.items()
            if get_origin(hint) is Required or (depth < MAX_DEPTH and self.chance.random() < OPTIONAL_SHARE)
        }

    def items(self, arguments: tuple[Any, ...], depth: int) -> list[Any]:
        count = self.chance.randint(0, 2) if depth < MAX_DEPTH else 0
        return [self.value(arguments[0] if arguments else str, depth + 1) for _ in range(count)]

    def scalar(self, kind: Any) -> Any:
        if kind is bool:
            return self.chance.random() < 0.5
        if kind in (int, float):
            return kind(self.chance.choice(NUMBERS))
        return self.word() if kind is str else self.odd_value()

    def word(self) -> str:
        return self.chance.choice(WORDS)

    def odd_value(self) -> Any:
        return self.chance.choice(ODD_VALUES)


def hints_of(kind: Any) -> dict[str, Any]:
    """Return the types of the fields, by their names in JSON."""
    if is_kind_of(kind, BaseModel):
        return {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
    return get_type_hints(kind, include_extras=True)


def is_kind_of(kind: Any, base: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, base)
