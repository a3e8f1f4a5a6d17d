"""Quirks: data that describes how one server deviates from its format."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.formats.neutral import (
    Message,
    Opaque,
    Part,
    Refusal,
    Request,
    ServerTool,
    Thinking,
    ToolCall,
    ToolResult,
)

DEFAULTS: dict[str, Any] = {
    setting.name: setting.default
    for setting in msgspec.structs.fields(Request)
    if setting.default is not msgspec.NODEFAULT
}
"""The settings of a request that have a default value, with this value."""


@dataclass(frozen=True, slots=True)
class Quirks:
    """Differences between a server and the format that it implements.

    They apply to converted requests, and to the fields that the gateway sets in requests that pass through.
    The other fields of such requests stay unchanged.
    """

    max_tokens_field: str = "max_tokens"
    """Name of the field that limits the output tokens."""
    unsupported: frozenset[str] = frozenset()
    """Settings that the server rejects or ignores, by their names in `Request`.

    Five more names are allowed: `wants_usage` (`stream_options`), `thinking` (the fields for earlier
    thinking, and the request for thinking), `cache` (prompt cache breakpoints), `custom_tools` (tools that
    take free text) and `tool_choice`. Without `tool_choice`, the gateway offers only the chosen tools.
    """
    unsupported_by_model: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Further unsupported settings, by the first characters of the model's name."""
    extra_settings: frozenset[str] = frozenset()
    """Settings that the server accepts although its format does not have them, such as `top_k`."""
    renamed_settings: Mapping[str, str] = field(default_factory=dict)
    """Settings that have a different name at this server."""
    supports_json_schema: bool = True
    """Whether the server enforces a JSON Schema. If not, an instruction tells the model the schema."""
    tool_call_id_length: int = 0
    """The exact number of letters and digits in a tool call's id; 0 if the format's usual rule applies."""
    server_tools: frozenset[str] = frozenset()
    """Kinds of server tools that the server runs for requests of other formats, such as web_search.

    The fee of each must be known (`billing/pricing/tool_fees.py`).
    """

    def running(self, settings: Mapping[str, frozenset[str]]) -> Mapping[str, frozenset[str]]:
        """Return the given server tools that this server runs, with their settings."""
        return {kind: names for kind, names in settings.items() if kind in self.server_tools}

    def unsupported_for(self, model: str) -> frozenset[str]:
        """Return the settings that this server does not support for this model."""
        return self.unsupported.union(
            *(names for prefix, names in self.unsupported_by_model.items() if model.startswith(prefix))
        )


def adapt_to_quirks(request: Request, quirks: Quirks) -> Request:
    """Return the request without earlier thinking and without a tool choice, if they are unsupported."""
    unsupported = quirks.unsupported_for(request.model)
    request = without_thinking(request) if "thinking" in unsupported else request
    return tool_choice_as_tool_list(request) if "tool_choice" in unsupported else request


def drop_unsupported(request: Request, unsupported: Collection[str]) -> tuple[Request, list[str]]:
    """Reset the settings in `unsupported` to their defaults. Return the names of the changed settings."""
    defaults = {
        name: default
        for name, default in DEFAULTS.items()
        if name in unsupported and getattr(request, name) != default
    }
    return (replace(request, **defaults) if defaults else request), list(defaults)


def tool_choice_as_tool_list(request: Request) -> Request:
    """Express the tool choice by offering only the chosen tools, as far as this is possible."""
    choice = request.tool_choice
    if choice is None:
        return request
    if choice.mode == "none":
        return replace(request, tools=(), tool_choice=None)
    names = choice.names
    return replace(
        request,
        tools=tuple(
            tool for tool in request.tools if not names or isinstance(tool, ServerTool) or tool.name in names
        ),
    )


def without_thinking(request: Request) -> Request:
    """Return the request without the thinking in its history, and without signatures."""
    return replace(request, messages=tuple(without_thinking_parts(message) for message in request.messages))


def without_thinking_parts(message: Message) -> Message:
    return replace(
        message,
        parts=tuple(without_signature(part) for part in message.parts if not isinstance(part, Thinking)),
    )


def without_signature(part: Part) -> Part:
    return replace(part, signature=None) if isinstance(part, ToolCall) else part


def has_cache_control(request: Request) -> bool:
    """Return whether any part or tool of a request has a prompt cache breakpoint."""
    parts = [part for message in request.messages for part in message.parts]
    inner = [item for part in parts if isinstance(part, ToolResult) for item in part.content]
    marked = (*request.system, *parts, *inner, *request.tools)
    return any(
        item.cache for item in marked if not isinstance(item, Thinking | Refusal | Opaque | ServerTool)
    )
