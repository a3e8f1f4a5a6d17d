"""Decoder of streams of the Messages API (platform.claude.com/docs/en/build-with-claude/streaming)."""

from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from proxy.formats.anthropic.content import parse_arguments, parse_citations
from proxy.formats.anthropic.errors import parse_error, parse_stream_error
from proxy.formats.anthropic.response import parse_finish_reason, parse_response
from proxy.formats.anthropic.usage import decode_wire_usage, merge_usage, states_output, usage_from_wire
from proxy.formats.anthropic.wire import (
    FORMAT,
    NULL,
    BlockStart,
    Delta,
    WireEvent,
    WireUsage,
    decode_any,
    decode_block_start,
    decode_delta,
    decode_event,
    decode_ignoring_nulls,
)
from proxy.formats.json_body import DECODE_ERRORS, repair_json
from proxy.formats.neutral import (
    ApiError,
    Citation,
    Event,
    Failed,
    Finished,
    InvalidUpstreamResponse,
    Opaque,
    Part,
    PartCited,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Started,
    Text,
    Thinking,
    ToolCall,
    UsageReported,
)
from proxy.formats.streaming.part_queue import events_of_response
from proxy.formats.streaming.sse import EventSplitter, EventTooLong, event_data
from proxy.formats.streaming.stream_errors import EVENT_TOO_LONG, STREAM_INTERRUPTED, NonEventBytes
from proxy.formats.tool_calls import unique_call_id

ERROR_EVENT_PREFIXES = (b"event: error", b"event:error")
ERROR_KEY = b'"error"'
"""A server may state why its stream ends in a line that is not an event, with this key."""


class OpenBlock:
    """A block that is arriving.

    A block that only the provider understands is collected, because it is sent as a whole.
    """

    def __init__(self, index: int, block: BlockStart, raw: Raw) -> None:
        self.index, self.block, self.raw = index, block, raw
        self.is_started = False
        self.has_content = False
        self.signature = ""
        self.json_pieces: list[str] = []
        self.citations: list[Citation] = []
        self.opaque_fields: dict[str, Any] = {}

    @property
    def is_opaque(self) -> bool:
        return self.block.type not in ("text", "thinking", "redacted_thinking", "tool_use")

    def part(self, id: str) -> Part:
        block = self.block
        match block.type:
            case "text":
                return Text()
            case "thinking":
                return Thinking(origin=FORMAT)
            case "redacted_thinking":
                return Thinking(redacted=block.data, origin=FORMAT)
            case "tool_use":
                return ToolCall(id=id, name=block.name)
            case other:
                return Opaque(origin=FORMAT, kind=other, value=self.complete_block())

    def complete_block(self) -> dict[str, Any]:
        value: dict[str, Any] = decode_any(self.raw)
        if self.json_pieces:
            text = "".join(self.json_pieces)
            try:
                value["input"] = decode_any(text.encode())
            except DECODE_ERRORS:
                value["input"] = {"_raw": text}
        return value | self.opaque_fields


