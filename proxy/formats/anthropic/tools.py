"""Tools and the choice among them, parsed and rendered (platform.claude.com/docs, "Tool use")."""

from typing import Any

from proxy.formats.anthropic.capabilities import ModelCapabilities
from proxy.formats.anthropic.content import with_cache_control
from proxy.formats.anthropic.json_schema import input_schema, output_schema
from proxy.formats.anthropic.reasoning import is_thinking
from proxy.formats.anthropic.wire import FORMAT, WireRequest, WireTool, WireToolChoice
from proxy.formats.codec import RenderedRequest
from proxy.formats.json_body import convert_json
from proxy.formats.neutral import Request, ServerTool, Tool, ToolCall, ToolChoice, UnsupportedFeature
from proxy.formats.tool_calls import as_function_tool

MCP_SERVERS = "mcp_servers"


def parse_tools(wire: WireRequest) -> tuple[Tool | ServerTool, ...]:
    servers = [ServerTool(origin=FORMAT, kind=MCP_SERVERS, value=server) for server in wire.mcp_servers or ()]
    return (*map(parse_tool, wire.tools or ()), *servers)


def parse_tool(fields: dict[str, Any]) -> Tool | ServerTool:
    """Parse a tool.

    A tool without a type belongs to the client. Typed tools have schemas of the provider's own, even if the
    client runs them.
    """
    tool = convert_json(fields, WireTool)
    if tool.type not in (None, "custom"):
        return ServerTool(origin=FORMAT, kind=tool.type or "", value=fields)
    cache = (tool.cache_control.ttl or "5m") if tool.cache_control else None
    return Tool(
        name=tool.name,
        description=tool.description or "",
        schema=tool.input_schema,
        strict=tool.strict,
        cache=cache,
    )


def parse_tool_choice(choice: WireToolChoice | None) -> ToolChoice | None:
    if choice is None:
        return None
    match choice.type:
        case "any":
            return ToolChoice(mode="required")
        case "tool":
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
    tools = [render_tool(tool, capabilities) for tool in offered if not is_mcp_server(tool)]
    servers = [render_tool(tool, capabilities) for tool in offered if is_mcp_server(tool)]
    if not tools:
        tools = [{"name": name, "input_schema": input_schema(None)} for name in called_tool_names(request)]
    if tools:
        rendered.body["tools"] = tools
    if servers:
        rendered.body[MCP_SERVERS] = servers


def tools_to_declare(request: Request) -> list[Tool | ServerTool]:
    """Return the tools to declare.

    The API cannot restrict a choice to some of the tools. If the client does, only those are declared.
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
    if isinstance(tool, ServerTool):
        if tool.origin != FORMAT:
            raise UnsupportedFeature(f"Claude does not support the tool {tool.kind}.", "tools")
        value: dict[str, Any] = tool.value
        return value
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
        wire = {"type": "tool", "name": choice.names[0]} if len(choice.names) == 1 else {"type": "any"}
    if request.parallel_tool_calls is not None:
        wire["disable_parallel_tool_use"] = not request.parallel_tool_calls
    if request.tool_choice is not None or len(wire) > 1:
        rendered.body["tool_choice"] = wire
