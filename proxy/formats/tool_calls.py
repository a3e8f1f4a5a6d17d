"""Tool calls: unique ids, links between results and calls, and functions that replace custom tools."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import msgspec
from msgspec.structs import replace

from proxy.formats.json_body import DECODE_ERRORS, encode
from proxy.formats.neutral import Part, Tool, ToolCall

# Ids ----------------------------------------------------------------------------------------------


def unique_call_id(reported_id: str, used_ids: set[str]) -> str:
    """Return the provider's id of a call, or a new id if the provider sent none or repeated it.

    A client must be able to distinguish the calls of one response.
    """
    call_id = reported_id if reported_id and reported_id not in used_ids else f"call_{uuid4().hex[:24]}"
    used_ids.add(call_id)
    return call_id


def with_unique_id(part: Part, used_ids: set[str]) -> Part:
    """Return a tool call with a unique id, and any other part unchanged."""
    return replace(part, id=unique_call_id(part.id, used_ids)) if isinstance(part, ToolCall) else part


def call_id_digest(call_id: str) -> str:
    """Return a hexadecimal digest of an id, from which a format makes an id that it accepts.

    Equal ids have equal digests, so a call and its result keep the same id.
    """
    return hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()


# Results ------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class LinkedCall:
    """A call in a history that has no result yet. `given_id` is the id that the client sent."""

    given_id: str
    call: ToolCall


Match = Callable[[LinkedCall, str, str | None], bool]
"""Returns whether a result with this id and this tool name belongs to the call."""


def has_id(linked: LinkedCall, call_id: str, _name: str | None) -> bool:
    return bool(call_id) and linked.given_id == call_id


def has_same_id(linked: LinkedCall, call_id: str, _name: str | None) -> bool:
    """Match calls with the same id. An empty id matches an empty id."""
    return linked.given_id == call_id


def has_name(linked: LinkedCall, _call_id: str, name: str | None) -> bool:
    return linked.call.name == name


def is_next(_linked: LinkedCall, _call_id: str, _name: str | None) -> bool:
    """Match the first call without a result."""
    return True


def is_next_without_id(_linked: LinkedCall, call_id: str, _name: str | None) -> bool:
    """Match the first call without a result, if the result has no id."""
    return not call_id


def has_name_without_id(linked: LinkedCall, call_id: str, name: str | None) -> bool:
    """Match by the tool's name if the result has no id. A result without a name matches any call."""
    return not call_id and name in (None, linked.call.name)


class ToolCallLinker:
    """Gives each call of a history a unique id, and finds the call that each result belongs to.

    Clients may leave ids out, or use one id for several calls. `make_id` makes an id from the client's id and
    a number. The same history always gets the same ids, because providers cache prompts by their exact text.
    The number starts at `first_number` or, if that is None, at the number of ids in use. The functions in
    `matches` are tried one after the other. A result belongs to the first call that a function accepts.
    """

    def __init__(
        self,
        make_id: Callable[[str, int], str],
        matches: Sequence[Match],
        *,
        first_number: int | None = None,
    ) -> None:
        self.make_id, self.matches, self.first_number = make_id, matches, first_number
        self.used_ids: set[str] = set()
        self.unanswered: list[LinkedCall] = []

    def start_turn(self) -> None:
        """Forget the calls of earlier turns, in formats in which results belong only to the last turn."""
        self.unanswered.clear()

    def unique_id(self, given_id: str) -> str:
        call_id = given_id
        number = len(self.used_ids) if self.first_number is None else self.first_number
        while not call_id or call_id in self.used_ids:
            call_id, number = self.make_id(given_id, number), number + 1
        self.used_ids.add(call_id)
        return call_id

    def add_call(self, call: ToolCall) -> ToolCall:
        """Return the call with a unique id, and store that it has no result yet."""
        linked = LinkedCall(call.id, replace(call, id=self.unique_id(call.id)))
        self.unanswered.append(linked)
        return linked.call

    def match_result(self, call_id: str, name: str | None = None) -> ToolCall | None:
        """Return the call that a result belongs to, or None. The call then has a result."""
        for match in self.matches:
            for linked in self.unanswered:
                if match(linked, call_id, name):
                    self.unanswered.remove(linked)
                    return linked.call
        return None


# Custom tools -------------------------------------------------------------------------------------
#
# A custom tool takes free text. A provider that supports only functions gets it as a function whose only
# parameter is `input`.

FREE_TEXT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
}


def as_function_tool(tool: Tool) -> Tool:
    """Return a custom tool as a function with the parameter `input`, and any other tool unchanged."""
    return replace(tool, custom=False, schema=FREE_TEXT_SCHEMA, strict=None) if tool.custom else tool


def as_function_call(call: ToolCall) -> ToolCall:
    """Return a call of a custom tool as a call of the function that replaces the tool."""
    return (
        replace(call, custom=False, arguments=encode({"input": call.arguments}).decode())
        if call.custom
        else call
    )


def unwrap_free_text(arguments: str, *, any_key: bool = False) -> str:
    """Return the free text in a function's arguments, or the arguments if they contain no free text.

    If `any_key` is true, return the text of the only field of an object, whatever the name of the field.
    """
    try:
        fields = msgspec.json.decode(arguments)
    except DECODE_ERRORS:
        return arguments
    match fields:
        case {"input": str(text)} if not any_key:
            return text
        case dict() if any_key and len(fields) == 1 and isinstance(text := next(iter(fields.values())), str):
            return text
        case _:
            return arguments
