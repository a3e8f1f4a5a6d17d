"""Cache controls: the fields of a body and the header with which a client controls the response cache."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxy.formats.field_case import check_letters
from proxy.formats.neutral import InvalidRequest

ENABLED_FIELD = "cache"
TTL_FIELDS = ("cacheTtl", "cache_ttl")
FIELDS = frozenset((ENABLED_FIELD, *TTL_FIELDS))
MIN_TTL_S, MAX_TTL_S = 60, 86_400


@dataclass(frozen=True, slots=True)
class BodyControls:
    """The fields of a body. `enabled` and `ttl_s` (seconds) are None if the body does not set them."""

    enabled: bool | None = None
    ttl_s: int | None = None


@dataclass(frozen=True, slots=True)
class HeaderControls:
    """The directives of a request's `Cache-Control` header (RFC 9111, section 5.2.1).

    `max_age_s` is infinite without the directive. The directive `max-age=0` sets `no_cache` too.
    """

    no_cache: bool = False
    no_store: bool = False
    max_age_s: float = math.inf


NO_FIELDS, NO_HEADER = BodyControls(), HeaderControls()


def read_fields(fields: Mapping[str, Any]) -> BodyControls:
    """Return the controls in a body. A field that is null counts as absent. Raises InvalidRequest."""
    check_letters(fields, FIELDS)
    enabled = fields.get(ENABLED_FIELD)
    if enabled is not None and not isinstance(enabled, bool):
        raise InvalidRequest(f"The field {ENABLED_FIELD} must be true or false.", ENABLED_FIELD)
    given = {name: fields[name] for name in TTL_FIELDS if fields.get(name) is not None}
    for name, value in given.items():
        check_ttl(name, value)
    return BodyControls(enabled, next(iter(given.values()), None))


def check_ttl(name: str, value: Any) -> None:
    """Check a time to live. Raises InvalidRequest."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if not is_number or not MIN_TTL_S <= value <= MAX_TTL_S:
        text = f"The field {name} must be a whole number of seconds from {MIN_TTL_S} to {MAX_TTL_S}."
        raise InvalidRequest(text, name)


def read_header(value: str) -> HeaderControls:
    """Return the directives of a `Cache-Control` header. Unknown and malformed directives are ignored."""
    if not value:
        return NO_HEADER
    directives = {
        name.strip().lower(): argument.strip().strip('"')
        for name, _, argument in (directive.partition("=") for directive in value.split(","))
    }
    max_age = directives.get("max-age", "")
    max_age_s = float(max_age) if max_age.isascii() and max_age.isdecimal() else math.inf
    no_cache = "no-cache" in directives or max_age_s == 0
    return HeaderControls(no_cache, "no-store" in directives, max_age_s)
