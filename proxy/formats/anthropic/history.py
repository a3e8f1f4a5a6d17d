"""A conversation as this API takes it: it begins with the user, roles alternate, and every call is answered in the turn after it."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from proxy.formats.anthropic.content import ORIGIN, render_part, says_nothing, tool_id
from proxy.formats.neutral import Message, Opaque, Part, Text, ToolCall, ToolResult

Role = Literal["user", "assistant", "system"]
OPENING = "."
"""What the user says where a conversation begins with the assistant: the API refuses that, and empty text as well."""
NO_RESULT = (Text(text="No result was given."),)


class Turn(msgspec.Struct):
    role: Role
    parts: list[Part]


def render_messages(messages: tuple[Message, ...], *, system_turns: bool) -> tuple[list[dict[str, Any]], list[Text]]:
    """The conversation, and instructions in its middle that have to go to its head. Raises Inexpressible."""
    spoken = [Turn(message.role, parts) for message in messages if (parts := kept(message))]
    placed, moved = place_instructions(spoken, system_turns=system_turns)
    turns = answered(merged(linked(placed)))
    rendered = [{"role": turn.role, "content": [render_part(part) for part in turn.parts]} for turn in turns]
    if not rendered or rendered[0]["role"] != "user":
        rendered.insert(0, {"role": "user", "content": [{"type": "text", "text": OPENING}]})
    return without_trailing_space(rendered), moved


def kept(message: Message) -> list[Part]:
    """What the API takes. Records of another provider's server-side tools are left out: what the assistant made of them stands beside."""
    return [part for part in message.parts if not (says_nothing(part) or (message.role == "assistant" and is_foreign_record(part)))]


def is_foreign_record(part: Part) -> bool:
    return isinstance(part, Opaque) and part.origin != ORIGIN


def place_instructions(turns: list[Turn], *, system_turns: bool) -> tuple[list[Turn], list[Text]]:
    """Newer models take a system message right after a user's; anywhere else its text joins the system prompt."""
    placed: list[Turn] = []
    moved: list[Text] = []
    for turn, following in zip(turns, [*turns[1:], None], strict=False):
        if turn.role != "system" or stays(turn, placed, following, system_turns=system_turns):
            placed.append(turn)
        else:
            moved += [part for part in turn.parts if isinstance(part, Text)]
    return placed, moved


def stays(turn: Turn, before: list[Turn], following: Turn | None, *, system_turns: bool) -> bool:
    if any(isinstance(part, Opaque) for part in turn.parts):
        return True
    after_user = bool(before) and before[-1].role == "user"
    return system_turns and after_user and (following is None or following.role == "assistant")


class Links:
    """Gives every call an id of its own, and finds the call that a result answers: by id, else by name, else the first one open."""

    def __init__(self) -> None:
        self.used: set[str] = set()
        self.by_given: dict[str, list[str]] = defaultdict(list)
        self.open: dict[str, str] = {}

    def call(self, part: ToolCall) -> ToolCall:
        own = base = tool_id(part.id or f"call_{len(self.used)}")
        repeat = 1
        while own in self.used:
            repeat += 1
            own = tool_id(f"{base}_{repeat}")
        self.used.add(own)
        self.by_given[part.id].append(own)
        self.open[own] = part.name
        return msgspec.structs.replace(part, id=own)

    def result(self, part: ToolResult) -> str | None:
        """The id of the answered call; None where there is none."""
        known = self.by_given.get(part.call_id, []) if part.call_id else []
        waiting = [own for own in known if own in self.open]
        if not known:
            waiting = [own for own, name in self.open.items() if name == part.name] or list(self.open)
        if waiting:
            self.open.pop(waiting[0])
            return waiting[0]
        return known[-1] if known else None


def linked(turns: list[Turn]) -> list[Turn]:
    """The same turns; a result that answers no call becomes what it says."""
    links = Links()
    return [Turn(turn.role, [other for part in turn.parts for other in relinked(part, turn.role, links)]) for turn in turns]


def relinked(part: Part, role: Role, links: Links) -> Iterator[Part]:
    match part:
        case ToolCall() if role == "assistant":
            yield links.call(part)
        case ToolResult():
            own = links.result(part)
            if own is None:
                yield from (inner for inner in part.content if not says_nothing(inner))
            else:
                yield msgspec.structs.replace(part, call_id=own)
        case ToolCall():
            yield Text(text=f"{part.name}({part.arguments})")
        case _:
            yield part


def merged(turns: list[Turn]) -> list[Turn]:
    joined: list[Turn] = []
    for turn in turns:
        if joined and joined[-1].role == turn.role:
            joined[-1].parts += turn.parts
        elif turn.parts:
            joined.append(turn)
    return joined


def answered(turns: list[Turn]) -> list[Turn]:
    """Every result stands first in the turn after its call, wherever the client had put it."""
    results: dict[str, ToolResult] = {}
    for part in (part for turn in turns for part in turn.parts if isinstance(part, ToolResult)):
        earlier = results.get(part.call_id)
        results[part.call_id] = msgspec.structs.replace(earlier, content=earlier.content + part.content) if earlier else part
    for turn in turns:
        turn.parts = [part for part in turn.parts if not isinstance(part, ToolResult)]
    for index, turn in enumerate(turns):
        calls = [part.id for part in turn.parts if isinstance(part, ToolCall)]
        following = next((later for later in turns[index + 1 :] if later.role != "system"), None)
        if calls and following is not None and following.role == "user":
            following.parts[:0] = [results.get(call) or unanswered(call) for call in calls]
    return merged(turns)


def unanswered(call: str) -> ToolResult:
    return ToolResult(call_id=call, content=NO_RESULT, is_error=True)


def without_trailing_space(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The API refuses an answer to be continued that ends in white space."""
    last = messages[-1]["content"][-1] if messages[-1]["content"] else {}
    if messages[-1]["role"] == "assistant" and last.get("type") == "text":
        last["text"] = last["text"].rstrip()
    return messages
