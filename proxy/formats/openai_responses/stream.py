"""A provider's stream in this format as neutral events, and neutral events as a stream for a client.

The grammar: platform.openai.com/docs/api-reference/responses-streaming. The last event holds the whole answer as it ended.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, assert_never

import msgspec
from msgspec.structs import replace

from proxy.formats.body import mended
from proxy.formats.call_ids import fresh_call_id
from proxy.formats.neutral import (
    Citation,
    Event,
    Failed,
    Failure,
    File,
    Finished,
    FinishReason,
    Image,
    Opaque,
    Part,
    PartCited,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Refusal,
    Request,
    Started,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
    UsageSeen,
)
from proxy.formats.openai_responses.items import NAME, PARAGRAPH, objects, parse_call, parse_citations, parse_content, text_of
from proxy.formats.openai_responses.parts import Growing, PartLine
from proxy.formats.openai_responses.response import failure_of, finish_of, frame, other_items, output_parts, parse_error, usage_of
from proxy.formats.openai_responses.tools import custom_names
from proxy.formats.openai_responses.writer import OpenCall, OpenText, OpenThinking, Writer
from proxy.formats.sse import TOO_LONG, EventSplitter, EventTooLong, data_of

BROKE_OFF = Failure(kind="network", code="upstream_unreachable", message="The provider's answer broke off.", status=502)
CALLS = ("function_call", "custom_tool_call")


class WireEvent(msgspec.Struct):
    """Loose in its fields: what is not as it should be counts as absent."""

    type: str = ""
    delta: Any = None
    item: Any = None
    item_id: Any = None
    output_index: Any = None
    content_index: Any = None
    summary_index: Any = None
    logprobs: Any = None
    annotation: Any = None
    response: Any = None


decode_event = msgspec.json.Decoder(WireEvent).decode
decode_object = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(slots=True, eq=False)
class Item:
    """An item of the output as far as it has come: its parts, and the texts passed on, by content or summary index."""

    kind: str
    id: str
    index: Any
    parts: dict[int, Growing] = field(default_factory=dict)
    texts: dict[int, list[str]] = field(default_factory=dict)
    field: str = ""
    done: bool = False

    def text(self) -> str:
        return PARAGRAPH.join("".join(pieces) for pieces in self.texts.values())


class StreamDecoder:
    """Streams by the deltas, and makes up from the items and from the whole answer for what came in no delta."""

    def __init__(self) -> None:
        self.splitter = EventSplitter()
        self.line = PartLine()
        self.items: list[Item] = []
        self.call_ids: set[str] = set()
        self.started = self.ended = False

    def feed(self, data: bytes) -> list[Event]:
        try:
            return [event for block in self.splitter.feed(data) for event in self.read(block)]
        except EventTooLong:
            return [] if self.ended else self.fail(TOO_LONG)

    def finish(self) -> list[Event]:
        rest = self.splitter.finish()
        events = self.read(rest)
        if self.ended:
            return events
        self.line.flush()
        self.ended = True
        told = rest.strip() and not data_of(rest) and (not self.started or b'"error"' in rest)
        return [*events, *self.line.take(), Failed(failure=parse_error(502, rest) if told else BROKE_OFF)]

    def read(self, block: bytes) -> list[Event]:
        data = mended(data_of(block).strip())
        if not data.startswith(b"{"):
            return []
        try:
            event = decode_event(data)
            return self.handle(event, data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return []

    def handle(self, event: WireEvent, data: bytes) -> list[Event]:
        response = event.response if isinstance(event.response, dict) else {}
        if self.ended:
            return [UsageSeen(usage=usage)] if (usage := usage_of(response)) else []
        if event.type == "error" or (not event.type and b'"error"' in data):
            return self.fail(failure_of(decode_object(data)))
        events = self.start(response) if event.type.startswith("response.") else []
        match event.type:
            case "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled":
                return events + self.close(response)
            case "response.output_item.added":
                self.added(event)
            case "response.output_item.done":
                self.done(event)
            case "response.output_text.annotation.added":
                self.cite(self.of(event, "message"), number(event.content_index), parse_citations([event.annotation]))
            case _:
                self.delta(event)
        return events + self.line.take()

    def start(self, response: dict[str, Any]) -> list[Event]:
        if self.started:
            return []
        self.started = True
        return [Started(id=text_of(response.get("id")), model=text_of(response.get("model")))]

    def delta(self, event: WireEvent) -> None:
        text = text_of(event.delta)
        if not text:
            return
        match event.type:
            case "response.output_text.delta":
                self.write(self.of(event, "message"), Text(), number(event.content_index), text, tuple(objects(event.logprobs)))
            case "response.function_call_arguments.delta":
                self.argue(self.of(event, "function_call"), text)
            case "response.custom_tool_call_input.delta":
                self.argue(self.of(event, "custom_tool_call"), text)
            case "response.reasoning_summary_text.delta":
                self.think(self.of(event, "reasoning"), "summary", number(event.summary_index), text)
            case "response.reasoning_text.delta":
                self.think(self.of(event, "reasoning"), "content", number(event.content_index), text)
            case "response.refusal.delta":
                self.write(self.of(event, "message"), Refusal(), number(event.content_index), text)
            case _:
                pass

    # Items ----------------------------------------------------------------------------------------------------------------

    def of(self, event: WireEvent, kind: str) -> Item:
        """The item that a delta belongs to; one that was never announced begins with it."""
        item_id, fitting = text_of(event.item_id), [item for item in self.items if item.kind == kind]
        for item in reversed(fitting):
            if item.index == event.output_index or (item_id and item.id == item_id):
                return item
        return self.announce(kind, item_id, event.output_index)

    def announce(self, kind: str, item_id: str, index: Any) -> Item:
        item = Item(kind, item_id, index)
        self.items.append(item)
        return item

    def added(self, event: WireEvent) -> None:
        """A tool call begins here, where its name is known; the others begin with their first text."""
        told = event.item if isinstance(event.item, dict) else {}
        kind, item_id = text_of(told.get("type")), text_of(told.get("id"))
        if known(self.items, kind, item_id, event.output_index):
            return
        item = self.announce(kind, item_id, event.output_index)
        if kind in CALLS and told.get("name"):
            item.parts[0] = self.begin_call(parse_call(told))

    def begin_call(self, call: ToolCall) -> Growing:
        return self.line.start(replace(call, id=fresh_call_id(call.id, self.call_ids), arguments=""))

    def done(self, event: WireEvent) -> None:
        if isinstance(event.item, dict):
            kind, item_id = text_of(event.item.get("type")), text_of(event.item.get("id"))
            at_index = [item for item in self.items if item.kind == kind and item.index == event.output_index]
            item = known(self.items, kind, item_id, event.output_index) or (at_index[-1] if at_index else None)
            self.complete(item or self.announce(kind, item_id, event.output_index), event.item)

    def complete(self, item: Item, told: dict[str, Any]) -> None:
        """What the whole item says beyond its deltas, and its end."""
        if item.done:
            return
        item.done = True
        match item.kind:
            case "message":
                for at, part in enumerate(parse_content(told.get("content"))):
                    self.catch_up_content(item, at, part)
            case "function_call" | "custom_tool_call":
                self.catch_up_call(item, parse_call(told))
            case "reasoning":
                self.catch_up_thinking(item, told)
            case _:
                item.parts = {at: self.line.start(part) for at, part in enumerate(output_parts(told))}
        for growing in item.parts.values():
            self.line.end(growing, growing.signature)

    def catch_up_content(self, item: Item, at: int, part: Part) -> None:
        match part:
            case Text() | Refusal():
                self.write(item, type(part)(), at, rest_of(part.text, item.texts.get(at)))
                self.cite(item, at, part.citations if isinstance(part, Text) else ())
            case _:
                self.line.end(self.line.start(part))

    def catch_up_call(self, item: Item, call: ToolCall) -> None:
        if 0 not in item.parts:
            item.parts[0] = self.begin_call(call)
        self.argue(item, rest_of(call.arguments, item.texts.get(0)))

    def catch_up_thinking(self, item: Item, told: dict[str, Any]) -> None:
        for name in ("summary", "content"):
            for at, part in enumerate(objects(told.get(name))):
                self.think(item, name, at, rest_of(text_of(part.get("text")), item.texts.get(at)))
        if signature := text_of(told.get("encrypted_content")):
            if 0 not in item.parts:
                item.parts[0] = self.line.start(Thinking(origin=NAME))
            item.parts[0].signature = signature

    def write(self, item: Item, kind: Text | Refusal, at: int, text: str, logprobs: tuple[Any, ...] = ()) -> None:
        if text:
            growing = item.parts.get(at) or self.line.start(kind)
            item.parts[at] = self.line.write(growing, text, logprobs)
            item.texts.setdefault(at, []).append(text)

    def cite(self, item: Item, at: int, citations: Iterable[Citation]) -> None:
        for citation in citations:
            if at in item.parts:
                self.line.cite(item.parts[at], citation)

    def argue(self, item: Item, text: str) -> None:
        """Arguments of a call whose name is not known yet wait for its whole item."""
        if text and 0 in item.parts:
            self.line.write(item.parts[0], text)
            item.texts.setdefault(0, []).append(text)

    def think(self, item: Item, name: str, at: int, text: str) -> None:
        """A server that states both the raw thoughts and their summary is heard in whichever it began with."""
        if not text or item.field not in ("", name):
            return
        item.field = name
        between = PARAGRAPH if item.texts and at not in item.texts else ""
        growing = item.parts.get(0) or self.line.start(Thinking(origin=NAME))
        item.parts[0] = self.line.write(growing, between + text)
        item.texts.setdefault(at, []).append(text)

    # The end --------------------------------------------------------------------------------------------------------------

    def close(self, response: dict[str, Any]) -> list[Event]:
        streamed = list(self.items)
        for at, told in enumerate(objects(response.get("output"))):
            item = counterpart(streamed, told, at)
            if item:
                streamed.remove(item)
            self.complete(item or self.announce(text_of(told.get("type")), "", None), told)
        self.line.flush()
        events = self.line.take()
        if usage := usage_of(response):
            events.append(UsageSeen(usage=usage))
        if response.get("status") == "failed" or response.get("error"):
            return events + self.fail(failure_of(response))
        self.ended = True
        called = any(item.kind in CALLS and item.parts for item in self.items)
        return [*events, Finished(choice=0, finish=finish_of(response, called))]

    def fail(self, failure: Failure) -> list[Event]:
        self.ended = True
        return [*self.line.take(), Failed(failure=failure)]


def known(items: list[Item], kind: str, item_id: str, index: Any) -> Item | None:
    for item in items:
        if item.kind == kind and ((item_id and item.id == item_id) or (item.index == index and not (item_id and item.id))):
            return item
    return None


def counterpart(items: list[Item], told: dict[str, Any], at: int) -> Item | None:
    """The item that streamed as what the whole answer states; servers are found to give it another id or place there."""
    kind = text_of(told.get("type"))
    if found := known(items, kind, text_of(told.get("id")), at):
        return found
    text = PARAGRAPH.join(part.text for part in output_parts(told) if isinstance(part, Text | Refusal | Thinking))
    for item in items:
        if item.kind == kind and (item.index == at or (text and item.text() == text)):
            return item
    return None


def number(index: Any) -> int:
    return index if isinstance(index, int) else 0


def rest_of(whole: str, passed: list[str] | None) -> str:
    """What of a text was not passed on yet; nothing where the two disagree, since what was said cannot be taken back."""
    so_far = "".join(passed or ())
    return whole[len(so_far) :] if whole.startswith(so_far) else ""


class StreamEncoder:
    """One answer: the format has no place for a second."""

    def __init__(self, request: Request) -> None:
        self.request, self.custom = request, custom_names(request)
        self.writer: Writer | None = None
        self.part: OpenText | OpenThinking | OpenCall | None = None
        self.finish_reason: FinishReason | None = None
        self.usage: Usage | None = None
        self.failed = False

    def encode(self, event: Event) -> bytes:
        if self.failed:
            return b""
        match event:
            case Started():
                self.begin(event.model)
            case PartStarted() | PartDelta() | PartSigned() | PartCited() | PartEnded():
                if event.choice == 0:
                    self.on_part(event)
            case UsageSeen():
                self.usage = event.usage
            case Finished():
                self.finish_reason = event.finish if event.choice == 0 else self.finish_reason
            case Failed():
                return self.error_event(event.failure, "")
            case _:
                assert_never(event)
        return self.writer.take() if self.writer else b""

    def finish(self) -> bytes:
        if self.failed:
            return b""
        if self.finish_reason is None:
            return self.encode(Failed(failure=BROKE_OFF))
        writer = self.begin()
        self.end()
        writer.complete(self.finish_reason, self.usage)
        return writer.take()

    def begin(self, model: str = "") -> Writer:
        if self.writer is None:
            self.writer = Writer(frame(self.request, model, None))
        return self.writer

    def on_part(self, event: PartStarted | PartDelta | PartSigned | PartCited | PartEnded) -> None:
        match event:
            case PartDelta():
                if self.part:
                    self.part.write(event.text, event.logprobs)
            case PartStarted():
                self.start(event.part)
            case PartSigned():
                if self.part:
                    self.part.sign(event.signature)
            case PartCited():
                if isinstance(self.part, OpenText):
                    self.part.cite(event.citation)
            case PartEnded():
                self.end()

    def start(self, part: Part) -> None:
        writer = self.begin()
        self.end()
        match part:
            case Text() | Refusal():
                self.part = OpenText(writer, part)
            case Thinking():
                self.part = OpenThinking(writer, part)
            case ToolCall():
                self.part = OpenCall(writer, part, self.custom)
            case Image() | Opaque() | File() | ToolResult():
                for item in other_items(part):
                    writer.add_whole(item)
            case _:
                assert_never(part)

    def end(self) -> None:
        if self.part:
            self.part.end()
        self.part = None

    def error_event(self, failure: Failure, request_id: str) -> bytes:
        writer = self.begin()
        writer.fail(failure, self.usage, request_id)
        self.failed = True
        return writer.take()
