"""Tools and the choice among them (ai.google.dev/api/caching#Tool), both ways."""

import re
from typing import Any

import msgspec

from proxy.formats.custom_tools import tool_as_function
from proxy.formats.gemini.parts import ORIGIN, Wire
from proxy.formats.gemini.schema import json_schema
from proxy.formats.neutral import Inexpressible, Request, ServerTool, Tool, ToolChoice

DECLARATIONS = "functionDeclarations"
NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}")
NO_PARAMETERS = {"type": "object", "properties": {}}
NOT_A_TOOL = "cachedContent"


class Declaration(Wire):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    parameters_json_schema: dict[str, Any] | None = None
    response: Any = None
    response_json_schema: Any = None
    behavior: Any = None


class FunctionCalling(Wire):
    mode: str | None = None
    allowed_function_names: list[str] | None = None


class ToolConfig(Wire):
    function_calling_config: FunctionCalling | None = None


def read_tools(tools: list[dict[str, Any]] | dict[str, Any] | None) -> tuple[list[Tool | ServerTool], dict[str, Any]]:
    """The tools, and what Google says of functions that no other format does."""
    read: list[Tool | ServerTool] = []
    extras: dict[str, Any] = {}
    for tool in [tools] if isinstance(tools, dict) else tools or ():
        for what, value in tool.items():
            if what == DECLARATIONS:
                declarations = msgspec.convert(value or [], list[Declaration])
                read += [read_declaration(declaration) for declaration in declarations]
                extras |= {name: more for declaration in declarations for name, more in declaration_extras(declaration)}
            elif value is not None:
                read.append(ServerTool(origin=ORIGIN, what=what, value={what: value}))
    return read, extras


def read_declaration(declaration: Declaration) -> Tool:
    schema = declaration.parameters_json_schema or json_schema(declaration.parameters) or NO_PARAMETERS
    return Tool(name=declaration.name, description=declaration.description or "", schema=schema)


def declaration_extras(declaration: Declaration) -> list[tuple[str, Any]]:
    more = {
        "response": declaration.response,
        "responseJsonSchema": declaration.response_json_schema,
        "behavior": declaration.behavior,
    }
    return [(f"{DECLARATIONS}.{name}", value) for name, value in more.items() if value]


def read_choice(config: ToolConfig | None) -> ToolChoice | None:
    calling = config.function_calling_config if config else None
    if calling is None:
        return None
    names = tuple(calling.allowed_function_names or ())
    match (calling.mode or "").upper():
        case "AUTO" | "VALIDATED":
            return ToolChoice(mode="auto", names=names)
        case "ANY":
            return ToolChoice(mode="required", names=names)
        case "NONE":
            return ToolChoice(mode="none")
        case _:
            return None


def allowed(tools: list[Tool | ServerTool], choice: ToolChoice | None) -> tuple[list[Tool | ServerTool], ToolChoice | None]:
    """A free choice among some of the functions means the same as declaring no others, and so it is said."""
    if choice is None or choice.mode != "auto" or not choice.names:
        return tools, choice
    return [tool for tool in tools if not isinstance(tool, Tool) or tool.name in choice.names], ToolChoice()


def render_tools(request: Request) -> dict[str, Any]:
    functions = [render_declaration(tool) for tool in request.tools if isinstance(tool, Tool)]
    servers = [render_server_tool(tool) for tool in request.tools if isinstance(tool, ServerTool) and tool.what != NOT_A_TOOL]
    tools = [{DECLARATIONS: functions}] if functions else []
    body: dict[str, Any] = {"tools": [*tools, *servers]} if tools or servers else {}
    if functions and request.tool_choice is not None:
        body["toolConfig"] = {"functionCallingConfig": render_choice(request.tool_choice)}
    return body


def render_declaration(tool: Tool) -> dict[str, Any]:
    """JSON Schema goes as it is. A name cannot be bent to Google's rules: the client would not know the call that comes back."""
    tool = tool_as_function(tool)
    if not NAME.fullmatch(tool.name):
        raise Inexpressible(
            f"Gemini does not take {tool.name} as a function's name: a letter or _ comes first, then letters, digits and _.:-", "tools"
        )
    schema = {"parametersJsonSchema": tool.schema} if tool.schema and tool.schema != NO_PARAMETERS else {}
    return {"name": tool.name, "description": tool.description} | schema


def render_server_tool(tool: ServerTool) -> Any:
    if tool.origin != ORIGIN:
        raise Inexpressible(f"Gemini has no tool like {tool.what}.", "tools")
    return tool.value


def render_choice(choice: ToolChoice) -> dict[str, Any]:
    """Names may stand beside ANY and VALIDATED only (ai.google.dev/api/caching#FunctionCallingConfig)."""
    match choice.mode:
        case "required":
            return {"mode": "ANY"} | ({"allowedFunctionNames": list(choice.names)} if choice.names else {})
        case "none":
            return {"mode": "NONE"}
        case "auto":
            return {"mode": "AUTO"}
