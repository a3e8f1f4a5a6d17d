"""Tools and the tool choice, parsed and rendered (platform.claude.com/docs, "Tool use")."""

from collections.abc import Iterable, Iterator
from typing import Any

from proxy.formats.anthropic.capabilities import ModelCapabilities
from proxy.formats.anthropic.content import with_cache_control
from proxy.formats.anthropic.json_schema import input_schema, output_schema
from proxy.formats.anthropic.reasoning import is_thinking
from proxy.formats.anthropic.toolsets import TOOLSETS
from proxy.formats.anthropic.vendor_tools import (
    CLIENT_TOOLS,
    parse_client_tool,
    parse_server_tool,
    parse_toolset,
    render_shared_tool,
)
from proxy.formats.anthropic.wire import FORMAT, WireMessage, WireRequest, WireTool, WireToolChoice
from proxy.formats.codec import RenderedRequest
from proxy.formats.json_body import as_dict, convert_json, dict_items
from proxy.formats.neutral import Request, ServerTool, Tool, ToolCall, ToolChoice
from proxy.formats.tool_calls import as_function_tool
from proxy.formats.tools.names import FlatNames
from proxy.formats.tools.offers import VERSION

MCP_SERVERS = "mcp_servers"
DeclaredTool = tuple[dict[str, Any], WireTool]
"""An entry of `tools`, before and after decoding."""


def parse_tools(wire: WireRequest) -> tuple[Tool | ServerTool, ...]:
    """Parse the tools that the model may call at the end of the conversation, and the MCP servers."""
    declared = offered_after_changes(
        [(fields, convert_json(fields, WireTool)) for fields in wire.tools or ()], wire.messages
    )
    names = FlatNames(tool.name for _, tool in declared if is_plain(tool))
    servers = [
        ServerTool(origin=FORMAT, kind=MCP_SERVERS, value=server, is_caller_data=True)
        for server in wire.mcp_servers or ()
    ]
    return (
        *(tool for fields, wire_tool in declared for tool in parse_tool(fields, wire_tool, names)),
        *servers,
    )


def offered_after_changes(tools: list[DeclaredTool], messages: Iterable[WireMessage]) -> list[DeclaredTool]:
    """Return the tools that are offered after messages of the conversation have added and removed tools.

    A change is a block in a system message (SDK `anthropic`, `tool_addition` and `tool_removal`).
    """
    offered = list(tools)
    for change in tool_changes(messages):
        match change:
            case {
                "type": "tool_addition",
                "tool": {"type": "tool_definition", "definition": dict(definition)},
            }:
                added = convert_json(definition, WireTool)
                offered = [*without_name(offered, added.name), (definition, added)]
            case {"type": "tool_removal", "tool": {"name": str(name)}}:
                offered = without_name(offered, name)
            case _:
                pass
    return offered


def without_name(tools: list[DeclaredTool], name: str) -> list[DeclaredTool]:
    return [(fields, tool) for fields, tool in tools if tool.name != name]


def tool_changes(messages: Iterable[WireMessage]) -> Iterator[dict[str, Any]]:
    for message in messages:
        if message.role == "system":
            yield from dict_items(message.content)


def is_plain(tool: WireTool) -> bool:
    return tool.type in (None, "custom")


def parse_tool(fields: dict[str, Any], tool: WireTool, names: FlatNames) -> Iterable[Tool | ServerTool]:
    """Parse one entry of `tools`. A toolset becomes one tool for each of its members.

    The client runs a tool without a type. Some tools with a type run at the client, the others at Anthropic.
    """
    if not is_plain(tool):
        kind = tool.type or ""
        version = VERSION.sub("", kind)
        if version.removesuffix("_toolset") in TOOLSETS and version.endswith("_toolset"):
            return parse_toolset(fields, kind, names)
        is_client_tool = version in CLIENT_TOOLS
        return [parse_client_tool(fields, kind, names) if is_client_tool else parse_server_tool(fields, kind)]
    cache = (tool.cache_control.ttl or "5m") if tool.cache_control else None
    return [
        Tool(
            name=tool.name,
            description=tool.description or "",
            schema=tool.input_schema,
            strict=tool.strict,
            cache=cache,
        )
    ]


def parse_tool_choice(
    choice: WireToolChoice | None, tools: Iterable[Tool | ServerTool] = ()
) -> ToolChoice | None:
    """Parse the tool choice. It may name a tool of the client or a server tool."""
    if choice is None:
        return None
    match choice.type:
        case "any":
            return ToolChoice(mode="required")
        case "tool":
            kinds = [
                tool.kind
                for tool in tools
                if isinstance(tool, ServerTool) and as_dict(tool.value).get("name") == choice.name
            ]
            if kinds:
                return ToolChoice(mode="required", server_kinds=(kinds[0],))
            return ToolChoice(mode="required", names=(choice.name or "",))
        case "auto" | "none":
            return ToolChoice(mode=choice.type)


