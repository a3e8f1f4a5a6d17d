"""Tools and the tool choice, parsed and rendered (platform.openai.com/docs/guides/function-calling)."""

from typing import Any

from proxy.formats.json_body import as_dict, as_list, as_str
from proxy.formats.neutral import InvalidRequest, Request, ServerTool, Tool, ToolChoice
from proxy.formats.openai_chat.capabilities import is_openai_model
from proxy.formats.openai_chat.content import parse_cache_control, render_cache_control
from proxy.formats.openai_chat.vendor_tools import (
    parse_search_options,
    parse_server_tool,
    render_server_tools,
)
from proxy.formats.tool_calls import FREE_TEXT_SCHEMA

EMPTY_OBJECT_SCHEMA = {"type": "object", "properties": {}}


# Reading ------------------------------------------------------------------------------------------


def parse_tools(
    tools: list[dict[str, Any]],
    functions: list[dict[str, Any]],
    choice: Any,
    search_options: dict[str, Any] | None = None,
) -> tuple[Tool | ServerTool, ...]:
    """Return the tools. Raises InvalidRequest.

    If the tool choice allows only some of the tools in the mode auto, the others are left out.
    """
    known: list[Tool | ServerTool] = [parse_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools)]
    known += [parse_function(function, f"functions[{index}]") for index, function in enumerate(functions)]
    known += parse_search_options(search_options)
    if allowed_tools_mode(choice) != "auto":
        return tuple(known)
    allowed = allowed_tool_names(choice)
    return tuple(tool for tool in known if not isinstance(tool, Tool) or tool.name in allowed)


def parse_tool(wire: dict[str, Any], where: str) -> Tool | ServerTool:
    cache = parse_cache_control(
        wire.get("cache_control") or as_dict(wire.get("function")).get("cache_control")
    )
    match wire:
        case {"type": "custom", "custom": dict(custom)}:
            return parse_custom_tool(custom, where, cache)
        case {"type": "function" | None, "function": dict(function)}:
            return parse_function(function, f"{where}.function", cache)
        case {"function": dict(function)} if "type" not in wire:
            return parse_function(function, f"{where}.function", cache)
        case {"type": "function"}:
            return parse_function(wire, where, cache)
        case _:
            return parse_server_tool(wire)


def parse_function(wire: dict[str, Any], where: str, cache: str | None = None) -> Tool:
    schema, strict = wire.get("parameters"), wire.get("strict")
    return Tool(
        name=parse_tool_name(wire, where),
        description=as_str(wire.get("description")),
        schema=schema if isinstance(schema, dict) else None,
        strict=strict if isinstance(strict, bool) else None,
        cache=cache,
    )


def parse_custom_tool(wire: dict[str, Any], where: str, cache: str | None) -> Tool:
    """Return a custom tool. Its grammar, which no other format supports, is added to the description."""
    description = as_str(wire.get("description"))
    match wire.get("format"):
        case {"type": "grammar", "grammar": {"definition": str(definition), **rest}}:
            grammar = f"The input follows this grammar ({rest.get('syntax')}):\n{definition}"
            description = f"{description}\n\n{grammar}".lstrip()
        case _:
            pass
    return Tool(
        name=parse_tool_name(wire, f"{where}.custom"), description=description, custom=True, cache=cache
    )


def parse_tool_name(wire: dict[str, Any], where: str) -> str:
    if name := as_str(wire.get("name")):
        return name
    raise InvalidRequest(f"A tool needs a name, in the field {where}.name.", f"{where}.name")


def parse_tool_choice(choice: str | dict[str, Any] | None) -> ToolChoice | None:
    """Return the tool choice. Raises InvalidRequest.

    `allowed_tools` in the mode required names the tools. In the mode auto, `parse_tools` leaves out the other
    tools.
    """
    match choice:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(mode=choice)
        case "any":
            return ToolChoice(mode="required")  # Mistral's name for `required`.
        case {"type": "allowed_tools"}:
            auto = allowed_tools_mode(choice) == "auto"
            return (
                ToolChoice() if auto else ToolChoice(mode="required", names=tuple(allowed_tool_names(choice)))
            )
        case {"function": {"name": str(name)}} | {"custom": {"name": str(name)}} | {"name": str(name)}:
            return ToolChoice(mode="required", names=(name,))
        case _:
            raise InvalidRequest(
                "tool_choice must be auto, none, required, or an object that names a tool.", "tool_choice"
            )


