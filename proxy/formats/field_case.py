"""Names of fields whose letters differ in case from the ones that the gateway reads.

Servers written in Go, among others, ignore the case of names: they obey `MaxOutputTokens` as well as `maxOutputTokens`,
and the last of two. A request with such a name is refused, so that no provider obeys a field that the gateway has not seen.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from proxy.formats.neutral import InvalidRequest


@lru_cache(maxsize=64)
def folded(names: frozenset[str]) -> dict[str, str]:
    return {name.casefold(): name for name in names}


def check_letters(given: Iterable[str], read: frozenset[str], where: str = "") -> None:
    """Raise BadRequest for a name that differs from one in `read` by the case of its letters alone."""
    for name in given:
        if name not in read and (own := folded(read).get(name.casefold())):
            raise InvalidRequest(f"The field {where}{name} is written {own}.", f"{where}{name}")


def check_nested(value: Any, read: frozenset[str], where: str) -> None:
    """Check the names in objects, in lists of them, and in those of their fields that the gateway reads.

    Other fields are free in their form.
    """
    match value:
        case list():
            for item in value:
                check_nested(item, read, where)
        case dict():
            check_letters(value, read, where)
            for name in value.keys() & read:
                check_nested(value[name], read, where)