def parse_parallel_tool_calls(choice: WireToolChoice | None) -> bool | None:
    if choice is None or choice.disable_parallel_tool_use is None:
        return None
    return not choice.disable_parallel_tool_use


def render_tools(rendered: RenderedRequest, request: Request, capabilities: ModelCapabilities) -> None:
    """Set the tools and the MCP servers."""
    offered = tools_to_declare(request)
    tools = without_repetitions(
        render_tool(tool, capabilities) for tool in offered if not is_mcp_server(tool)
    )
    servers = [render_tool(tool, capabilities) for tool in offered if is_mcp_server(tool)]
    if not tools:
        tools = [{"name": name, "input_schema": input_schema(None)} for name in called_tool_names(request)]
    if tools:
        rendered.body["tools"] = tools
    if servers:
        rendered.body[MCP_SERVERS] = servers


def without_repetitions(tools: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each declaration once. All members of a toolset share one declaration."""
    return list({id(tool): tool for tool in tools}.values())


def tools_to_declare(request: Request) -> list[Tool | ServerTool]:
    """Return the tools to declare.

    The API can force the model to call one tool, but it cannot restrict the choice to several tools. If the
    client names several tools, only these and the server tools are declared.
    """
    names = request.tool_choice.names if request.tool_choice else ()
    if len(names) < 2:
        return list(request.tools)
    return [tool for tool in request.tools if isinstance(tool, ServerTool) or tool.name in names]


def is_mcp_server(tool: Tool | ServerTool) -> bool:
    return isinstance(tool, ServerTool) and tool.kind == MCP_SERVERS


def called_tool_names(request: Request) -> list[str]:
    """Return the names of the tools that the history calls.

    The API rejects a history with calls if the request declares no tool.
    """
    return list(
        dict.fromkeys(
            part.name for message in request.messages for part in message.parts if isinstance(part, ToolCall)
        )
    )


def render_tool(tool: Tool | ServerTool, capabilities: ModelCapabilities) -> dict[str, Any]:
    """Render a tool of the client as a function, or a server tool if Anthropic has a counterpart."""
    if isinstance(tool, ServerTool):
        own: dict[str, Any] = tool.value
        return render_shared_tool(tool.shared) if tool.shared and tool.origin != FORMAT else own
    if tool.vendor is not None and tool.vendor.origin == FORMAT:
        declared: dict[str, Any] = tool.vendor.value
        return declared
    tool = as_function_tool(tool)
    wire_tool: dict[str, Any] = {"name": tool.name, "input_schema": input_schema(tool.schema)}
    if tool.description:
        wire_tool["description"] = tool.description
    if tool.strict and capabilities.supports_structured_output:
        wire_tool |= {"strict": True, "input_schema": output_schema(wire_tool["input_schema"])}
    return with_cache_control(wire_tool, tool.cache)


def render_tool_choice(rendered: RenderedRequest, request: Request) -> None:
    """Set the tool choice.

    A model that thinks cannot be forced to call a tool (docs, "Extended thinking with tool use").
    """
    choice = request.tool_choice or ToolChoice()
    if "tools" not in rendered.body:
        if choice.mode == "required":
            rendered.dropped.append("tool_choice")
        return
    if not request.tools or choice.mode == "none":
        rendered.body["tool_choice"] = {"type": "none"}
        return
    wire: dict[str, Any] = {"type": "auto"}
    if choice.mode == "required" and is_thinking(rendered):
        rendered.dropped.append("tool_choice")
    elif choice.mode == "required":
        named = chosen_names(request, choice)
        wire = {"type": "tool", "name": named[0]} if len(named) == 1 else {"type": "any"}
    if request.parallel_tool_calls is not None:
        wire["disable_parallel_tool_use"] = not request.parallel_tool_calls
    if request.tool_choice is not None or len(wire) > 1:
        rendered.body["tool_choice"] = wire


def chosen_names(request: Request, choice: ToolChoice) -> list[str]:
    """Return the names of the tools among which the model must choose."""
    servers = [tool for tool in request.tools if isinstance(tool, ServerTool)]
    chosen = [tool for tool in servers if tool.kind in choice.server_kinds]
    return [*choice.names, *(str(tool.shared.kind if tool.shared else tool.kind) for tool in chosen)]
