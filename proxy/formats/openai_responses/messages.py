"""The conversation of a request: its items, parsed into messages and rendered from them."""

from collections.abc import Iterable
from typing import Any, Literal

from msgspec.structs import replace

from proxy.formats.json_body import as_str
from proxy.formats.neutral import (
    InvalidRequest,
    Message,
    Opaque,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    UnsupportedFeature,
)
from proxy.formats.openai_responses.capabilities import VALID_CALL_ID
from proxy.formats.openai_responses.content import (
    parse_content,
    parse_tool_call,
    render_part,
    render_tool_call,
)
from proxy.formats.openai_responses.opaque_parts import parse_opaque_part
from proxy.formats.openai_responses.reasoning import (
    parse_reasoning_item,
    render_reasoning_item,
)
from proxy.formats.openai_responses.summaries import (
    COMPACTION_TYPES,
    TRIGGER,
    parse_summary,
    parse_trigger,
)
from proxy.formats.openai_responses.typed_calls import (
    OUTPUT_TYPES,
    TOOL_OF_CALL,
    call_arguments,
    parse_typed_output,
    runs_at_client,
)
from proxy.formats.openai_responses.wire import FORMAT
from proxy.formats.seals import attach_call_signatures
from proxy.formats.tool_calls import (
    ToolCallLinker,
    call_id_digest,
    has_id,
    has_name_without_id,
    is_next_without_id,
)
from proxy.formats.tools.names import TYPED, FlatNames

SETTING_ITEMS = ("additional_tools", "configuration_update")
"""Types of items without content. They declare tools, or change settings of the request."""
USER_ITEM_TYPES = ("agent_message", TRIGGER, "mcp_approval_response", *OUTPUT_TYPES)
"""Types of items that come from the client and not from the model, except messages."""


# Reading ------------------------------------------------------------------------------------------


def parse_messages(
    instructions: str | list[dict[str, Any]] | None,
    items: str | list[dict[str, Any] | str] | None,
    names: FlatNames,
) -> tuple[tuple[Text, ...], tuple[Message, ...]]:
    """Return the instructions and the messages of a request.

    Raises InvalidRequest.
    """
    builder = MessageBuilder(instructions, names)
    for index, item in enumerate([items] if isinstance(items, str) else items or []):
        builder.add_item(
            {"role": "user", "content": item} if isinstance(item, str) else item, f"input[{index}]"
        )
    return tuple(builder.system), builder.build()


def make_call_id(given_id: str, number: int) -> str:
    """Return an id that is always the same for the same history."""
    return f"{given_id or 'call'}_{number}"


