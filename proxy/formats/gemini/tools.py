"""Tools and the tool choice, parsed and rendered (ai.google.dev/api/caching#Tool)."""

from typing import Any

from proxy.formats.gemini.json_schema import to_json_schema
from proxy.formats.gemini.vendor_tools import (
    COMPUTER_USE,
    parse_computer,
    parse_server_tool,
    render_shared_tool,
)
from proxy.formats.gemini.wire import FORMAT, FunctionDeclaration, ToolConfig
from proxy.formats.json_body import convert_json
from proxy.formats.neutral import Request, ServerTool, Tool, ToolChoice
from proxy.formats.tool_calls import as_function_tool

FUNCTION_DECLARATIONS = "functionDeclarations"
EMPTY_OBJECT_SCHEMA = {"type": "object", "properties": {}}
CACHED_CONTENT = "cachedContent"


def parse_tools(
    tools: list[dict[str, Any]] | dict[str, Any] | None,
) -> tuple[list[Tool | ServerTool], dict[str, Any]]:
    """Return the tools, and the fields of function declarations that no other format supports."""
    parsed: list[Tool | ServerTool] = []
    unmapped: dict[str, Any] = {}
    for tool in [tools] if isinstance(tools, dict) else tools or ():
        for field, value in tool.items():
            if field == FUNCTION_DECLARATIONS:
                declarations = convert_json(value or [], list[FunctionDeclaration])
                parsed += [parse_declaration(declaration) for declaration in declarations]
                for declaration in declarations:
                    unmapped |= unmapped_declaration_fields(declaration)
            elif field == COMPUTER_USE:
                parsed += parse_computer(value)
            elif value is not None:
                parsed.append(parse_server_tool(field, value))
    return parsed, unmapped


def parse_declaration(declaration: FunctionDeclaration) -> Tool:
    schema = (
        declaration.parameters_json_schema or to_json_schema(declaration.parameters) or EMPTY_OBJECT_SCHEMA
    )
    return Tool(name=declaration.name, description=declaration.description or "", schema=schema)


def unmapped_declaration_fields(declaration: FunctionDeclaration) -> dict[str, Any]:
    fields = {
        "response": declaration.response,
        "responseJsonSchema": declaration.response_json_schema,
        "behavior": declaration.behavior,
    }
    return {f"{FUNCTION_DECLARATIONS}.{name}": value for name, value in fields.items() if value}


def parse_tool_choice(config: ToolConfig | None) -> ToolChoice | None:
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


def apply_tool_choice(
    tools: list[Tool | ServerTool], choice: ToolChoice | None
) -> tuple[list[Tool | ServerTool], ToolChoice | None]:
    """Return the tools and the choice, without functions that the client does not allow.

    The neutral tool choice "auto" then needs no names.
    """
    if choice is None or choice.mode != "auto" or not choice.names:
        return tools, choice
    return [tool for tool in tools if not isinstance(tool, Tool) or tool.name in choice.names], ToolChoice()


def render_tools(request: Request) -> dict[str, Any]:
    """Render the tools and the choice among the functions. Raises UnsupportedFeature."""
    declared = [tool for tool in request.tools if isinstance(tool, Tool)]
    functions = [render_declaration(tool) for tool in declared if not is_own(tool)]
    own = {id(tool.vendor.value): tool.vendor.value for tool in declared if tool.vendor and is_own(tool)}
    servers = [
        render_server_tool(tool)
        for tool in request.tools
        if isinstance(tool, ServerTool) and tool.kind != CACHED_CONTENT
    ]
    tools = [{FUNCTION_DECLARATIONS: functions}] if functions else []
    offered = [*tools, *own.values(), *servers]
    body: dict[str, Any] = {"tools": offered} if offered else {}
    if declared and request.tool_choice is not None:
        body["toolConfig"] = {"functionCallingConfig": render_tool_choice(request.tool_choice)}
    return body


def render_declaration(tool: Tool) -> dict[str, Any]:
    """Render a function with its JSON Schema."""
    tool = as_function_tool(tool)
    schema = (
        {"parametersJsonSchema": tool.schema} if tool.schema and tool.schema != EMPTY_OBJECT_SCHEMA else {}
    )
    return {"name": tool.name, "description": tool.description} | schema


def is_own(tool: Tool) -> bool:
    """Return whether the tool is one of the functions that Google predefines."""
    return tool.vendor is not None and tool.vendor.origin == FORMAT


def render_server_tool(tool: ServerTool) -> Any:
    return render_shared_tool(tool.shared) if tool.shared and tool.origin != FORMAT else tool.value


def render_tool_choice(choice: ToolChoice) -> dict[str, Any]:
    """Render the tool choice.

    Google accepts names with ANY and VALIDATED only (ai.google.dev/api/caching#FunctionCallingConfig).
    """
    match choice.mode:
        case "required":
            return {"mode": "ANY"} | ({"allowedFunctionNames": list(choice.names)} if choice.names else {})
        case "none":
            return {"mode": "NONE"}
        case "auto":
            return {"mode": "AUTO"}
