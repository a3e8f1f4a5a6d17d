"""Tools and the tool choice, parsed and rendered."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.formats.json_body import as_str, dict_items
from proxy.formats.neutral import (
    InvalidRequest,
    Request,
    ServerTool,
    Tool,
    ToolChoice,
    VendorTool,
)
from proxy.formats.openai_responses.content import PARAGRAPH_BREAK
from proxy.formats.openai_responses.vendor_tools import (
    CLIENT_TOOLS,
    parse_client_tool,
    parse_server_tool,
    render_shared_tool,
    runs_at_client,
)
from proxy.formats.openai_responses.wire import FORMAT, WireTool
from proxy.formats.tools.names import DEFAULT_GROUP, TYPED, FlatNames, vendor_tools
from proxy.formats.tools.offers import dropped_name

Tools = tuple[Tool | ServerTool, ...]
PLAIN_TYPES = ("function", "custom")
TOOL_ITEMS = ("additional_tools", "tool_search_output")
"""Types of input items that declare tools: tools that Codex adds, and tools that a search has found."""


class OwnTools:
    """The tools of a request that are not plain functions, by name.

    `custom` contains the names of tools that take free text. `declared` contains the typed tools and the
    tools in namespaces.
    """

    def __init__(self, request: Request) -> None:
        self.custom = frozenset(tool.name for tool in request.tools if isinstance(tool, Tool) and tool.custom)
        self.declared = vendor_tools(request, FORMAT)

    def is_typed(self, name: str) -> bool:
        """Return whether a tool is a typed tool, so that its calls also have their own type."""
        vendor = self.declared.get(name)
        return vendor is not None and not vendor.group


# Reading ------------------------------------------------------------------------------------------


def offered_tools(tools: Any, items: Any) -> list[dict[str, Any]]:
    """Return the tool declarations of a request, including those in its input."""
    return [*dict_items(tools), *brought_tools(items)]


def brought_tools(items: Any) -> list[dict[str, Any]]:
    """Return the tool declarations in the items of an input."""
    return [
        tool
        for item in dict_items(items)
        if item.get("type") in TOOL_ITEMS
        for tool in dict_items(item.get("tools"))
    ]


def flat_names(wire: Iterable[dict[str, Any]]) -> FlatNames:
    """Return the flat names of these tools. Plain tools keep their names."""
    return FlatNames(as_str(tool.get("name")) for tool in wire if tool.get("type") in PLAIN_TYPES)


def parse_tools(
    wire: list[dict[str, Any]], brought: list[dict[str, Any]], choice: Any, names: FlatNames
) -> Tools:
    """Return the tools that the model may call. Raises InvalidRequest.

    A tool that an input item declares replaces an earlier tool with the same name. If the tool choice is
    `allowed_tools` with the mode auto, only these tools are returned. This has the same effect, and works in
    every format.
    """
    later = {name_of(tool): tool for tool in parse_declarations(brought, names)}
    given = parse_declarations(wire, names)
    tools = (*(tool for tool in given if name_of(tool) not in later), *later.values())
    match choice:
        case {"type": "allowed_tools", **allowance} if allowance.get("mode") != "required":
            allowed = dict_items(allowance.get("tools"))
            return tuple(tool for tool in tools if any(is_named(tool, entry, names) for entry in allowed))
        case _:
            return tools


def parse_declarations(wire: list[dict[str, Any]], names: FlatNames) -> Tools:
    return tuple(
        tool for index, entry in enumerate(wire) for tool in parse_tool(entry, f"tools[{index}]", names)
    )


def name_of(tool: Tool | ServerTool) -> tuple[str, str]:
    """Return the key by which a later tool replaces an earlier one.

    It is the name of a client's tool, or the type of a server tool.
    """
    return ("", tool.name) if isinstance(tool, Tool) else (tool.kind, "")


def is_named(tool: Tool | ServerTool, entry: dict[str, Any], names: FlatNames) -> bool:
    """Return whether an entry of a tool choice refers to a tool, by its name, type or namespace."""
    if isinstance(tool, ServerTool):
        return tool.kind == entry.get("type")
    if entry.get("type") == "namespace" and tool.vendor is not None:
        return tool.vendor.group == entry.get("name")
    return tool.name == chosen_name(entry, names)


def chosen_name(entry: dict[str, Any], names: FlatNames) -> str:
    """Return the name of the client's tool in an entry of a tool choice; empty for other tools."""
    kind, name = as_str(entry.get("type")), as_str(entry.get("name"))
    if kind in CLIENT_TOOLS and not name:
        return names.find(TYPED, CLIENT_TOOLS[kind][0])
    return names.find(as_str(entry.get("namespace")), name) if name else ""


