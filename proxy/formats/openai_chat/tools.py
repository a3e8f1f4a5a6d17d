"""Tools of a request, and what the client says of their use (platform.openai.com/docs/guides/function-calling)."""

import re
from typing import Any

from proxy.formats.custom_tools import FREE_TEXT
from proxy.formats.neutral import BadRequest, Inexpressible, ServerTool, Tool, ToolChoice
from proxy.formats.openai_chat.message import cache_control, cache_of, object_of, text_of
from proxy.formats.openai_chat.signatures import OWN

OPENAI_MODEL = re.compile(r"(o\d|gpt-(?!oss)|chatgpt)")
"""The open-weight models are served by others, by their own rules."""
ANY_OBJECT = {"type": "object", "properties": {}}


# Reading ------------------------------------------------------------------------------------------------------------------


def read_tools(tools: list[dict[str, Any]], functions: list[dict[str, Any]], choice: Any) -> tuple[Tool | ServerTool, ...]:
    """Raises BadRequest. A free choice among some of the tools leaves the others out."""
    known = [read_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools)]
    known += [read_function(function, f"functions[{index}]") for index, function in enumerate(functions)]
    if mode_allowed(choice) != "auto":
        return tuple(known)
    allowed = names_allowed(choice)
    return tuple(tool for tool in known if not isinstance(tool, Tool) or tool.name in allowed)


def read_tool(wire: dict[str, Any], where: str) -> Tool | ServerTool:
    cache = cache_of(wire.get("cache_control") or object_of(wire.get("function")).get("cache_control"))
    match wire:
        case {"type": "custom", "custom": dict(custom)}:
            return read_custom(custom, where, cache)
        case {"type": "function" | None, "function": dict(function)}:
            return read_function(function, f"{where}.function", cache)
        case {"function": dict(function)} if "type" not in wire:
            return read_function(function, f"{where}.function", cache)
        case {"type": "function"}:
            return read_function(wire, where, cache)
        case _:
            return ServerTool(origin=OWN, what=text_of(wire.get("type")) or "without a type", value=wire)


def read_function(wire: dict[str, Any], where: str, cache: str | None = None) -> Tool:
    schema, strict = wire.get("parameters"), wire.get("strict")
    return Tool(
        name=name_of(wire, where),
        description=text_of(wire.get("description")),
        schema=schema if isinstance(schema, dict) else None,
        strict=strict if isinstance(strict, bool) else None,
        cache=cache,
    )


def read_custom(wire: dict[str, Any], where: str, cache: str | None) -> Tool:
    """The neutral form has no grammars: one becomes words for the model."""
    description = text_of(wire.get("description"))
    match wire.get("format"):
        case {"type": "grammar", "grammar": {"definition": str(definition), **rest}}:
            description = f"{description}\n\nThe input follows this grammar ({rest.get('syntax')}):\n{definition}".lstrip()
        case _:
            pass
    return Tool(name=name_of(wire, f"{where}.custom"), description=description, custom=True, cache=cache)


def name_of(wire: dict[str, Any], where: str) -> str:
    if name := text_of(wire.get("name")):
        return name
    raise BadRequest(f"A tool needs a name, in the field {where}.name.", f"{where}.name")


def read_choice(choice: str | dict[str, Any] | None) -> ToolChoice | None:
    """Raises BadRequest. Of a choice among some tools, `required` is kept here; `auto` leaves the other tools out instead."""
    match choice:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(mode=choice)
        case "any":
            return ToolChoice(mode="required")  # Mistral's word
        case {"type": "allowed_tools"}:
            auto = mode_allowed(choice) == "auto"
            return ToolChoice() if auto else ToolChoice(mode="required", names=tuple(names_allowed(choice)))
        case {"function": {"name": str(name)}} | {"custom": {"name": str(name)}} | {"name": str(name)}:
            return ToolChoice(mode="required", names=(name,))
        case _:
            raise BadRequest("tool_choice is auto, none, required, or names a tool.", "tool_choice")


def mode_allowed(choice: Any) -> str:
    match choice:
        case {"type": "allowed_tools", "allowed_tools": {"mode": str(mode)}}:
            return mode
        case _:
            return ""


def names_allowed(choice: Any) -> list[str]:
    """The field is nested in the documents, and flat in the Responses API, whose shape clients mix it up with."""
    tools = object_of(choice).get("tools") or object_of(object_of(choice).get("allowed_tools")).get("tools")
    named = [object_of(object_of(tool).get("function") or object_of(tool).get("custom") or tool) for tool in tools or ()]
    return [name for tool in named if (name := text_of(tool.get("name")))]


# Writing ------------------------------------------------------------------------------------------------------------------


def is_openai(model: str) -> bool:
    return bool(OPENAI_MODEL.match(model))


class ToolWriter:
    """Writes tools for one target. `custom`: whether it takes tools without a schema. `cached`: whether it reads marks for its
    prompt cache. Only OpenAI's own models take a choice among several tools."""

    def __init__(self, model: str, *, custom: bool, cached: bool) -> None:
        self.openai, self.custom, self.cached = is_openai(model), custom, cached

    def write(self, tools: tuple[Tool | ServerTool, ...], choice: ToolChoice | None) -> dict[str, Any]:
        """The fields of the body; raises Inexpressible."""
        if choice is None:
            return {"tools": [self.tool(tool) for tool in tools]}
        named = [self.named(tool) for tool in tools if isinstance(tool, Tool) and tool.name in choice.names]
        match named:
            case _ if choice.mode != "required":
                wanted: str | dict[str, Any] = choice.mode
            case [only]:
                wanted = only
            case [_, *_] if self.openai:
                wanted = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": named}}
            case [_, *_]:
                tools, wanted = tuple(tool for tool in tools if isinstance(tool, Tool) and tool.name in choice.names), "required"
            case _:
                wanted = "required"
        return {"tools": [self.tool(tool) for tool in tools], "tool_choice": wanted}

    def tool(self, tool: Tool | ServerTool) -> dict[str, Any]:
        if isinstance(tool, ServerTool):
            if tool.origin == OWN:
                return dict(tool.value)
            raise Inexpressible(f"The tool {tool.what} is run by another provider; this model does not have it.", "tools")
        cache = {"cache_control": cache_control(tool.cache)} if self.cached and tool.cache else {}
        description = {"description": tool.description} if tool.description else {}
        if self.stays_custom(tool):
            return {"type": "custom", "custom": {"name": tool.name, **description}, **cache}
        schema = FREE_TEXT if tool.custom else tool.schema or ANY_OBJECT
        parameters = schema if "type" in schema else {"type": "object", **schema}
        strict = {"strict": True} if tool.strict else {}
        return {"type": "function", "function": {"name": tool.name, **description, "parameters": parameters, **strict}, **cache}

    def stays_custom(self, tool: Tool) -> bool:
        return tool.custom and self.custom

    def named(self, tool: Tool) -> dict[str, Any]:
        kind = "custom" if self.stays_custom(tool) else "function"
        return {"type": kind, kind: {"name": tool.name}}
