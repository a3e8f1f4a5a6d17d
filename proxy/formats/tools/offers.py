"""Server tools of the target that replace the server tools of a request: their counterparts.

A server tool without a counterpart is left out and reported, so that an agent's session can continue without
it.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.formats.neutral import Origin, Request, ServerTool, Tool, ToolChoice, UnsupportedFeature

VERSION = re.compile(r"_20\d\d_?\d\d_?\d\d$")
"""The date in a tool's type, for example in `web_search_20250305` and `web_search_preview_2025_03_11`."""
OWN_FIELDS = ("web_search_options", "cachedContent", "mcp_servers")
"""Tools that have a separate field in the request, and are not declared in `tools`."""

Settings = Mapping[str, frozenset[str]]
"""Kinds of server tools that a provider runs, each with its supported settings."""


def offer_server_tools(request: Request, target: Origin, runs: Settings) -> tuple[Request, list[str]]:
    """Return the request with counterparts of its server tools, and the names of dropped settings.

    `runs` contains the server tools that the target runs. Raises UnsupportedFeature for tools that refer to
    data of the caller, and if the client forces the model to use a tool that has no counterpart.
    """
    kept: list[Tool | ServerTool] = []
    left_out: list[ServerTool] = []
    dropped: list[str] = []
    for tool in request.tools:
        if not isinstance(tool, ServerTool) or tool.origin == target:
            kept.append(tool)
        elif not is_forbidden(request.tool_choice) and (offered := counterpart(tool, runs, kept)):
            kept.append(offered)
            dropped += lost_settings(tool, runs)
        else:
            left_out.append(tool)
    choice = possible_choice(request.tool_choice, kept, left_out)
    dropped += ["tool_choice"] if is_required(request.tool_choice) and choice is None else []
    named = [] if is_forbidden(request.tool_choice) else [dropped_name(tool) for tool in left_out]
    return replace(request, tools=tuple(kept), tool_choice=choice), [*dict.fromkeys(dropped + named)]


def is_required(choice: ToolChoice | None) -> bool:
    return choice is not None and choice.mode == "required"


def is_forbidden(choice: ToolChoice | None) -> bool:
    """Return whether the client forbids the use of all tools.

    If it does, server tools without a counterpart are not reported as dropped.
    """
    return choice is not None and choice.mode == "none"


def label(tool: ServerTool) -> str:
    """Return a tool's type without its date."""
    return VERSION.sub("", tool.kind)


def dropped_name(tool: ServerTool) -> str:
    """Return the name of a tool in the list of dropped settings: `tools.<type>`, or its separate field."""
    return tool.kind if tool.kind in OWN_FIELDS else f"tools.{label(tool)}"


def counterpart(tool: ServerTool, runs: Settings, kept: Iterable[Tool | ServerTool]) -> ServerTool | None:
    """Return the tool with the settings that the target supports; None if the target has no counterpart.

    The result is also None for a second tool of the same kind. Raises UnsupportedFeature for data of the
    caller.
    """
    if tool.is_caller_data:
        raise UnsupportedFeature(
            f"{label(tool)} refers to data that only its own provider has. Remove it, or use a model of that "
            "provider.",
            tool.kind if tool.kind in OWN_FIELDS else "tools",
        )
    shared = tool.shared
    if shared is None or shared.kind not in runs:
        return None
    if any(isinstance(other, ServerTool) and is_same_kind(other, tool) for other in kept):
        return None
    lost = {name: default for name, default in defaults(shared).items() if name not in runs[shared.kind]}
    return replace(tool, shared=replace(shared, **lost))


def is_same_kind(one: ServerTool, other: ServerTool) -> bool:
    return one.shared is not None and other.shared is not None and one.shared.kind == other.shared.kind


def lost_settings(tool: ServerTool, runs: Settings) -> list[str]:
    """Return the names of the settings that the target's counterpart of a tool does not support."""
    shared = tool.shared
    if shared is None:
        return []
    lost = [
        name
        for name, default in defaults(shared).items()
        if name not in runs[shared.kind] and getattr(shared, name) != default
    ]
    return [f"{dropped_name(tool)}.{name}" for name in (*lost, *tool.unshared)]


def defaults(shared: msgspec.Struct) -> dict[str, Any]:
    return {field.name: field.default for field in msgspec.structs.fields(shared)}


def possible_choice(
    choice: ToolChoice | None, kept: list[Tool | ServerTool], left_out: list[ServerTool]
) -> ToolChoice | None:
    """Return the tool choice without tools that are left out.

    Raises UnsupportedFeature if no tool of a required choice remains.
    """
    if choice is None or choice.mode != "required":
        return choice if kept else None
    offered = {tool.kind for tool in kept if isinstance(tool, ServerTool)}
    remaining = tuple(kind for kind in choice.server_kinds if kind in offered)
    is_open = not choice.names and not choice.server_kinds
    if choice.names or remaining or (is_open and kept):
        return replace(choice, server_kinds=remaining)
    forced = [tool for tool in left_out if is_open or tool.kind in choice.server_kinds]
    if forced:
        raise UnsupportedFeature(
            f"The model has no counterpart of the tool {label(forced[0])}, which tool_choice requires.",
            "tool_choice",
        )
    return None