def parse_tool(tool: dict[str, Any], where: str, names: FlatNames) -> Iterator[Tool | ServerTool]:
    """Yield the tool of a declaration, or the members of a namespace. Raises InvalidRequest."""
    match tool.get("type"):
        case "function" | "custom":
            yield parse_function(tool, where)
        case "namespace":
            yield from parse_namespace(tool, where, names)
        case _ if runs_at_client(tool):
            yield parse_client_tool(tool, names)
        case _:
            yield parse_server_tool(tool)


def parse_function(tool: dict[str, Any], where: str) -> Tool:
    try:
        wire = msgspec.convert(tool, WireTool)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{where}: {error}.", where) from None
    if tool.get("type") == "custom":
        return Tool(name=wire.name, description=describe_custom_tool(wire), custom=True)
    return Tool(
        name=wire.name, description=wire.description or "", schema=wire.parameters, strict=wire.strict
    )


def parse_namespace(namespace: dict[str, Any], where: str, names: FlatNames) -> Iterator[Tool | ServerTool]:
    """Yield the members of a namespace. The first member's description begins with that of the namespace."""
    group, about = as_str(namespace.get("name")), as_str(namespace.get("description"))
    for index, member in enumerate(dict_items(namespace.get("tools"))):
        if member.get("type") not in PLAIN_TYPES:
            yield from parse_tool(member, f"{where}.tools[{index}]", names)
            continue
        tool = parse_function(member, f"{where}.tools[{index}]")
        vendor = VendorTool(origin=FORMAT, kind="namespace", value=namespace, group=group, name=tool.name)
        description = PARAGRAPH_BREAK.join(filter(None, (about, tool.description)))
        yield replace(tool, name=names.add(group, tool.name), description=description, vendor=vendor)
        about = ""


def describe_custom_tool(tool: WireTool) -> str:
    """Return the description of a custom tool, with its grammar appended.

    Other formats cannot enforce a grammar, but the model can follow it.
    """
    description = tool.description or ""
    match tool.format:
        case {"type": "grammar", "syntax": syntax, "definition": str() as definition}:
            grammar = f"The input must follow this {syntax} grammar:\n{definition}"
            return f"{description}{PARAGRAPH_BREAK}{grammar}".strip()
        case _:
            return description


def parse_tool_choice(choice: str | dict[str, Any] | None, names: FlatNames) -> ToolChoice | None:
    """Return the tool choice. Raises InvalidRequest."""
    match choice:
        case "auto" | "required" | "none":
            return ToolChoice(mode=choice)
        case {"type": "allowed_tools", "mode": "required", **allowance}:
            return parse_required_tools(dict_items(allowance.get("tools")), names)
        case {"type": "allowed_tools"}:
            return ToolChoice(mode="auto")
        case dict() if choice.get("type"):
            return parse_required_tools([choice], names)
        case str():
            raise InvalidRequest("tool_choice must be auto, required, none or an object.", "tool_choice")
        case _:
            return None


def parse_required_tools(entries: list[dict[str, Any]], names: FlatNames) -> ToolChoice:
    """Return a choice that requires one of these tools. Server tools are chosen by their type."""
    named = [name for entry in entries if (name := chosen_name(entry, names))]
    kinds = [as_str(entry.get("type")) for entry in entries if not chosen_name(entry, names)]
    return ToolChoice(mode="required", names=tuple(named), server_kinds=tuple(kinds))


