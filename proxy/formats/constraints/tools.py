"""Adaptation of tools and response formats to their destination."""

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from proxy.formats.constraints.aliases import (
    Aliases,
    aliases_of,
    tool_names,
    with_argument_aliases,
    with_tool_aliases,
)
from proxy.formats.constraints.constraint import Constraint, Constraints, changed
from proxy.formats.constraints.schemas import Schema, types_of
from proxy.formats.constraints.settings import Adapted
from proxy.formats.constraints.strict_schema import (
    MAX_OPTIONAL_PARAMETERS,
    MAX_UNION_PARAMETERS,
    is_recursive,
    is_strict,
    optional_parameters,
    union_parameters,
)
from proxy.formats.constraints.tool_schemas import (
    AdaptedSchema,
    adapt_inner,
    adapt_schema,
    schema_rules,
)
from proxy.formats.json_body import encode
from proxy.formats.neutral import Request, ResponseFormat, ServerTool, Text, Tool, ToolChoice

Tools = tuple[Tool | ServerTool, ...]


def functions(request: Request) -> list[Tool]:
    """Return the tools of the client that take JSON. Custom tools take free text instead."""
    return [tool for tool in request.tools if isinstance(tool, Tool) and not tool.custom]


def with_system_text(request: Request, text: str) -> Request:
    """Return the request with one more instruction at the end of its system prompt."""
    return replace(request, system=(*request.system, Text(text=text)))


# Number and names ---------------------------------------------------------------------------------


def drop_repeated_tools(request: Request, constraints: Constraints) -> Adapted:
    """Keep only the first of several tools with the same name."""
    if constraints.first("unique_tool_names") is None:
        return request, []
    first: dict[str, int] = {}
    for place, tool in enumerate(request.tools):
        if isinstance(tool, Tool):
            first.setdefault(tool.name, place)
    kept = tuple(
        tool
        for place, tool in enumerate(request.tools)
        if not isinstance(tool, Tool) or first[tool.name] == place
    )
    return (request, []) if len(kept) == len(request.tools) else (replace(request, tools=kept), ["tools"])


def limit_tools(request: Request, constraints: Constraints) -> Adapted:
    """Keep as many tools as the destination accepts, first those that the tool choice names."""
    row = constraints.first("tool_count")
    if row is None or row.allows(len(request.tools)):
        return request, []
    chosen = request.tool_choice.names if request.tool_choice else ()
    places = sorted(range(len(request.tools)), key=lambda place: name_of(request.tools[place]) not in chosen)
    kept = sorted(places[: int(row.maximum or 0)])
    return replace(request, tools=tuple(request.tools[place] for place in kept)), ["tools"]


def name_of(tool: Tool | ServerTool) -> str:
    return tool.name if isinstance(tool, Tool) else tool.kind


def shorten_descriptions(request: Request, constraints: Constraints) -> Adapted:
    """Shorten long descriptions of tools. The system prompt gets the complete descriptions."""
    row = constraints.first("tool_description")
    if row is None or row.maximum is None:
        return request, []
    limit = int(row.maximum)
    long = {
        tool.name: tool for tool in request.tools if isinstance(tool, Tool) and len(tool.description) > limit
    }
    if not long:
        return request, []
    tools = tuple(
        replace(tool, description=f"{tool.description[: limit - 1]}…")
        if isinstance(tool, Tool) and tool.name in long
        else tool
        for tool in request.tools
    )
    whole = "\n\n".join(f"The tool {tool.name}: {tool.description}" for tool in long.values())
    return with_system_text(replace(request, tools=tools), whole), [changed("tools.description", "shortened")]


# Tool choice --------------------------------------------------------------------------------------


def fit_tool_choice(request: Request, constraints: Constraints) -> Adapted:
    """Ask for a tool call in the system prompt, if the destination cannot force the call."""
    choice = request.tool_choice
    if choice is None or choice.mode != "required" or constraints.first("forced_tool_choice") is None:
        return request, []
    offered = choice.names or tuple(name_of(tool) for tool in request.tools)
    text = f"Answer with a call of one of these tools: {', '.join(offered)}."
    return with_system_text(replace(request, tool_choice=ToolChoice()), text), ["tool_choice"]


def drop_choice_without_tools(request: Request, constraints: Constraints) -> Adapted:
    """Drop the settings that the destination accepts only together with tools, if there are no tools.

    A tool choice of none is not reported as dropped, because it has no effect without tools.
    """
    if request.tools or constraints.first("tools_needed") is None:
        return request, []
    named = ["tool_choice"] if request.tool_choice and request.tool_choice.mode == "required" else []
    return replace(request, tool_choice=None, parallel_tool_calls=None), named


# Schemas and names --------------------------------------------------------------------------------