class StreamDecoder:
    """Decode a stream of the Messages API into neutral events.

    Blocks arrive one after the other. If a block begins before the previous one has ended, its events wait
    for that end, so that no part is split.
    """

    def __init__(self) -> None:
        self.splitter = EventSplitter()
        self.events: list[Event] = []
        self.non_event_bytes = NonEventBytes()
        self.saw_event = False
        self.started = False
        self.ended = False
        self.failed = False
        self.open_block: OpenBlock | None = None
        self.deferred_events: list[WireEvent] = []
        self.part_index = 0
        self.call_ids: set[str] = set()
        self.has_tool_calls = False
        self.usage: WireUsage | None = None
        self.has_final_usage = False

    def feed(self, data: bytes) -> list[Event]:
        try:
            for event in () if self.failed else self.splitter.feed(data):
                self.parse_event(event)
        except EventTooLong:
            self.fail(EVENT_TOO_LONG)
        return self.take_events()

    def finish(self) -> list[Event]:
        if rest := self.splitter.finish():
            self.parse_event(rest)
        if not (self.ended or self.failed):
            self.close_all_blocks()
            self.on_disconnect()
        return self.take_events()

    def take_events(self) -> list[Event]:
        events, self.events = self.events, []
        return events

    def parse_event(self, event: bytes) -> None:
        data = repair_json(event_data(event))
        try:
            parsed = decode_ignoring_nulls(decode_event, Raw(data)) if data else None
        except DECODE_ERRORS:
            parsed = None
        if parsed is None or self.failed:
            self.keep_non_event(event)
            return
        if parsed.type == "error" or parsed.error is not None or event.startswith(ERROR_EVENT_PREFIXES):
            self.fail(parse_stream_error(parsed.error, data))
        elif parsed.type:
            self.saw_event = True
            self.on_event(parsed)

    def on_event(self, event: WireEvent) -> None:
        match event.type:
            case "message_start":
                self.on_message_start(event.message or {})
            case "content_block_start" | "content_block_delta" | "content_block_stop" if not self.ended:
                self.on_block_event(event)
            case "message_delta":
                self.on_message_delta(event)
            case "message_stop" if not self.ended:
                self.finish_message(None, None)
            case _:
                pass

    def on_message_start(self, message: dict[str, Raw]) -> None:
        """Start the message, or restart it.

        A second start begins the blocks again. Parts that were sent stay.
        """
        self.close_all_blocks()
        self.on_usage(message.get("usage", NULL))
        self.emit_started(decode_str(message.get("id", NULL)), decode_str(message.get("model", NULL)))

    def emit_started(self, id: str = "", model: str = "") -> None:
        if not self.started:
            self.started = True
            self.events.append(Started(id=id, model=model))

    def on_usage(self, raw: Raw, *, is_last: bool = False) -> None:
        """Merge reported usage, unless its counts are absurd.

        `is_last` says that the usage belongs to the end of the message.
        """
        stated = decode_wire_usage(raw)
        if stated is None:
            return
        usage = merge_usage(self.usage, stated)
        if usage_from_wire(usage) is not None:
            self.usage = usage
            self.has_final_usage = is_last and (self.has_final_usage or states_output(stated))

    def on_block_event(self, event: WireEvent) -> None:
        if self.open_block is not None and self.open_block.index != event.index:
            self.deferred_events.append(event)
        elif event.type == "content_block_start":
            self.on_block_start(event)
        elif event.type == "content_block_delta":
            self.on_block_delta(event)
        elif self.open_block is not None:
            self.close_block()
            self.replay_deferred()

    def replay_deferred(self) -> None:
        waiting, self.deferred_events = self.deferred_events, []
        for event in waiting:
            self.on_block_event(event)

    def on_block_start(self, event: WireEvent) -> None:
        """Open a block.

        A repeated start of the open block changes nothing. A different start with the same index opens a new
        block.
        """
        if self.open_block is not None and self.open_block.raw == event.content_block:
            return
        if self.open_block is not None:
            self.close_block()
        try:
            block = decode_ignoring_nulls(decode_block_start, event.content_block)
            decode_any(event.content_block)
        except DECODE_ERRORS:
            return
        if not block.type:
            return
        self.open_block = OpenBlock(event.index, block, event.content_block)
        if block.type != "text" and not self.open_block.is_opaque:
            self.start_part()
        self.add_text(block.initial_text)
        if block.type == "thinking" and block.signature:
            self.add_signature(block.signature)

    def on_block_delta(self, event: WireEvent) -> None:
        try:
            delta = decode_ignoring_nulls(decode_delta, event.delta)
        except DECODE_ERRORS:
            return
        if self.open_block is None and delta.type == "text_delta" and delta.text:
            self.open_block = OpenBlock(event.index, BlockStart(type="text"), NULL)
        if self.open_block is None:
            return
        if self.open_block.is_opaque:
            self.collect_opaque(self.open_block, delta, event.delta)
            return
        match self.open_block.block.type, delta.type:
            case ("text", "text_delta"):
                self.add_text(delta.text)
            case ("text", "citations_delta"):
                self.open_block.citations += parse_citations([delta.citation])
            case ("thinking", "thinking_delta"):
                self.add_text(delta.thinking)
            case ("thinking", "signature_delta"):
                self.add_signature(delta.signature)
            case ("tool_use", "input_json_delta"):
                self.add_text(delta.partial_json)
            case _:
                pass

    def collect_opaque(self, block: OpenBlock, delta: Delta, raw: Raw) -> None:
        if delta.type == "input_json_delta":
            block.json_pieces += [delta.partial_json] if delta.partial_json else []
            return
        try:
            fields: dict[str, Any] = decode_any(raw)
        except DECODE_ERRORS:
            return
        block.opaque_fields |= {name: value for name, value in fields.items() if name != "type"}

    def start_part(self) -> None:
        """Start the part of the open block. Text starts with its first delta: an empty block is none."""
        assert self.open_block is not None
        self.open_block.is_started = True
        self.emit_started()
        self.events.append(
            PartStarted(choice=0, index=self.part_index, part=self.open_block.part(self.call_id()))
        )

    def call_id(self) -> str:
        """Return an id for the open call, unique even if the provider sends none or repeats one."""
        assert self.open_block is not None
        if self.open_block.block.type != "tool_use":
            return ""
        self.has_tool_calls = True
        return unique_call_id(self.open_block.block.id, self.call_ids)

    def add_text(self, text: str) -> None:
        if not text or self.open_block is None:
            return
        if not self.open_block.is_started:
            self.start_part()
        self.open_block.has_content = True
        self.events.append(PartDelta(choice=0, index=self.part_index, text=text))

    def add_signature(self, signature: str) -> None:
        """Add a signature to the open thinking. Its event follows when the block ends.

        Some servers send a signature in pieces, or repeat it.
        """
        assert self.open_block is not None
        before = self.open_block.signature
        self.open_block.signature = signature if signature.startswith(before) else before + signature

    def close_block(self) -> None:
        """Close the open block. The input of a call may be in its start, or missing."""
        block = self.open_block
        if block is None:
            return
        if block.block.type == "tool_use" and not block.has_content:
            self.add_text(parse_arguments(block.block.input))
        if block.is_opaque:
            self.start_part()
        if block.is_started:
            self.events += [
                PartCited(choice=0, index=self.part_index, citation=citation) for citation in block.citations
            ]
            if block.signature:
                self.events.append(PartSigned(choice=0, index=self.part_index, signature=block.signature))
            self.events.append(PartEnded(choice=0, index=self.part_index))
            self.part_index += 1
        self.open_block = None

    def close_all_blocks(self) -> None:
        """Close the open block, and then those that wait for it."""
        while self.open_block is not None:
            self.close_block()
            self.replay_deferred()

    def on_message_delta(self, event: WireEvent) -> None:
        self.on_usage(event.usage, is_last=True)
        try:
            delta = decode_ignoring_nulls(decode_delta, event.delta) if event.delta != NULL else Delta()
        except DECODE_ERRORS:
            delta = Delta()
        if delta.stop_reason is not None and not self.ended:
            self.finish_message(delta.stop_reason, delta.stop_sequence)
        elif self.ended:
            self.emit_usage()

    def finish_message(self, reason: str | None, stop_sequence: str | None) -> None:
        self.close_all_blocks()
        self.emit_started()
        self.emit_usage()
        self.ended = True
        self.events.append(
            Finished(
                choice=0,
                finish_reason=parse_finish_reason(reason, has_calls=self.has_tool_calls),
                stop_sequence=stop_sequence,
            )
        )

    def emit_usage(self) -> None:
        """Report the usage at the end: the output that a stream reports at its start is a placeholder."""
        if self.usage is not None and (usage := usage_from_wire(self.usage)):
            self.events.append(
                UsageReported(usage=usage if self.has_final_usage else replace(usage, estimated=True))
            )

    def fail(self, error: ApiError) -> None:
        if not self.ended:
            self.close_all_blocks()
        self.failed = True
        self.events.append(Failed(error=error))

    def keep_non_event(self, event: bytes) -> None:
        if not self.saw_event or ERROR_KEY in event:
            self.non_event_bytes.add(event)

    def on_disconnect(self) -> None:
        """End a stream without a final event: the response is incomplete.

        If the bytes are not a stream, they are a non-streaming response or an error of another server.
        """
        body = self.non_event_bytes.stripped
        if not body or self.saw_event:
            self.fail(parse_error(502, body) if body else STREAM_INTERRUPTED)
            return
        try:
            response = parse_response(body)
        except InvalidUpstreamResponse:
            self.fail(parse_error(502, body))
            return
        self.events += events_of_response(response)


def decode_str(raw: Raw) -> str:
    try:
        return msgspec.json.decode(raw, type=str)
    except DECODE_ERRORS:
        return ""
