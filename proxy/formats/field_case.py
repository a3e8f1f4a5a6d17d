"""Rejection of field names that differ only in case from names that the gateway reads.

Some servers, among them servers written in Go, ignore case: they read `MaxOutputTokens` as `maxOutputTokens`,
and use the last of two such fields. The gateway rejects a request with such a name, because a provider might
obey a field that the gateway has not read.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from proxy.formats.neutral import InvalidRequest


@lru_cache(maxsize=64)
def folded(names: frozenset[str]) -> dict[str, str]:
    return {name.casefold(): name for name in names}


def check_letters(given: Iterable[str], read: frozenset[str], where: str = "") -> None:
    """Raise InvalidRequest for a name that differs only in case from a name in `read`."""
    for name in given:
        if name not in read and (own := folded(read).get(name.casefold())):
            raise InvalidRequest(f"The field {where}{name} must be written {own}.", f"{where}{name}")


def check_nested(value: Any, read: frozenset[str], where: str) -> None:
    """Check the names in objects and lists, and in the nested values of fields that the gateway reads.

    The values of other fields may have any form.
    """
    match value:
        case list():
            for item in value:
                check_nested(item, read, where)
        case dict():
            check_letters(value, read, where)
            for name in value.keys() & read:
                check_nested(value[name], read, where)