# Writing ------------------------------------------------------------------------------------------


def render_tools(request: Request) -> dict[str, Any]:
    """Render the fields `tools`, `tool_choice`, `parallel_tool_calls` and `max_tool_calls`."""
    if not request.tools:
        return {}
    given: dict[str, Any] = {"tools": render_declarations(request)}
    if request.tool_choice:
        given["tool_choice"] = render_tool_choice(request.tool_choice, request)
    if request.parallel_tool_calls is not None:
        given["parallel_tool_calls"] = request.parallel_tool_calls
    if limit := max_tool_calls(request):
        given["max_tool_calls"] = limit
    return given


def max_tool_calls(request: Request) -> int | None:
    """Return the limit of all calls of server tools, if each server tool has a limit; otherwise None."""
    shared = [tool.shared for tool in request.tools if isinstance(tool, ServerTool) and tool.shared]
    limits = [tool.max_uses for tool in shared]
    return sum(limit or 0 for limit in limits) if limits and all(limits) else None


def lost_call_limits(request: Request) -> list[str]:
    """Return the limits of calls that are lost, because only some of the server tools have a limit."""
    limited = [tool for tool in request.tools if isinstance(tool, ServerTool) and tool.shared]
    lost = [tool for tool in limited if tool.shared and tool.shared.max_uses and not max_tool_calls(request)]
    return [f"{dropped_name(tool)}.max_uses" for tool in lost]


def render_declarations(request: Request) -> list[dict[str, Any]]:
    """Render the declarations of the tools. The members of a namespace share one declaration."""
    return list({id(wire): wire for wire in map(render_tool, request.tools)}.values())


def render_tool(tool: Tool | ServerTool) -> dict[str, Any]:
    """Render one tool.

    `strict` is always sent, because functions of this format are strict by default, unlike in chat
    completions (docs/guides/migrate-to-responses).
    """
    match tool:
        case ServerTool():
            own: dict[str, Any] = tool.value
            return render_shared_tool(tool.shared) if tool.shared and tool.origin != FORMAT else own
        case Tool(vendor=VendorTool(origin="openai_responses", value=dict() as value)):
            return value
        case Tool(custom=True):
            return {"type": "custom", "name": tool.name, "description": tool.description}
        case Tool():
            schema = tool.schema or {"type": "object", "properties": {}}
            return {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": schema,
                "strict": bool(tool.strict),
            }


def render_tool_choice(choice: ToolChoice, request: Request) -> str | dict[str, Any]:
    """Render the tool choice.

    Server tools are chosen as `allowed_tools`, which can contain tools of any type.
    """
    if choice.mode != "required":
        return choice.mode
    own = OwnTools(request)
    named = [render_choice(name, own) for name in choice.names]
    servers = [
        {"type": render_tool(tool)["type"]}
        for tool in request.tools
        if isinstance(tool, ServerTool) and tool.kind in choice.server_kinds
    ]
    match [*named, *servers]:
        case []:
            return "required"
        case [only] if named:
            return only
        case several:
            return {"type": "allowed_tools", "mode": "required", "tools": several}


def render_choice(name: str, own: OwnTools) -> dict[str, Any]:
    """Render the entry of a tool choice for a tool, with the type and name that the client has declared."""
    vendor = own.declared.get(name)
    if vendor is not None and not vendor.group:
        return {"type": vendor.kind}
    entry = {"type": "custom" if name in own.custom else "function", "name": name}
    return entry | group_fields(vendor)


def group_fields(vendor: VendorTool | None) -> dict[str, str]:
    """Return the name and the namespace of a tool in a namespace; empty for other tools."""
    if vendor is None or not vendor.group:
        return {}
    namespace = {"namespace": vendor.group} if vendor.group != DEFAULT_GROUP else {}
    return {"name": vendor.name} | namespace