def allowed_tools_mode(choice: Any) -> str:
    match choice:
        case {"type": "allowed_tools", "allowed_tools": {"mode": str(mode)}}:
            return mode
        case _:
            return ""


def allowed_tool_names(choice: Any) -> list[str]:
    """Return the names of the allowed tools.

    The documented field is nested. Some clients send the flat field of the Responses API.
    """
    tools = as_dict(choice).get("tools") or as_dict(as_dict(choice).get("allowed_tools")).get("tools")
    named = [
        as_dict(as_dict(tool).get("function") or as_dict(tool).get("custom") or tool)
        for tool in as_list(tools)
    ]
    return [name for tool in named if (name := as_str(tool.get("name")))]


# Writing ------------------------------------------------------------------------------------------


def render_tools(
    request: Request, *, supports_custom_tools: bool, supports_cache_control: bool
) -> dict[str, Any]:
    """Render the fields `tools`, `tool_choice` and `web_search_options`.

    `supports_custom_tools` is true if the server accepts tools without a schema, `supports_cache_control` if
    it accepts prompt cache breakpoints.
    """
    choice, chosen = request.tool_choice, chosen_tools(request)
    # Only OpenAI's own models accept a choice among several tools. Other models get only those tools.
    offers_chosen_only = len(chosen) > 1 and not is_openai_model(request.model)
    entries, fields = render_server_tools(request)
    declared = chosen if offers_chosen_only else [tool for tool in request.tools if isinstance(tool, Tool)]
    tools = [render_tool(tool, supports_custom_tools, supports_cache_control) for tool in declared] + entries
    if not tools:
        return fields
    fields["tools"] = tools
    # A model with web search always searches, so no field is needed if the client chooses this tool.
    if choice is not None and not choice.server_kinds:
        named = (
            [] if offers_chosen_only else [render_named_tool(tool, supports_custom_tools) for tool in chosen]
        )
        fields["tool_choice"] = render_tool_choice(choice, named)
    return fields


def chosen_tools(request: Request) -> list[Tool]:
    """Return the tools among which the model must choose; empty if it may choose among all of them."""
    choice = request.tool_choice
    if choice is None or choice.mode != "required":
        return []
    return [tool for tool in request.tools if isinstance(tool, Tool) and tool.name in choice.names]


def render_tool_choice(choice: ToolChoice, named: list[dict[str, Any]]) -> str | dict[str, Any]:
    """Render the tool choice. `named` are the tools that a required choice names."""
    match named:
        case _ if choice.mode != "required":
            return choice.mode
        case [only]:
            return only
        case [_, *_]:
            return {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": named}}
        case _:
            return "required"


def render_tool(tool: Tool, supports_custom_tools: bool, supports_cache_control: bool) -> dict[str, Any]:
    cache = (
        {"cache_control": render_cache_control(tool.cache)} if supports_cache_control and tool.cache else {}
    )
    description = {"description": tool.description} if tool.description else {}
    if tool.custom and supports_custom_tools:
        return {"type": "custom", "custom": {"name": tool.name, **description}, **cache}
    schema = FREE_TEXT_SCHEMA if tool.custom else tool.schema or EMPTY_OBJECT_SCHEMA
    parameters = schema if "type" in schema else {"type": "object", **schema}
    strict = {"strict": True} if tool.strict else {}
    return {
        "type": "function",
        "function": {"name": tool.name, **description, "parameters": parameters, **strict},
        **cache,
    }


def render_named_tool(tool: Tool, supports_custom_tools: bool) -> dict[str, Any]:
    kind = "custom" if tool.custom and supports_custom_tools else "function"
    return {"type": kind, kind: {"name": tool.name}}
