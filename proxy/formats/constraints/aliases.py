"""Aliases of names that a vendor does not accept: names of tools, and of the arguments of tools.

An alias ends with a hash of the name, so that the same name has the same alias in every request. This matters
because providers cache prompts by their exact text. Requests contain the aliases. In responses, the original
names are restored.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.formats.constraints.constraint import Constraint
from proxy.formats.constraints.schemas import (
    WRAPPED_PROPERTY,
    Schema,
    properties_of,
    required_names,
    rewrite,
)
from proxy.formats.json_body import DECODE_ERRORS, encode
from proxy.formats.neutral import Message, Part, Request, Tool, ToolCall, ToolResult

HASH_LENGTH = 8
WRAPPING = re.compile(rf'^\s*{{\s*"{WRAPPED_PROPERTY}"\s*:\s*')
"""The start of the arguments of a wrapped tool."""
QUOTED_KEY = re.compile(r'"([^"\\]*)"(?=\s*:)')
INVALID_CHARACTER = re.compile(r"[^a-zA-Z0-9_-]")


@dataclass(frozen=True, slots=True)
class Aliases:
    """The names that a request replaces.

    `tools` maps names of tools to their aliases. `keys` maps the original name of a tool to the aliases of
    its arguments.

    `wrapped` contains the tools whose schema does not describe an object. Their arguments are sent as the
    only property of an object.
    """

    tools: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    wrapped: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.tools or self.keys or self.wrapped)

    def changes_arguments(self, tool: str) -> bool:
        """Return whether the provider gets other arguments of a tool than the client.

        `tool` is the original name.
        """
        return tool in self.keys or tool in self.wrapped


def alias_of(name: str, row: Constraint) -> str:
    """Return the name if the row allows it, otherwise an alias that the row allows."""
    if re.fullmatch(row.pattern, name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_LENGTH]
    length = int(row.maximum or 64) - HASH_LENGTH - 1
    alias = f"{INVALID_CHARACTER.sub('_', name)[:length]}_{digest}"
    return alias if re.fullmatch(row.pattern, alias) else f"_{alias[1:]}"


def aliases_of(names: Iterable[str], row: Constraint | None) -> dict[str, str]:
    """Return an alias for each name that the row does not allow."""
    if row is None:
        return {}
    found = {name: alias_of(name, row) for name in names}
    return {name: alias for name, alias in found.items() if alias != name}


# Names of tools -----------------------------------------------------------------------------------


def tool_names(request: Request) -> set[str]:
    """Return the names of all tools in a request, including those in its history."""
    parts = [part for message in request.messages for part in message.parts]
    named = {part.name for part in parts if isinstance(part, ToolCall | ToolResult) and part.name}
    chosen = request.tool_choice.names if request.tool_choice else ()
    return named | {*chosen} | {tool.name for tool in request.tools if isinstance(tool, Tool)}


def with_tool_aliases(request: Request, aliases: Mapping[str, str]) -> Request:
    """Return the request with aliases in place of tool names, also in its tool choice and history."""
    if not aliases:
        return request
    choice = request.tool_choice
    return replace(
        request,
        tools=tuple(
            replace(tool, name=aliases.get(tool.name, tool.name)) if isinstance(tool, Tool) else tool
            for tool in request.tools
        ),
        tool_choice=choice and replace(choice, names=tuple(aliases.get(name, name) for name in choice.names)),
        messages=tuple(rename_calls(message, aliases) for message in request.messages),
    )


def rename_calls(message: Message, aliases: Mapping[str, str]) -> Message:
    return replace(message, parts=tuple(rename_call(part, aliases) for part in message.parts))


def rename_call(part: Part, aliases: Mapping[str, str]) -> Part:
    if isinstance(part, ToolCall | ToolResult) and part.name:
        return replace(part, name=aliases.get(part.name, part.name))
    return part


# Names of arguments -------------------------------------------------------------------------------


def property_keys(schema: Any) -> set[str]:
    """Return the names of all properties in a schema, at every depth."""
    found: set[str] = set()

    def collect(inner: Schema) -> Schema:
        found.update(properties_of(inner))
        return inner

    rewrite(schema, collect)
    return found


def with_key_aliases(schema: Any, aliases: Mapping[str, str]) -> Any:
    """Return the schema with aliases in place of property names, also in lists of required properties."""

    def rename(inner: Schema) -> Schema:
        renamed = {**inner}
        if properties := properties_of(inner):
            renamed["properties"] = {aliases.get(key, key): value for key, value in properties.items()}
        if required := required_names(inner):
            renamed["required"] = [aliases.get(key, key) for key in required]
        return renamed

    return rewrite(schema, rename)


def rename_keys(value: Any, names: Mapping[str, str]) -> Any:
    """Return a JSON value with renamed keys in all of its objects."""
    match value:
        case dict():
            return {names.get(key, key): rename_keys(item, names) for key, item in value.items()}
        case list():
            return [rename_keys(item, names) for item in value]
        case _:
            return value


def replace_arguments(arguments: str, keys: Mapping[str, str], *, wrapped: bool) -> str:
    """Return a call's arguments for the provider. Arguments that are not JSON stay unchanged."""
    value = decode(arguments)
    if value is msgspec.UNSET:
        return arguments
    value = rename_keys(value, keys)
    return encode({WRAPPED_PROPERTY: value} if wrapped else value).decode()


def restore_arguments(arguments: str, keys: Mapping[str, str], *, wrapped: bool) -> str:
    """Return a call's arguments for the client.

    If the output limit has cut off the arguments, the keys in them are restored as text.
    """
    value = decode(arguments)
    if value is msgspec.UNSET:
        return restore_incomplete(arguments, keys, wrapped=wrapped)
    if wrapped and isinstance(value, dict) and value.keys() == {WRAPPED_PROPERTY}:
        value = value[WRAPPED_PROPERTY]
    return encode(rename_keys(value, {alias: key for key, alias in keys.items()})).decode()


def restore_incomplete(arguments: str, keys: Mapping[str, str], *, wrapped: bool) -> str:
    """Return arguments that are not valid JSON with the client's keys, and without the wrapping object.

    Aliases end with a hash, so they occur nowhere else.
    """
    if wrapped:
        arguments = WRAPPING.sub("", arguments, count=1)
    own_names = {alias: encode(key).decode() for key, alias in keys.items()}
    return QUOTED_KEY.sub(lambda match: own_names.get(match[1], match[0]), arguments)


def decode(arguments: str) -> Any:
    try:
        return msgspec.json.decode(arguments)
    except DECODE_ERRORS:
        return msgspec.UNSET


def with_argument_aliases(request: Request, aliases: Aliases) -> Request:
    """Return the request with aliases in place of argument names in the calls of its history."""
    if not aliases.keys and not aliases.wrapped:
        return request
    messages = tuple(
        replace(message, parts=tuple(replace_call(part, aliases) for part in message.parts))
        for message in request.messages
    )
    return replace(request, messages=messages)


def replace_call(part: Part, aliases: Aliases) -> Part:
    if not isinstance(part, ToolCall) or part.custom or not aliases.changes_arguments(part.name):
        return part
    keys, is_wrapped = aliases.keys.get(part.name, {}), part.name in aliases.wrapped
    return replace(part, arguments=replace_arguments(part.arguments, keys, wrapped=is_wrapped))
