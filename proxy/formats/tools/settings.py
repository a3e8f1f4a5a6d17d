"""Tools in terms that vendors share: settings of server tools, and declarations of the client's tools."""

from typing import Any, ClassVar

import msgspec


class UserLocation(msgspec.Struct, frozen=True, kw_only=True):
    """The approximate place of the user. Fields that are not known are empty."""

    city: str = ""
    region: str = ""
    country: str = ""
    timezone: str = ""


class WebSearch(msgspec.Struct, frozen=True, kw_only=True):
    """Search of the web by the provider.

    `max_uses` limits the searches of a response; `context_size` is OpenAI's low, medium or high.
    """

    kind: ClassVar[str] = "web_search"
    allowed_domains: tuple[str, ...] = ()
    blocked_domains: tuple[str, ...] = ()
    max_uses: int | None = None
    user_location: UserLocation | None = None
    search_context_size: str = ""


class WebFetch(msgspec.Struct, frozen=True, kw_only=True):
    """Reading of web pages whose addresses stand in the conversation."""

    kind: ClassVar[str] = "web_fetch"
    allowed_domains: tuple[str, ...] = ()
    blocked_domains: tuple[str, ...] = ()
    max_uses: int | None = None
    max_content_tokens: int | None = None


class CodeExecution(msgspec.Struct, frozen=True, kw_only=True):
    """Running of code that the model writes, in a new container of the provider."""

    kind: ClassVar[str] = "code_execution"
    max_uses: int | None = None


SharedTool = WebSearch | WebFetch | CodeExecution


class VendorTool(msgspec.Struct, frozen=True, kw_only=True):
    """The vendor's own declaration of a tool of the client, if it is not a plain function.

    Either `kind` is a type that the vendor has a schema for, such as Anthropic's bash; or the tool is the
    member `name` of a namespace or toolset, the `group`. `value` is the declaration, which all members of a
    group share.
    """

    origin: str
    kind: str
    value: Any
    group: str = ""
    name: str = ""


def domains(value: Any) -> tuple[str, ...]:
    """Return the domains in a list."""
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def parse_limit(value: Any) -> int | None:
    """Return a limit, if it is a positive whole number."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def parse_location(value: Any) -> UserLocation | None:
    """Return the location in a vendor's object; all vendors use these names."""
    if not isinstance(value, dict):
        return None
    known = {
        name: text for name in UserLocation.__struct_fields__ if isinstance(text := value.get(name), str)
    }
    return UserLocation(**known) if any(known.values()) else None


def render_location(location: UserLocation) -> dict[str, str]:
    """Return the known fields of a location."""
    return {name: text for name in location.__struct_fields__ if (text := getattr(location, name))}
