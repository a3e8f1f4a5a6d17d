"""Tools of a request, and what the client says of their use (platform.openai.com/docs/guides/function-calling)."""

import re
from typing import Any

from proxy.formats.neutral import InvalidRequest, ServerTool, Tool, ToolChoice, UnsupportedFeature
from proxy.formats.openai_chat.content import as_dict, as_str, parse_cache_control, render_cache_control
from proxy.formats.openai_chat.reasoning import FORMAT
from proxy.formats.tool_calls import FREE_TEXT_SCHEMA

OPENAI_MODEL = re.compile(r"(o\d|gpt-(?!oss)|chatgpt)")
"""The open-weight models are served by others, by their own rules."""
EMPTY_OBJECT_SCHEMA = {"type": "object", "properties": {}}


# Reading ------------------------------------------------------------------------------------------------------------------


def parse_tools(
    tools: list[dict[str, Any]], functions: list[dict[str, Any]], choice: Any
) -> tuple[Tool | ServerTool, ...]:
    """Raises BadRequest. A free choice among some of the tools leaves the others out."""
    known = [parse_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools)]
    known += [parse_function(function, f"functions[{index}]") for index, function in enumerate(functions)]
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
            return ServerTool(origin=FORMAT, kind=as_str(wire.get("type")) or "without a type", value=wire)


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
    """The neutral form has no grammars: one becomes words for the model."""
    description = as_str(wire.get("description"))
    match wire.get("format"):
        case {"type": "grammar", "grammar": {"definition": str(definition), **rest}}:
            description = f"{description}\n\nThe input follows this grammar ({rest.get('syntax')}):\n{definition}".lstrip()
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
    """Raises BadRequest. Of a choice among some tools, `required` is kept here; `auto` leaves the other tools out instead."""
    match choice:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(mode=choice)
        case "any":
            return ToolChoice(mode="required")  # Mistral's word
        case {"type": "allowed_tools"}:
            auto = allowed_tools_mode(choice) == "auto"
            return (
                ToolChoice() if auto else ToolChoice(mode="required", names=tuple(allowed_tool_names(choice)))
            )
        case {"function": {"name": str(name)}} | {"custom": {"name": str(name)}} | {"name": str(name)}:
            return ToolChoice(mode="required", names=(name,))
        case _:
            raise InvalidRequest("tool_choice is auto, none, required, or names a tool.", "tool_choice")


def allowed_tools_mode(choice: Any) -> str:
    match choice:
        case {"type": "allowed_tools", "allowed_tools": {"mode": str(mode)}}:
            return mode
        case _:
            return ""


def allowed_tool_names(choice: Any) -> list[str]:
    """The field is nested in the documents, and flat in the Responses API, whose shape clients mix it up with."""
    tools = as_dict(choice).get("tools") or as_dict(as_dict(choice).get("allowed_tools")).get("tools")
    named = [
        as_dict(as_dict(tool).get("function") or as_dict(tool).get("custom") or tool) for tool in tools or ()
    ]
    return [name for tool in named if (name := as_str(tool.get("name")))]


# Writing ------------------------------------------------------------------------------------------------------------------


def is_openai_model(model: str) -> bool:
    return bool(OPENAI_MODEL.match(model))


class ToolRenderer:
    """Writes tools for one target. `supports_custom_tools`: whether it takes tools without a schema. `supports_cache_control`: whether it reads marks for its
    prompt cache. Only OpenAI's own models take a choice among several tools.
    """

    def __init__(self, model: str, *, supports_custom_tools: bool, supports_cache_control: bool) -> None:
        self.is_openai_model, self.supports_custom_tools, self.supports_cache_control = (
            is_openai_model(model),
            supports_custom_tools,
            supports_cache_control,
        )

    def render(self, tools: tuple[Tool | ServerTool, ...], choice: ToolChoice | None) -> dict[str, Any]:
        """The fields of the body; raises Inexpressible."""
        if choice is None:
            return {"tools": [self.render_tool(tool) for tool in tools]}
        named = [
            self.render_named_tool(tool)
            for tool in tools
            if isinstance(tool, Tool) and tool.name in choice.names
        ]
        match named:
            case _ if choice.mode != "required":
                wanted: str | dict[str, Any] = choice.mode
            case [only]:
                wanted = only
            case [_, *_] if self.is_openai_model:
                wanted = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": named}}
            case [_, *_]:
                tools, wanted = (
                    tuple(tool for tool in tools if isinstance(tool, Tool) and tool.name in choice.names),
                    "required",
                )
            case _:
                wanted = "required"
        return {"tools": [self.render_tool(tool) for tool in tools], "tool_choice": wanted}

    def render_tool(self, tool: Tool | ServerTool) -> dict[str, Any]:
        if isinstance(tool, ServerTool):
            if tool.origin == FORMAT:
                return dict(tool.value)
            raise UnsupportedFeature(
                f"The tool {tool.kind} is run by another provider; this model does not have it.", "tools"
            )
        cache = (
            {"cache_control": render_cache_control(tool.cache)}
            if self.supports_cache_control and tool.cache
            else {}
        )
        description = {"description": tool.description} if tool.description else {}
        if self.renders_as_custom(tool):
            return {"type": "custom", "custom": {"name": tool.name, **description}, **cache}
        schema = FREE_TEXT_SCHEMA if tool.custom else tool.schema or EMPTY_OBJECT_SCHEMA
        parameters = schema if "type" in schema else {"type": "object", **schema}
        strict = {"strict": True} if tool.strict else {}
        return {
            "type": "function",
            "function": {"name": tool.name, **description, "parameters": parameters, **strict},
            **cache,
        }

    def renders_as_custom(self, tool: Tool) -> bool:
        return tool.custom and self.supports_custom_tools

    def render_named_tool(self, tool: Tool) -> dict[str, Any]:
        kind = "custom" if self.renders_as_custom(tool) else "function"
        return {"type": kind, kind: {"name": tool.name}}