class MessageBuilder:
    """Collects items into messages: one for each turn of the model, and one for the results after it."""

    def __init__(self, instructions: str | list[dict[str, Any]] | None, names: FlatNames) -> None:
        self.names = names
        self.system: list[Text] = (
            [Text(text=instructions)] if isinstance(instructions, str) and instructions else []
        )
        self.turns: list[tuple[Literal["user", "assistant", "system"], list[Part]]] = []
        self.linker = ToolCallLinker(
            make_call_id, (has_id, has_name_without_id, is_next_without_id), first_number=1
        )
        for index, item in enumerate(instructions if isinstance(instructions, list) else []):
            self.add_item(item, f"instructions[{index}]")

    def build(self) -> tuple[Message, ...]:
        """Return the messages. The signature of a call is taken from the empty reasoning item before it."""
        return tuple(
            Message(role=role, parts=tuple(attach_call_signatures(parts))) for role, parts in self.turns
        )

    def add_item(self, item: dict[str, Any], where: str) -> None:
        """Add one item; `where` names it in errors. Raises InvalidRequest."""
        kind = item.get("type") or (
            "message" if "role" in item else "item_reference" if "id" in item else None
        )
        match kind:
            case "message":
                self.add_message(item, where)
            case "function_call" | "custom_tool_call":
                self.add_call(item, where)
            case "function_call_output" | "custom_tool_call_output":
                self.add_result(item, custom=kind.startswith("custom"))
            case "reasoning":
                self.add_assistant(*parse_reasoning_item(item))
            case str() if kind in SETTING_ITEMS:
                return
            case str() if kind == TRIGGER:
                self.turns.append(("user", [parse_trigger(item)]))
            case str() if kind in COMPACTION_TYPES and (summary := parse_summary(item)) is not None:
                self.turns.append(("user", [Text(text=summary)]))
            case str() if kind in TOOL_OF_CALL and runs_at_client(item):
                name = self.names.find(TYPED, TOOL_OF_CALL[kind])
                self.add_tool_call(item, name, call_arguments(item))
            case str() if kind in OUTPUT_TYPES and runs_at_client(item):
                self.add_typed_output(item, kind)
            case str() if kind in USER_ITEM_TYPES:
                self.turns.append(("user", [parse_opaque_part(item, kind)]))
            case str():
                self.add_assistant(parse_opaque_part(item, kind))
            case _:
                raise InvalidRequest(f"{where} has no type.", where)

    def add_message(self, item: dict[str, Any], where: str) -> None:
        content = item.get("content")
        if content is not None and not isinstance(content, str | list):
            raise InvalidRequest(f"{where}.content must be a string or a list.", f"{where}.content")
        parts = parse_content(content)
        match item.get("role"):
            case "assistant":
                self.add_assistant(*parts)
            case "system" | "developer" if not self.turns and all(isinstance(part, Text) for part in parts):
                self.system += [part for part in parts if isinstance(part, Text)]
            case "system" | "developer":
                self.turns.append(("system", list(parts)))
            case "user":
                self.turns.append(("user", list(parts)))
            case role:
                raise InvalidRequest(
                    f"{where}.role is {role!r}; it must be user, assistant, system or developer.",
                    f"{where}.role",
                )

    def add_assistant(self, *parts: Part) -> None:
        if not self.turns or self.turns[-1][0] != "assistant":
            self.turns.append(("assistant", []))
        self.turns[-1][1].extend(parts)

    def add_call(self, item: dict[str, Any], where: str) -> None:
        call = parse_tool_call(item)
        if not call.name:
            raise InvalidRequest(f"{where}.name must be a string.", f"{where}.name")
        name = self.names.find(as_str(item.get("namespace")), call.name)
        self.add_assistant(self.linker.add_call(replace(call, id=as_str(item.get("call_id")), name=name)))

    def add_tool_call(self, item: dict[str, Any], name: str, arguments: str) -> None:
        """Add a call of a typed tool."""
        call_id = as_str(item.get("call_id")) or as_str(item.get("id"))
        self.add_assistant(self.linker.add_call(ToolCall(id=call_id, name=name, arguments=arguments)))

    def add_result(self, item: dict[str, Any], *, custom: bool) -> None:
        given_id, given_name = as_str(item.get("call_id")), as_str(item.get("name"))
        name = self.names.find(as_str(item.get("namespace")), given_name) if given_name else None
        call = self.linker.match_result(given_id, name)
        content = tuple(
            part
            for part in parse_content(item.get("output"))
            if not isinstance(part, ToolCall | ToolResult | Thinking | Refusal)
        )
        self.add_tool_result(
            ToolResult(
                call_id=call.id if call else given_id or "call",
                content=content,
                name=call.name if call else None,
                custom=custom,
            )
        )

    def add_typed_output(self, item: dict[str, Any], kind: str) -> None:
        """Add the result of a call of a typed tool.

        A result without a call becomes a text of the user, for example the result of a shell that OpenAI has
        run.
        """
        content, is_error = parse_typed_output(item)
        call = self.linker.match_result(as_str(item.get("call_id")) or as_str(item.get("id")))
        if call is None:
            text = "".join(part.text for part in content if isinstance(part, Text))
            self.turns.append(("user", [Opaque(origin=FORMAT, kind=kind, value=item, text=text)]))
            return
        self.add_tool_result(ToolResult(call_id=call.id, content=content, name=call.name, is_error=is_error))

    def add_tool_result(self, result: ToolResult) -> None:
        """Add a result to the user turn that holds the results of the last turn of the model."""
        if (
            self.turns
            and self.turns[-1][0] == "user"
            and all(isinstance(part, ToolResult) for part in self.turns[-1][1])
        ):
            self.turns[-1][1].append(result)
        else:
            self.turns.append(("user", [result]))


# Writing ------------------------------------------------------------------------------------------


def render_messages(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Render messages as the items of a request's input. Raises UnsupportedFeature."""
    return [item for message in messages for item in render_message(message)]


def render_message(message: Message) -> list[dict[str, Any]]:
    """Render one message. Adjacent texts and media become one item, and each other part becomes one item."""
    items: list[dict[str, Any]] = []
    for part in message.parts:
        if message.role == "assistant":
            found = render_assistant_part(part)
        elif isinstance(part, ToolResult):
            found = render_tool_result(part)
        elif isinstance(part, Opaque) and part.kind in USER_ITEM_TYPES:
            found = dict(part.value)
        else:
            found = {"type": "message", "role": message.role, "content": [render_part(part)]}
        if found and items and found.get("type") == items[-1].get("type") == "message":
            items[-1]["content"] += found["content"]
        elif found:
            items.append(found)
    return items


def render_assistant_part(part: Part) -> dict[str, Any] | None:
    """Render a part of the model's turn as an item; None for thinking of another vendor."""
    match part:
        case Text():
            return {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": part.text}],
            }
        case Refusal():
            return {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "refusal", "refusal": part.text}],
            }
        case ToolCall():
            return render_tool_call(replace(part, id=render_call_id(part.id)), part.custom)
        case Thinking():
            own = part.origin == FORMAT and part.signature
            return render_reasoning_item(part.text, part.signature) if own else None
        case Opaque(value=dict() as value):
            return value
        case _:
            raise UnsupportedFeature(
                "The Responses API does not accept media in messages of the model.", "messages"
            )


def render_tool_result(result: ToolResult) -> dict[str, Any]:
    """Render a tool result. The format has no field for a failed call, so only the text can say it."""
    output: str | list[dict[str, Any]]
    if all(isinstance(part, Text) for part in result.content):
        output = "".join(part.text for part in result.content if isinstance(part, Text))
    else:
        output = [render_part(part) for part in result.content]
    kind = "custom_tool_call_output" if result.custom else "function_call_output"
    return {"type": kind, "call_id": render_call_id(result.call_id), "output": output}


def render_call_id(call_id: str) -> str:
    """Return an id that OpenAI accepts: the same id, or a hash of it if it is too long."""
    return call_id if VALID_CALL_ID.fullmatch(call_id) else f"call_{call_id_digest(call_id)[:24]}"
