"""Decoder of the Responses API's stream (platform.openai.com/docs/api-reference/responses-streaming).

The last event holds the complete response.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from proxy.formats.json_body import DECODE_ERRORS, as_dict, as_str, decode_object, dict_items, repair_json
from proxy.formats.neutral import (
    ApiError,
    Citation,
    Event,
    Failed,
    Finished,
    Part,
    Refusal,
    Started,
    Text,
    Thinking,
    ToolCall,
    UsageReported,
)
from proxy.formats.openai_responses.content import (
    PARAGRAPH_BREAK,
    parse_citations,
    parse_content,
    parse_tool_call,
)
from proxy.formats.openai_responses.errors import parse_error, parse_error_object
from proxy.formats.openai_responses.response import parse_finish_reason, parse_output_item
from proxy.formats.openai_responses.usage import ITEM_DONE, StreamUsage, decode_usage_fields
from proxy.formats.openai_responses.wire import FORMAT, WireEvent, decode_event
from proxy.formats.streaming.part_queue import PartQueue, QueuedPart
from proxy.formats.streaming.sse import EventSplitter, EventTooLong, event_data
from proxy.formats.streaming.stream_errors import EVENT_TOO_LONG, STREAM_INTERRUPTED
from proxy.formats.tool_calls import unique_call_id

CALL_TYPES = ("function_call", "custom_tool_call")


@dataclass(slots=True, eq=False)
class StreamedItem:
    """An output item of which some events have arrived.

    The keys of `parts` and `texts` are content indexes or summary indexes. `texts` holds the text that has
    already been passed on.
    """

    kind: str
    id: str
    index: Any
    parts: dict[int, QueuedPart] = field(default_factory=dict)
    texts: dict[int, list[str]] = field(default_factory=dict)
    reasoning_field: str = ""
    is_done: bool = False

    def text(self) -> str:
        return PARAGRAPH_BREAK.join("".join(pieces) for pieces in self.texts.values())


class StreamDecoder:
    """Decodes a stream into neutral events.

    Deltas become events as they arrive. Content of a complete item, or of the complete response, is added if
    it was not in any delta.
    """

    def __init__(self) -> None:
        self.splitter = EventSplitter()
        self.events: list[Event] = []
        self.queue = PartQueue(self.events)
        self.items: list[StreamedItem] = []
        self.call_ids: set[str] = set()
        self.usage_reader = StreamUsage()
        self.started = self.ended = False

    def feed(self, data: bytes) -> list[Event]:
        try:
            for block in self.splitter.feed(data):
                self.parse_event(block)
        except EventTooLong:
            if not self.ended:
                self.fail(EVENT_TOO_LONG)
        return self.take_events()

    def finish(self) -> list[Event]:
        rest = self.splitter.finish()
        self.parse_event(rest)
        if not self.ended:
            self.on_disconnect(rest)
        return self.take_events()

    def take_events(self) -> list[Event]:
        events = self.events.copy()
        self.events.clear()
        return events

    def on_disconnect(self, rest: bytes) -> None:
        """Fail with the provider's error, if `rest` contains one, or with a general error.

        `rest` is the end of the data. Some servers send an error that is not an event.
        """
        self.queue.flush()
        with suppress(*DECODE_ERRORS):
            self.usage_reader.read_response(decode_usage_fields(rest))
        is_error = rest.strip() and not event_data(rest) and (not self.started or b'"error"' in rest)
        self.fail(parse_error(502, rest) if is_error else STREAM_INTERRUPTED)

    def parse_event(self, block: bytes) -> None:
        data = repair_json(event_data(block).strip())
        if not data.startswith(b"{"):
            return
        try:
            self.on_event(decode_event(data), data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            with suppress(*DECODE_ERRORS):
                self.usage_reader.read_event(data)

    def on_event(self, event: WireEvent, data: bytes) -> None:
        response = as_dict(event.response)
        self.usage_reader.read_delta(event.type, event.delta)
        if event.type == ITEM_DONE:
            self.usage_reader.end_item(event.item)
        if response:
            self.usage_reader.read_response(response)
        if self.ended:
            self.emit_usage()
            return
        if event.type == "error" or (not event.type and event.error is not None):
            self.fail(parse_error_object(decode_object(data)))
            return
        if event.type.startswith("response."):
            self.emit_started(response)
        match event.type:
            case "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled":
                self.on_final_event(response)
            case "response.output_item.added":
                self.on_item_added(event)
            case "response.output_item.done":
                self.on_item_done(event)
            case "response.output_text.annotation.added":
                self.add_citations(
                    self.item_for(event, "message"),
                    as_index(event.content_index),
                    parse_citations([event.annotation]),
                )
            case _:
                self.on_delta(event)

    def emit_started(self, response: dict[str, Any]) -> None:
        if not self.started:
            self.started = True
            self.events.append(Started(id=as_str(response.get("id")), model=as_str(response.get("model"))))

    def emit_usage(self) -> None:
        if usage := self.usage_reader.reported:
            self.events.append(UsageReported(usage=usage))

    def on_delta(self, event: WireEvent) -> None:
        text = as_str(event.delta)
        if not text:
            return
        match event.type:
            case "response.output_text.delta":
                self.add_text(
                    self.item_for(event, "message"),
                    Text(),
                    as_index(event.content_index),
                    text,
                    tuple(dict_items(event.logprobs)),
                )
            case "response.function_call_arguments.delta":
                self.add_arguments(self.item_for(event, "function_call"), text)
            case "response.custom_tool_call_input.delta":
                self.add_arguments(self.item_for(event, "custom_tool_call"), text)
            case "response.reasoning_summary_text.delta":
                self.add_thinking(
                    self.item_for(event, "reasoning"), "summary", as_index(event.summary_index), text
                )
            case "response.reasoning_text.delta":
                self.add_thinking(
                    self.item_for(event, "reasoning"), "content", as_index(event.content_index), text
                )
            case "response.refusal.delta":
                self.add_text(self.item_for(event, "message"), Refusal(), as_index(event.content_index), text)
            case _:
                pass

    # Items ----------------------------------------------------------------------------------------

    def item_for(self, event: WireEvent, kind: str) -> StreamedItem:
        """Return the item that a delta belongs to. If no event has announced an item, start a new one."""
        item_id, fitting = as_str(event.item_id), [item for item in self.items if item.kind == kind]
        for item in reversed(fitting):
            if item.index == event.output_index or (item_id and item.id == item_id):
                return item
        return self.add_item(kind, item_id, event.output_index)

    def add_item(self, kind: str, item_id: str, index: Any) -> StreamedItem:
        item = StreamedItem(kind, item_id, index)
        self.items.append(item)
        return item

    def on_item_added(self, event: WireEvent) -> None:
        """Start an item.

        The part of a tool call starts here, because the event contains its name. The parts of other items
        start with their first text.
        """
        wire = as_dict(event.item)
        kind, item_id = as_str(wire.get("type")), as_str(wire.get("id"))
        if find_item(self.items, kind, item_id, event.output_index):
            return
        item = self.add_item(kind, item_id, event.output_index)
        if kind in CALL_TYPES and wire.get("name"):
            item.parts[0] = self.start_call(parse_tool_call(wire))

    def add_part(self, part: Part) -> QueuedPart:
        return self.queue.add(QueuedPart(part))

    def start_call(self, call: ToolCall) -> QueuedPart:
        return self.add_part(replace(call, id=unique_call_id(call.id, self.call_ids), arguments=""))

    def on_item_done(self, event: WireEvent) -> None:
        if isinstance(event.item, dict):
            kind, item_id = as_str(event.item.get("type")), as_str(event.item.get("id"))
            at_index = [item for item in self.items if item.kind == kind and item.index == event.output_index]
            item = find_item(self.items, kind, item_id, event.output_index) or (
                at_index[-1] if at_index else None
            )
            self.finish_item(item or self.add_item(kind, item_id, event.output_index), event.item)

    def finish_item(self, item: StreamedItem, wire: dict[str, Any]) -> None:
        """Add the content of a complete item that was not in its deltas, and end its parts."""
        if item.is_done:
            return
        item.is_done = True
        match item.kind:
            case "message":
                for index, part in enumerate(parse_content(wire.get("content"))):
                    self.add_missing_content(item, index, part)
            case "function_call" | "custom_tool_call":
                self.add_missing_arguments(item, parse_tool_call(wire))
            case "reasoning":
                self.add_missing_thinking(item, wire)
            case _:
                item.parts = {
                    index: self.add_part(part) for index, part in enumerate(parse_output_item(wire))
                }
        for queued in item.parts.values():
            self.queue.complete(queued, queued.signature)

    def add_missing_content(self, item: StreamedItem, index: int, part: Part) -> None:
        match part:
            case Text() | Refusal():
                self.add_text(item, type(part)(), index, remaining_text(part.text, item.texts.get(index)))
                self.add_citations(item, index, part.citations if isinstance(part, Text) else ())
            case _:
                self.queue.complete(self.add_part(part))

    def add_missing_arguments(self, item: StreamedItem, call: ToolCall) -> None:
        if 0 not in item.parts:
            item.parts[0] = self.start_call(call)
        self.add_arguments(item, remaining_text(call.arguments, item.texts.get(0)))

    def add_missing_thinking(self, item: StreamedItem, wire: dict[str, Any]) -> None:
        for name in ("summary", "content"):
            for index, part in enumerate(dict_items(wire.get(name))):
                self.add_thinking(
                    item, name, index, remaining_text(as_str(part.get("text")), item.texts.get(index))
                )
        if signature := as_str(wire.get("encrypted_content")):
            if 0 not in item.parts:
                item.parts[0] = self.add_part(Thinking(origin=FORMAT))
            item.parts[0].signature = signature

    def add_text(
        self, item: StreamedItem, kind: Text | Refusal, index: int, text: str, logprobs: tuple[Any, ...] = ()
    ) -> None:
        if text:
            queued = item.parts.get(index) or self.add_part(kind)
            item.parts[index] = self.queue.append(queued, text, logprobs)
            item.texts.setdefault(index, []).append(text)

    def add_citations(self, item: StreamedItem, index: int, citations: Iterable[Citation]) -> None:
        for citation in citations:
            if index in item.parts and citation not in item.parts[index].citations:
                item.parts[index].citations.append(citation)

    def add_arguments(self, item: StreamedItem, text: str) -> None:
        """Add arguments to a call.

        If the name of the call is not known yet, they are ignored here. The complete item contains them
        again.
        """
        if text and 0 in item.parts:
            self.queue.append(item.parts[0], text)
            item.texts.setdefault(0, []).append(text)

    def add_thinking(self, item: StreamedItem, name: str, index: int, text: str) -> None:
        """Add thinking.

        If a server sends both raw thinking and a summary, only the one that arrives first is used.
        """
        if not text or item.reasoning_field not in ("", name):
            return
        item.reasoning_field = name
        between = PARAGRAPH_BREAK if item.texts and index not in item.texts else ""
        queued = item.parts.get(0) or self.add_part(Thinking(origin=FORMAT))
        item.parts[0] = self.queue.append(queued, between + text)
        item.texts.setdefault(index, []).append(text)

    # The end --------------------------------------------------------------------------------------

    def on_final_event(self, response: dict[str, Any]) -> None:
        streamed = list(self.items)
        for index, wire in enumerate(dict_items(response.get("output"))):
            item = match_item(streamed, wire, index)
            if item:
                streamed.remove(item)
            self.finish_item(item or self.add_item(as_str(wire.get("type")), "", None), wire)
        self.queue.flush()
        self.emit_usage()
        if response.get("status") == "failed" or response.get("error"):
            self.fail(parse_error_object(response))
            return
        self.ended = True
        called = any(item.kind in CALL_TYPES and item.parts for item in self.items)
        self.events.append(Finished(choice=0, finish_reason=parse_finish_reason(response, called)))

    def fail(self, error: ApiError) -> None:
        self.ended = True
        self.events.append(Failed(error=error))


def find_item(items: list[StreamedItem], kind: str, item_id: str, index: Any) -> StreamedItem | None:
    for item in items:
        if item.kind == kind and (
            (item_id and item.id == item_id) or (item.index == index and not (item_id and item.id))
        ):
            return item
    return None


def match_item(items: list[StreamedItem], wire: dict[str, Any], index: int) -> StreamedItem | None:
    """Return the streamed item that is the same as an item of the complete response, or None.

    Some servers send another id or index in the complete response.
    """
    kind = as_str(wire.get("type"))
    if found := find_item(items, kind, as_str(wire.get("id")), index):
        return found
    text = PARAGRAPH_BREAK.join(
        part.text for part in parse_output_item(wire) if isinstance(part, Text | Refusal | Thinking)
    )
    for item in items:
        if item.kind == kind and (item.index == index or (text and item.text() == text)):
            return item
    return None


def as_index(index: Any) -> int:
    return index if isinstance(index, int) else 0


def remaining_text(whole: str, sent: list[str] | None) -> str:
    """Return the part of a text that has not been passed on yet.

    The result is empty if the text does not begin with `sent`, because sent text cannot be taken back.
    """
    so_far = "".join(sent or ())
    return whole[len(so_far) :] if whole.startswith(so_far) else ""
