"""The conversation of a request, parsed and rendered.

The API requires an order: the first turn is the user's, the roles alternate, and the turn after tool calls
contains one result for each call.
"""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from proxy.formats.anthropic.capabilities import accepts_thinking
from proxy.formats.anthropic.content import (
    must_omit,
    parse_parts,
    render_call_id,
    render_part,
)
from proxy.formats.anthropic.wire import FORMAT, WireMessage
from proxy.formats.neutral import Message, Opaque, Part, Text, Thinking, ToolCall, ToolResult
from proxy.formats.tool_calls import LinkedCall, ToolCallLinker, has_id, has_name, has_same_id

Role = Literal["user", "assistant", "system"]
FIRST_USER_TEXT = "."
"""The text of a user turn that is added if a conversation begins with the assistant.

The API requires a first user turn, and rejects empty text.
"""
MISSING_RESULT_CONTENT = (Text(text="No result was given."),)


class Turn(msgspec.Struct):
    role: Role
    parts: list[Part]


def parse_messages(wire: list[WireMessage]) -> tuple[Message, ...]:
    linker = HistoryLinker()
    return tuple(
        Message(
            role=message.role,
            parts=tuple(map(linker.link, parse_parts(message.content))),
        )
        for message in wire
    )


class HistoryLinker(ToolCallLinker):
    """Gives tool calls unique ids, and tool results the id and the tool name of their call.

    Results in this format do not name the tool. If a call already has a result, a second result with its id
    belongs to the same call.
    """

    def __init__(self) -> None:
        super().__init__(numbered_call_id, (has_same_id,))
        self.calls_by_given_id: dict[str, ToolCall] = {}

    def link(self, part: Part) -> Part:
        match part:
            case ToolCall():
                call = self.add_call(part)
                self.calls_by_given_id.setdefault(part.id, call)
                return call
            case ToolResult():
                answered = self.match_result(part.call_id) or self.calls_by_given_id.get(part.call_id)
                return replace(part, call_id=answered.id, name=answered.name) if answered else part
            case _:
                return part


def numbered_call_id(call_id: str, number: int) -> str:
    return f"{call_id or 'call'}_{number}"


def render_messages(
    messages: tuple[Message, ...], model: str, *, supports_system_messages: bool
) -> tuple[list[dict[str, Any]], list[Text]]:
    """Render the conversation. Return the system texts that must move to the system prompt.

    Raises UnsupportedFeature.
    """
    supported = [
        Turn(message.role, parts) for message in messages if (parts := supported_parts(message, model))
    ]
    kept, moved = place_system_messages(supported, supports_system_messages=supports_system_messages)
    turns = order_tool_results(merge_turns(link_tool_results(kept)))
    rendered = [{"role": turn.role, "content": [render_part(part) for part in turn.parts]} for turn in turns]
    if not rendered or rendered[0]["role"] != "user":
        rendered.insert(0, {"role": "user", "content": [{"type": "text", "text": FIRST_USER_TEXT}]})
    return without_trailing_space(rendered), moved


def supported_parts(message: Message, model: str) -> list[Part]:
    """Return the parts of a message that the API and the model accept."""
    return [part for part in message.parts if is_supported(part, model)]


def is_supported(part: Part, model: str) -> bool:
    if isinstance(part, Thinking):
        return part.origin == FORMAT and accepts_thinking(part, model)
    return not must_omit(part)


def place_system_messages(
    turns: list[Turn], *, supports_system_messages: bool
) -> tuple[list[Turn], list[Text]]:
    """Keep system messages that the model accepts in place, and return the texts of the others.

    Newer models accept a system message directly after a user message. In all other cases, its text moves to
    the system prompt.
    """
    kept: list[Turn] = []
    moved: list[Text] = []
    for turn, following in zip(turns, [*turns[1:], None], strict=False):
        if turn.role != "system" or can_stay(
            turn, kept, following, supports_system_messages=supports_system_messages
        ):
            kept.append(turn)
        else:
            moved += [part for part in turn.parts if isinstance(part, Text)]
    return kept, moved


def can_stay(
    turn: Turn, before: list[Turn], following: Turn | None, *, supports_system_messages: bool
) -> bool:
    if any(isinstance(part, Opaque) for part in turn.parts):
        return True
    after_user = bool(before) and before[-1].role == "user"
    return supports_system_messages and after_user and (following is None or following.role == "assistant")


