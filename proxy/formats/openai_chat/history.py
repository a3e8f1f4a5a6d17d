"""The messages of a request: what each role may hold, and which result belongs to which call."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Literal

import msgspec

from proxy.formats.custom_tools import call_as_function
from proxy.formats.neutral import File, Image, Inexpressible, Message, Opaque, Part, Refusal, Text, Thinking, ToolCall, ToolResult
from proxy.formats.openai_chat.message import cache_of, call_id, call_of, content_of, images_of, text_of, wire_call, wire_part
from proxy.formats.openai_chat.signatures import OWN, thoughts_of, wire_thoughts

INSTRUCTIONS = ("system", "developer")
SOUND = "audio/*"
"""Of an earlier answer in sound, which OpenAI keeps and knows by its id (platform.openai.com/docs/guides/audio)."""
Media = Image | File | Opaque


class WireMessage(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[str | dict[str, Any]] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    function_call: dict[str, Any] | None = None
    refusal: str | None = None
    audio: dict[str, Any] | None = None
    cache_control: dict[str, Any] | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    reasoning_signature: Any = None
    images: Any = None


# Reading ------------------------------------------------------------------------------------------------------------------


def read_conversation(wire: list[WireMessage]) -> tuple[tuple[Text, ...], tuple[Message, ...]]:
    """The instructions that come first, and the rest in its order."""
    first = next((index for index, message in enumerate(wire) if message.role not in INSTRUCTIONS), len(wire))
    system = tuple(text for message in wire[:first] for text in instructions(message))
    return system, tuple(read_messages(wire[first:]))


def read_messages(wire: list[WireMessage]) -> Iterator[Message]:
    calls = Calls()
    for answers, run in groupby(wire, key=lambda message: message.role in ("tool", "function")):
        if answers:
            yield Message(role="user", parts=tuple(calls.answer(message) for message in run))
            continue
        for message in run:
            yield read_message(message, calls)


def read_message(wire: WireMessage, calls: "Calls") -> Message:
    if wire.role in INSTRUCTIONS:
        return Message(role="system", parts=tuple(instructions(wire)))
    if wire.role == "assistant":
        return Message(role="assistant", parts=tuple(said(wire, calls)))
    return Message(role="user", parts=tuple(content_of(wire.content, cache_of(wire.cache_control))))


def instructions(wire: WireMessage) -> list[Text]:
    parts = content_of(wire.content, cache_of(wire.cache_control))
    return [part for part in parts if isinstance(part, Text) and part.text]


def said(wire: WireMessage, calls: "Calls") -> Iterator[Part]:
    """What the model said in an earlier turn: its thoughts, its words, its calls."""
    yield from thoughts_of(msgspec.structs.asdict(wire))
    yield from content_of(wire.content, cache_of(wire.cache_control))
    if wire.refusal:
        yield Refusal(text=wire.refusal)
    yield from images_of({"images": wire.images})
    if wire.audio:
        yield File(mime=SOUND, file_id=text_of(wire.audio.get("id")), origin=OWN)
    calls.forget()
    for call in wire.tool_calls or ():
        yield calls.make(call)
    if wire.function_call:
        yield calls.make({"function": wire.function_call})


def is_own_sound(part: Image | File) -> bool:
    return isinstance(part, File) and part.mime == SOUND and part.origin == OWN


class Calls:
    """The calls of the last turn that still wait for a result. Ids that clients leave out or repeat are made unique, so that
    formats that insist on it can be served; results without a usable id answer the calls in their order."""

    def __init__(self) -> None:
        self.open: list[tuple[str, ToolCall]] = []
        self.seen: set[str] = set()

    def forget(self) -> None:
        self.open.clear()

    def make(self, wire: dict[str, Any]) -> ToolCall:
        given = text_of(wire.get("id"))
        call = call_of(wire, self.unique(given))
        self.open.append((given, call))
        return call

    def unique(self, given: str) -> str:
        """The id itself, or one that is the same each time the same history is sent, for the sake of prompt caches."""
        made, number = given, len(self.seen)
        while not made or made in self.seen:
            made, number = f"{given[:40] or 'call'}_{number}", number + 1
        self.seen.add(made)
        return made

    def answer(self, wire: WireMessage) -> ToolResult:
        call = self.take(wire)
        parts = content_of(wire.content, cache_of(wire.cache_control))
        content = tuple(part for part in parts if isinstance(part, Text | Image | File | Opaque))
        given = wire.tool_call_id or wire.name or self.unique("")
        name = wire.name or (call.name if call else None)
        return ToolResult(call_id=call.id if call else given, content=content, name=name, custom=bool(call and call.custom))

    def take(self, wire: WireMessage) -> ToolCall | None:
        for index, (given, call) in enumerate(self.open):
            if wire.tool_call_id == given if wire.tool_call_id else wire.name in (None, call.name):
                del self.open[index]
                return call
        return None


# Writing ------------------------------------------------------------------------------------------------------------------


class Writer:
    """Writes messages for one target. `custom`: whether it knows calls with free text. `cached`: whether it reads marks for its
    prompt cache. `call_id_length`: of ids of calls, where it insists on one."""

    def __init__(self, *, custom: bool, cached: bool, call_id_length: int = 0) -> None:
        self.custom, self.cached, self.call_id_length = custom, cached, call_id_length

    def write(self, system: Iterable[Text], messages: Iterable[Message]) -> list[dict[str, Any]]:
        """Raises Inexpressible."""
        texts = [text for text in system if text.text]
        wire = [{"role": "system", "content": self.text_content(texts, "\n\n")}] if texts else []
        for assistant, run in groupby(messages, key=lambda message: message.role == "assistant"):
            turn = [message for message in run if message.parts]
            wire += self.answers(turn) if assistant else self.asked(turn)
        return wire

    def text_content(self, texts: list[Text], separator: str) -> str | list[dict[str, Any]]:
        if self.cached and any(text.cache for text in texts):
            return [wire_part(text, cached=True) for text in texts if text.text]
        return separator.join(text.text for text in texts)

    def asked(self, turn: list[Message]) -> Iterator[dict[str, Any]]:
        """All that stands between two answers of the model. Results come first, for the calls before must be answered at once;
        a `tool` message holds text alone, so that pictures in results follow in a message of the user."""
        pictures: list[Media] = []
        for part in (part for message in turn for part in message.parts):
            if isinstance(part, ToolResult):
                yield self.result(part)
                pictures += [item for item in part.content if isinstance(item, Media)]
        for message in turn:
            rest = [part for part in message.parts if not isinstance(part, ToolResult)]
            if message.role == "system":
                yield {"role": "system", "content": self.text_content([part for part in rest if isinstance(part, Text)], "\n\n")}
            elif content := self.content([*pictures, *rest]):
                yield {"role": "user", "content": content}
                pictures = []
        if pictures:
            yield {"role": "user", "content": self.content(pictures)}

    def result(self, result: ToolResult) -> dict[str, Any]:
        texts = [item for item in result.content if isinstance(item, Text)]
        content = self.text_content(texts, "\n")
        if isinstance(content, list) and result.cache and self.cached:
            content = [*content[:-1], {**content[-1], "cache_control": {"type": "ephemeral"}}]
        return {"role": "tool", "tool_call_id": call_id(result.call_id, self.call_id_length), "content": content}

    def content(self, parts: Iterable[Part]) -> str | list[dict[str, Any]]:
        """A user's content: one text stands by itself, anything else is a list of parts."""
        wire: list[dict[str, Any]] = []
        for part in parts:
            match part:
                case Text() if not part.text:
                    continue
                case Text() | Image() | File() | Opaque():
                    wire.append(wire_part(part, cached=self.cached))
                case _:
                    raise Inexpressible("Only the model's own messages can hold thoughts, refusals and calls of tools.", "messages")
        match wire:
            case [{"type": "text", "text": str(text), **rest}] if not rest:
                return text
            case _:
                return wire

    def answers(self, turn: list[Message]) -> Iterator[dict[str, Any]]:
        for message in turn:
            wire = self.answer(message)
            if wire.keys() > {"role"}:
                yield wire

    def answer(self, message: Message) -> dict[str, Any]:
        """An earlier answer of the model: words and calls in one message. Thoughts are given back to their origin alone."""
        for part in message.parts:
            if isinstance(part, Image | File) and not is_own_sound(part):
                raise Inexpressible("In this model's API an answer of the model holds no pictures or files.", "messages")
        own = [part for part in message.parts if isinstance(part, Thinking) and part.origin == OWN]
        calls = [part if self.custom else call_as_function(part) for part in message.parts if isinstance(part, ToolCall)]
        wire: dict[str, Any] = {"role": "assistant"}
        if content := self.words(message):
            wire["content"] = content
        wire |= wire_thoughts(own)
        for part in message.parts:
            if isinstance(part, File) and is_own_sound(part):
                wire["audio"] = {"id": part.file_id}
        if calls:
            made = [{**wire_call(call), "id": call_id(call.id, self.call_id_length)} for call in calls]
            wire |= {"content": content or None, "tool_calls": made}
        elif not content and wire.keys() > {"role"}:
            wire["content"] = ""
        return wire

    def words(self, message: Message) -> str | list[dict[str, Any]]:
        texts = [part for part in message.parts if isinstance(part, Text)]
        refusals = [{"type": "refusal", "refusal": part.text} for part in message.parts if isinstance(part, Refusal) and part.text]
        if refusals:
            return [*(wire_part(text, cached=self.cached) for text in texts if text.text), *refusals]
        return self.text_content(texts, "")
