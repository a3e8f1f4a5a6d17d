"""Settings of server tools, parsed from JSON values of any type."""

from typing import Any

from proxy.formats.neutral import UserLocation


def domains(value: Any) -> tuple[str, ...]:
    """Return the domains in a list."""
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def parse_limit(value: Any) -> int | None:
    """Return a limit if it is a positive whole number, otherwise None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def parse_location(value: Any) -> UserLocation | None:
    """Parse a location. All vendors use the same field names."""
    if not isinstance(value, dict):
        return None
    known = {
        name: text for name in UserLocation.__struct_fields__ if isinstance(text := value.get(name), str)
    }
    return UserLocation(**known) if any(known.values()) else None


def render_location(location: UserLocation) -> dict[str, str]:
    """Return the known fields of a location."""
    return {name: text for name in location.__struct_fields__ if (text := getattr(location, name))}