class ResultLinker(ToolCallLinker):
    """Links tool results to the calls of a rendered conversation.

    A result belongs to the call with its id. If no call has this id, it belongs to the first call of its tool
    without a result, or else to the first call without a result.
    """

    def __init__(self) -> None:
        super().__init__(
            repeated_call_id, (has_id, self.has_name_if_unknown, self.is_next_if_unknown), first_number=2
        )
        self.ids_by_given_id: dict[str, str] = {}

    def add_call(self, call: ToolCall) -> ToolCall:
        valid_id = render_call_id(call.id or f"call_{len(self.used_ids)}")
        linked = super().add_call(replace(call, id=valid_id))
        self.unanswered[-1].given_id = call.id
        self.ids_by_given_id[call.id] = linked.id
        return linked

    def is_unknown(self, call_id: str) -> bool:
        return not call_id or call_id not in self.ids_by_given_id

    def has_name_if_unknown(self, linked: LinkedCall, call_id: str, name: str | None) -> bool:
        return self.is_unknown(call_id) and has_name(linked, call_id, name)

    def is_next_if_unknown(self, _linked: LinkedCall, call_id: str, _name: str | None) -> bool:
        return self.is_unknown(call_id)

    def result_id(self, result: ToolResult) -> str | None:
        """Return the id of the call that a result belongs to; None if no call matches.

        A second result for the same call gets the id of that call too.
        """
        call = self.match_result(result.call_id, result.name)
        if call is not None:
            return call.id
        return None if self.is_unknown(result.call_id) else self.ids_by_given_id[result.call_id]


def repeated_call_id(call_id: str, number: int) -> str:
    return render_call_id(f"{call_id}_{number}")


def link_tool_results(turns: list[Turn]) -> list[Turn]:
    """Give each result the id of its call. A result without a call becomes plain content."""
    linker = ResultLinker()
    return [
        Turn(turn.role, [other for part in turn.parts for other in link_part(part, turn.role, linker)])
        for turn in turns
    ]


def link_part(part: Part, role: Role, linker: ResultLinker) -> Iterator[Part]:
    match part:
        case ToolCall() if role == "assistant":
            yield linker.add_call(part)
        case ToolResult():
            call_id = linker.result_id(part)
            if call_id is None:
                yield from (inner for inner in part.content if not must_omit(inner))
            else:
                yield replace(part, call_id=call_id)
        case ToolCall():
            yield Text(text=f"{part.name}({part.arguments})")
        case _:
            yield part


def merge_turns(turns: list[Turn]) -> list[Turn]:
    merged: list[Turn] = []
    for turn in turns:
        if merged and merged[-1].role == turn.role:
            merged[-1].parts += turn.parts
        elif turn.parts:
            merged.append(turn)
    return merged


def order_tool_results(turns: list[Turn]) -> list[Turn]:
    """Move every result to the start of the turn after its call."""
    results: dict[str, ToolResult] = {}
    for part in (part for turn in turns for part in turn.parts if isinstance(part, ToolResult)):
        earlier = results.get(part.call_id)
        results[part.call_id] = replace(earlier, content=earlier.content + part.content) if earlier else part
    for turn in turns:
        turn.parts = [part for part in turn.parts if not isinstance(part, ToolResult)]
    for index, turn in enumerate(turns):
        calls = [part.id for part in turn.parts if isinstance(part, ToolCall)]
        following = next((later for later in turns[index + 1 :] if later.role != "system"), None)
        if calls and following is not None and following.role == "user":
            following.parts[:0] = [results.get(call) or missing_result(call) for call in calls]
    return merge_turns(turns)


def missing_result(call_id: str) -> ToolResult:
    return ToolResult(call_id=call_id, content=MISSING_RESULT_CONTENT, is_error=True)


def without_trailing_space(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Remove white space from the end of a final assistant message.

    The API rejects a prefill that ends in white space.
    """
    last = messages[-1]["content"][-1] if messages[-1]["content"] else {}
    if messages[-1]["role"] == "assistant" and last.get("type") == "text":
        last["text"] = last["text"].rstrip()
    return messages