def adapt_names(request: Request, constraints: Constraints) -> tuple[Request, list[str], Aliases]:
    """Rewrite schemas, and replace the names of tools and arguments that the destination rejects."""
    rules = schema_rules(constraints)
    schemas = {tool.name: adapt_schema(tool.schema, rules) for tool in functions(request) if tool.schema}
    aliases = Aliases(
        tools=aliases_of(tool_names(request), constraints.first("tool_name")),
        keys={name: found.keys for name, found in schemas.items() if found.keys},
        wrapped=frozenset(name for name, found in schemas.items() if found.is_wrapped),
    )
    tools = tuple(with_schema(tool, schemas) for tool in request.tools)
    wanted = request.response_format
    if wanted is not None and wanted.schema is not None:
        wanted = replace(wanted, schema=adapt_inner(wanted.schema, rules))
    request = with_argument_aliases(replace(request, tools=tools, response_format=wanted), aliases)
    has_lost_rules = any(found.has_lost_rules for found in schemas.values())
    changes = [changed("tools.schema", "rewritten")] if has_lost_rules else []
    return with_tool_aliases(request, aliases.tools), changes, aliases


def with_schema(tool: Tool | ServerTool, schemas: dict[str, AdaptedSchema]) -> Tool | ServerTool:
    if isinstance(tool, ServerTool) or tool.custom or tool.name not in schemas:
        return tool
    return replace(tool, schema=schemas[tool.name].schema)


# Strict schemas -----------------------------------------------------------------------------------


def fit_strict(request: Request, constraints: Constraints) -> Adapted:
    """Drop `strict` if the destination cannot enforce the schema."""
    tools, wanted = request.tools, request.response_format
    if constraints.first("strict_subset"):
        tools = tuple(map(enforceable, tools))
        if wanted is not None and wanted.strict and not is_strict(wanted.schema):
            wanted = replace(wanted, strict=False)
    if row := constraints.first("strict_limits"):
        tools = within_limits(tools, wanted, int(row.maximum or 0))
    if tools == request.tools and wanted == request.response_format:
        return request, []
    return replace(request, tools=tools, response_format=wanted), ["strict"]


def is_demanding(tool: Tool | ServerTool) -> bool:
    return isinstance(tool, Tool) and bool(tool.strict)


def schema_of(tool: Tool | ServerTool) -> Schema | None:
    return tool.schema if isinstance(tool, Tool) else None


def lenient(tool: Tool | ServerTool) -> Tool | ServerTool:
    return replace(tool, strict=None) if isinstance(tool, Tool) else tool


def enforceable(tool: Tool | ServerTool) -> Tool | ServerTool:
    """Return the tool, without `strict` if OpenAI cannot enforce its schema."""
    return lenient(tool) if is_demanding(tool) and not is_strict(schema_of(tool)) else tool


def within_limits(tools: Tools, wanted: ResponseFormat | None, most: int) -> Tools:
    """Return the tools, with `strict` on only as many of them as Anthropic can enforce in one request."""
    taken = [wanted.schema] if wanted is not None and wanted.schema is not None else []
    kept: list[Tool | ServerTool] = []
    strict = 0
    for tool in tools:
        if not is_demanding(tool):
            kept.append(tool)
        elif strict < most and is_compiled([*taken, schema_of(tool)]):
            strict, taken = strict + 1, [*taken, schema_of(tool) or {}]
            kept.append(tool)
        else:
            kept.append(lenient(tool))
    return tuple(kept)


def is_compiled(schemas: Iterable[Any]) -> bool:
    """Return whether Anthropic can enforce all of these schemas in one request."""
    found = list(schemas)
    return (
        not any(map(is_recursive, found))
        and sum(map(optional_parameters, found)) <= MAX_OPTIONAL_PARAMETERS
        and sum(map(union_parameters, found)) <= MAX_UNION_PARAMETERS
    )


# Formats of the response --------------------------------------------------------------------------


def fit_response_format(request: Request, constraints: Constraints) -> Adapted:
    """Ask for the response format in the system prompt, if the destination cannot enforce it."""
    wanted = request.response_format
    if wanted is None or not is_rejected(wanted, request, constraints):
        return request, []
    text = "Give your final answer as JSON and nothing else: no other text, no Markdown."
    if wanted.schema is not None:
        text += f" It must match this JSON Schema: {encode(wanted.schema).decode()}"
    return with_system_text(replace(request, response_format=None), text), ["response_format"]


def is_rejected(wanted: ResponseFormat, request: Request, constraints: Constraints) -> bool:
    """Return whether the destination rejects this response format."""
    if request.tools and constraints.first("format_with_tools"):
        return True
    schema, row = wanted.schema, constraints.first("format_top_type")
    if schema is None:
        return False
    if row is not None and is_rejected_at_top(schema, row):
        return True
    return constraints.first("strict_limits") is not None and not is_compiled([schema])


def is_rejected_at_top(schema: Schema, row: Constraint) -> bool:
    return bool(schema.keys() & set(row.names)) or types_of(schema) not in (("object",), ())
