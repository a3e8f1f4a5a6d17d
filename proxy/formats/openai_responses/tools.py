"""Tools and tool choice."""

from typing import Any

import msgspec

from proxy.formats.json_body import as_str, dict_items
from proxy.formats.neutral import InvalidRequest, Request, ServerTool, Tool, ToolChoice, UnsupportedFeature
from proxy.formats.openai_responses.content import PARAGRAPH_BREAK
from proxy.formats.openai_responses.wire import FORMAT, WireTool

Tools = tuple[Tool | ServerTool, ...]


# Reading ------------------------------------------------------------------------------------------


def parse_tools(wire: list[dict[str, Any]], choice: Any) -> Tools:
    """Return the tools that the model may call. Raises InvalidRequest.

    `allowed_tools` in the mode auto means the same as offering only these tools, and every format can
    express that.
    """
    tools = tuple(parse_tool(tool, f"tools[{index}]") for index, tool in enumerate(wire))
    match choice:
        case {"type": "allowed_tools", **allowance} if allowance.get("mode") != "required":
            allowed = dict_items(allowance.get("tools"))
            return tuple(tool for tool in tools if is_allowed(tool, allowed))
        case _:
            return tools


def is_allowed(tool: Tool | ServerTool, allowed: list[dict[str, Any]]) -> bool:
    if isinstance(tool, Tool):
        return tool.name in [as_str(entry.get("name")) for entry in allowed]
    return tool.kind in [entry.get("type") for entry in allowed]


def parse_tool(tool: dict[str, Any], where: str) -> Tool | ServerTool:
    kind = tool.get("type")
    if kind not in ("function", "custom"):
        return ServerTool(origin=FORMAT, kind=as_str(kind) or "tool", value=tool)
    try:
        wire = msgspec.convert(tool, WireTool)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{where}: {error}.", where) from None
    if kind == "custom":
        return Tool(name=wire.name, description=describe_custom_tool(wire), custom=True)
    return Tool(
        name=wire.name, description=wire.description or "", schema=wire.parameters, strict=wire.strict
    )


def describe_custom_tool(tool: WireTool) -> str:
    """Return the description of a custom tool with its grammar.

    Other formats cannot enforce a grammar, but the model can follow it.
    """
    description = tool.description or ""
    match tool.format:
        case {"type": "grammar", "syntax": syntax, "definition": str() as definition}:
            grammar = f"The input must follow this {syntax} grammar:\n{definition}"
            return f"{description}{PARAGRAPH_BREAK}{grammar}".strip()
        case _:
            return description


def parse_tool_choice(choice: str | dict[str, Any] | None) -> ToolChoice | None:
    """Return the tool choice. Raises InvalidRequest."""
    match choice:
        case "auto" | "required" | "none":
            return ToolChoice(mode=choice)
        case {"type": "function" | "custom", "name": str() as name}:
            return ToolChoice(mode="required", names=(name,))
        case {"type": "allowed_tools", "mode": "required", **allowance}:
            names = [as_str(tool.get("name")) for tool in dict_items(allowance.get("tools"))]
            return ToolChoice(mode="required", names=tuple(name for name in names if name))
        case {"type": "allowed_tools"}:
            return ToolChoice(mode="auto")
        case str():
            raise InvalidRequest("tool_choice must be auto, required, none or an object.", "tool_choice")
        case _:
            return None


# Writing ------------------------------------------------------------------------------------------


def render_tools(request: Request) -> dict[str, Any]:
    if not request.tools:
        return {}
    given: dict[str, Any] = {"tools": [render_tool(tool) for tool in request.tools]}
    if request.tool_choice:
        given["tool_choice"] = render_tool_choice(request.tool_choice, custom_tool_names(request))
    if request.parallel_tool_calls is not None:
        given["parallel_tool_calls"] = request.parallel_tool_calls
    return given


def custom_tool_names(request: Request) -> frozenset[str]:
    return frozenset(tool.name for tool in request.tools if isinstance(tool, Tool) and tool.custom)


def render_tool(tool: Tool | ServerTool) -> dict[str, Any]:
    """Return one tool. Raises UnsupportedFeature.

    Unlike Chat, this format is strict by default (docs/guides/migrate-to-responses).
    """
    match tool:
        case ServerTool(origin="openai_responses", value=dict() as value):
            return value
        case ServerTool():
            raise UnsupportedFeature(
                f"The tool {tool.kind} runs at the provider that has it, and nowhere else.", "tools"
            )
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


def render_tool_choice(choice: ToolChoice, custom_tool_names: frozenset[str]) -> str | dict[str, Any]:
    named = [
        {"type": "custom" if name in custom_tool_names else "function", "name": name} for name in choice.names
    ]
    if choice.mode != "required" or not named:
        return choice.mode
    return named[0] if len(named) == 1 else {"type": "allowed_tools", "mode": "required", "tools": named}
