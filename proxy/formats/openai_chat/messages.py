"""Messages of a request: the content that each role may have, and the links of results to calls."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.formats.json_body import as_str
from proxy.formats.neutral import (
    File,
    Image,
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
from proxy.formats.openai_chat.content import (
    parse_cache_control,
    parse_content,
    parse_images,
    parse_tool_call,
    render_call_id,
    render_part,
    render_tool_call,
)
from proxy.formats.openai_chat.reasoning import (
    GOOGLE,
    google_content,
    parse_message_thinking,
    render_message_thinking,
)
from proxy.formats.openai_chat.wire import FORMAT, WireMessage
from proxy.formats.tool_calls import ToolCallLinker, as_function_call, has_id, has_name_without_id

INSTRUCTION_ROLES = ("system", "developer")
STORED_AUDIO_TYPE = "audio/*"
"""Media type of an earlier audio response that OpenAI stores and finds by its id.

Source: platform.openai.com/docs/guides/audio.
"""
MediaPart = Image | File | Opaque


# Reading ------------------------------------------------------------------------------------------


def parse_messages(wire: list[WireMessage]) -> tuple[tuple[Text, ...], tuple[Message, ...]]:
    """Return the instructions at the beginning, and the other messages in their order."""
    first = next(
        (index for index, message in enumerate(wire) if message.role not in INSTRUCTION_ROLES), len(wire)
    )
    system = tuple(text for message in wire[:first] for text in parse_instructions(message))
    return system, tuple(parse_turns(wire[first:]))


def parse_turns(wire: list[WireMessage]) -> Iterator[Message]:
    linker = ToolCallLinker(make_call_id, (has_id, has_name_without_id))
    for are_results, run in groupby(wire, key=lambda message: message.role in ("tool", "function")):
        if are_results:
            yield Message(role="user", parts=tuple(parse_tool_result(message, linker) for message in run))
            continue
        for message in run:
            yield parse_message(message, linker)


def make_call_id(given_id: str, number: int) -> str:
    """Return an id for a call. Equal histories get equal ids.

    Long ids are shortened, so that the id with the number appended is not too long.
    """
    return f"{given_id[:40] or 'call'}_{number}"


def parse_message(wire: WireMessage, linker: ToolCallLinker) -> Message:
    if wire.role in INSTRUCTION_ROLES:
        return Message(role="system", parts=tuple(parse_instructions(wire)))
    if wire.role == "assistant":
        return Message(role="assistant", parts=tuple(parse_assistant_parts(wire, linker)))
    return Message(
        role="user", parts=tuple(parse_content(wire.content, parse_cache_control(wire.cache_control)))
    )


def parse_instructions(wire: WireMessage) -> list[Text]:
    parts = parse_content(wire.content, parse_cache_control(wire.cache_control))
    return [part for part in parts if isinstance(part, Text) and part.text]


def parse_assistant_parts(wire: WireMessage, linker: ToolCallLinker) -> Iterator[Part]:
    """Yield the parts of an earlier response: its thinking, its texts and its calls."""
    yield from parse_message_thinking(msgspec.structs.asdict(wire))
    yield from parse_content(wire.content, parse_cache_control(wire.cache_control))
    if wire.refusal:
        yield Refusal(text=wire.refusal)
    yield from parse_images({"images": wire.images})
    if wire.audio:
        yield File(media_type=STORED_AUDIO_TYPE, file_id=as_str(wire.audio.get("id")), origin=FORMAT)
    linker.start_turn()
    for call in wire.tool_calls or ():
        yield linker.add_call(parse_tool_call(call, as_str(call.get("id"))))
    if wire.function_call:
        yield linker.add_call(parse_tool_call({"function": wire.function_call}, ""))


def is_stored_audio(part: Image | File) -> bool:
    return isinstance(part, File) and part.media_type == STORED_AUDIO_TYPE and part.origin == FORMAT


def parse_tool_result(wire: WireMessage, linker: ToolCallLinker) -> ToolResult:
    """Return the result, linked to its call."""
    call = linker.match_result(wire.tool_call_id or "", wire.name)
    parts = parse_content(wire.content, parse_cache_control(wire.cache_control))
    content = tuple(part for part in parts if isinstance(part, Text | Image | File | Opaque))
    given_id = wire.tool_call_id or wire.name or linker.unique_id("")
    return ToolResult(
        call_id=call.id if call else given_id,
        content=content,
        name=wire.name or (call.name if call else None),
        custom=bool(call and call.custom),
    )


# Writing ------------------------------------------------------------------------------------------


def render_messages(
    system: Iterable[Text],
    messages: Iterable[Message],
    *,
    supports_custom_tools: bool,
    supports_cache_control: bool,
    keeps_call_signatures: bool = False,
    call_id_length: int = 0,
) -> list[dict[str, Any]]:
    """Return the messages of a request to one server. Raises UnsupportedFeature."""
    renderer = MessageRenderer(
        supports_custom_tools=supports_custom_tools,
        supports_cache_control=supports_cache_control,
        keeps_call_signatures=keeps_call_signatures,
        call_id_length=call_id_length,
    )
    return renderer.render(system, messages)


class MessageRenderer:
    """Renders messages for one server.

    `supports_custom_tools` is true if the server accepts calls with free text, `supports_cache_control` if it
    accepts prompt cache breakpoints, and `keeps_call_signatures` if its calls have Google's signatures.
    `call_id_length` is the exact length of call ids that it requires, or 0.
    """

    def __init__(
        self,
        *,
        supports_custom_tools: bool,
        supports_cache_control: bool,
        keeps_call_signatures: bool,
        call_id_length: int,
    ) -> None:
        self.supports_custom_tools, self.supports_cache_control = (
            supports_custom_tools,
            supports_cache_control,
        )
        self.keeps_call_signatures, self.call_id_length = keeps_call_signatures, call_id_length

    def render(self, system: Iterable[Text], messages: Iterable[Message]) -> list[dict[str, Any]]:
        """Return the messages. Raises UnsupportedFeature."""
        texts = [text for text in system if text.text]
        wire = [{"role": "system", "content": self.render_texts(texts, "\n\n")}] if texts else []
        for assistant, run in groupby(messages, key=lambda message: message.role == "assistant"):
            turn = [message for message in run if message.parts]
            wire += self.assistant_messages(turn) if assistant else self.user_messages(turn)
        return wire

    def render_texts(self, texts: list[Text], separator: str) -> str | list[dict[str, Any]]:
        if self.supports_cache_control and any(text.cache for text in texts):
            return [render_part(text, with_cache_control=True) for text in texts if text.text]
        return separator.join(text.text for text in texts)

    def user_messages(self, turn: list[Message]) -> Iterator[dict[str, Any]]:
        """Yield the messages between two responses of the model.

        Results come first, because they must directly follow their calls. A `tool` message contains only
        text, so images in results are sent in a user message after it.
        """
        images: list[MediaPart] = []
        for part in (part for message in turn for part in message.parts):
            if isinstance(part, ToolResult):
                yield self.render_tool_result(part)
                images += [item for item in part.content if isinstance(item, MediaPart)]
        for message in turn:
            rest = [part for part in message.parts if not isinstance(part, ToolResult)]
            if message.role == "system":
                yield {
                    "role": "system",
                    "content": self.render_texts([part for part in rest if isinstance(part, Text)], "\n\n"),
                }
            elif content := self.user_content([*images, *rest]):
                yield {"role": "user", "content": content}
                images = []
        if images:
            yield {"role": "user", "content": self.user_content(images)}

    def render_tool_result(self, result: ToolResult) -> dict[str, Any]:
        texts = [item for item in result.content if isinstance(item, Text)]
        content = self.render_texts(texts, "\n")
        if isinstance(content, list) and result.cache and self.supports_cache_control:
            content = [*content[:-1], {**content[-1], "cache_control": {"type": "ephemeral"}}]
        return {
            "role": "tool",
            "tool_call_id": render_call_id(result.call_id, self.call_id_length),
            "content": content,
        }

    def user_content(self, parts: Iterable[Part]) -> str | list[dict[str, Any]]:
        """Render a user's content: a single text as a string, anything else as a list of parts."""
        wire: list[dict[str, Any]] = []
        for part in parts:
            match part:
                case Text() if not part.text:
                    continue
                case Text() | Image() | File() | Opaque():
                    wire.append(render_part(part, with_cache_control=self.supports_cache_control))
                case _:
                    raise UnsupportedFeature(
                        "Only the model's own messages can hold thinking, refusals and tool calls.",
                        "messages",
                    )
        match wire:
            case [{"type": "text", "text": str(text), **rest}] if not rest:
                return text
            case _:
                return wire

    def assistant_messages(self, turn: list[Message]) -> Iterator[dict[str, Any]]:
        """Yield the model's turn as one message, because all its calls must precede their results."""
        wire = self.assistant_message([part for message in turn for part in message.parts])
        if wire.keys() > {"role"}:
            yield wire

    def assistant_message(self, parts: list[Part]) -> dict[str, Any]:
        """Render an earlier response as one message."""
        for part in parts:
            if isinstance(part, Image | File) and not is_stored_audio(part):
                raise UnsupportedFeature(
                    "This model's API does not support images or files in the model's own messages.",
                    "messages",
                )
        calls = [
            part if self.supports_custom_tools else as_function_call(part)
            for part in parts
            if isinstance(part, ToolCall)
        ]
        wire: dict[str, Any] = {"role": "assistant"}
        if content := self.assistant_content(parts):
            wire["content"] = content
        wire |= render_message_thinking(own_thinking(parts))
        for part in parts:
            if isinstance(part, File) and is_stored_audio(part):
                wire["audio"] = {"id": part.file_id}
        if calls:
            wire |= {"content": content or None, "tool_calls": [self.render_call(call) for call in calls]}
        elif not content and wire.keys() > {"role"}:
            wire["content"] = ""
        return wire

    def render_call(self, call: ToolCall) -> dict[str, Any]:
        wire = {**render_tool_call(call), "id": render_call_id(call.id, self.call_id_length)}
        if self.keeps_call_signatures and call.signature and call.origin == GOOGLE:
            wire["extra_content"] = google_content(call.signature)
        return wire

    def assistant_content(self, parts: list[Part]) -> str | list[dict[str, Any]]:
        texts = [part for part in parts if isinstance(part, Text)]
        refusals = [
            {"type": "refusal", "refusal": part.text}
            for part in parts
            if isinstance(part, Refusal) and part.text
        ]
        if refusals:
            return [
                *(
                    render_part(text, with_cache_control=self.supports_cache_control)
                    for text in texts
                    if text.text
                ),
                *refusals,
            ]
        return self.render_texts(texts, "")


def own_thinking(parts: list[Part]) -> list[Thinking]:
    """Return the thinking of this format, and the text of thinking whose origin is not known."""
    return [
        replace(part, origin=FORMAT)
        for part in parts
        if isinstance(part, Thinking) and part.origin in (None, FORMAT)
    ]
