"""Decoder of streams of the Messages API (platform.claude.com/docs/en/build-with-claude/streaming)."""

from typing import Any

from msgspec import Raw

from proxy.formats.anthropic.content import parse_citations
from proxy.formats.anthropic.errors import parse_error, parse_stream_error
from proxy.formats.anthropic.opaque_parts import parse_opaque_part
from proxy.formats.anthropic.response import parse_finish_reason, parse_response
from proxy.formats.anthropic.usage import StreamUsage
from proxy.formats.anthropic.wire import (
    FORMAT,
    NULL,
    BlockStart,
    Delta,
    WireEvent,
    decode_any,
    decode_block_start,
    decode_delta,
    decode_event,
    decode_ignoring_nulls,
)
from proxy.formats.json_body import DECODE_ERRORS, as_str, decode_value, repair_json
from proxy.formats.neutral import (
    ApiError,
    Event,
    Failed,
    Finished,
    InvalidUpstreamResponse,
    Opaque,
    Part,
    Started,
    Text,
    Thinking,
    ToolCall,
    UsageReported,
)
from proxy.formats.streaming.part_queue import PartQueue, QueuedPart, events_of_response
from proxy.formats.streaming.sse import EventSplitter, EventTooLong, event_data
from proxy.formats.streaming.stream_errors import EVENT_TOO_LONG, STREAM_INTERRUPTED, NonEventBytes
from proxy.formats.tool_calls import unique_call_id

ERROR_EVENT_PREFIXES = (b"event: error", b"event:error")
ERROR_KEY = b'"error"'
"""Key of an error in a line that is not an event. Some servers end a stream with such a line."""


class StreamedBlock:
    """A block that is arriving, and the part that it becomes.

    If only the provider understands a block, its data is collected, because the block becomes one opaque
    part.
    """

    def __init__(self, block: BlockStart, raw: Raw, queued: QueuedPart) -> None:
        self.block, self.raw, self.queued = block, raw, queued
        self.has_content = False
        self.signature = ""
        self.json_pieces: list[str] = []
        self.opaque_fields: dict[str, Any] = {}

    @property
    def is_opaque(self) -> bool:
        return isinstance(self.queued.part, Opaque)

    def add_signature(self, signature: str) -> None:
        """Add a signature or a fragment of it.

        Some servers repeat the signature that they have already sent.
        """
        before = self.signature
        self.signature = signature if signature.startswith(before) else before + signature

    def complete_value(self) -> dict[str, Any]:
        """Return the complete JSON of a block that only the provider understands."""
        value: dict[str, Any] = decode_any(self.raw)
        if self.json_pieces:
            text = "".join(self.json_pieces)
            try:
                value["input"] = decode_any(text.encode())
            except DECODE_ERRORS:
                value["input"] = {"_raw": text}
        return value | self.opaque_fields


class BlockQueue(PartQueue):
    """The parts of a message. Each part stays open until its block ends, so that no part is split.

    Text starts with its first delta, because an empty block is not a part. If no event has started the
    message, the first part starts it.
    """

    def __init__(self, events: list[Event]) -> None:
        super().__init__(events)
        self.is_message_started = False

    def start_message(self, id: str = "", model: str = "") -> None:
        if not self.is_message_started:
            self.is_message_started = True
            self.events.append(Started(id=id, model=model))

    def can_start(self, queued: QueuedPart) -> bool:
        match queued.part:
            case Text():
                return bool(queued.buffered)
            case Opaque():
                return queued.is_complete
            case _:
                return True

    def can_end(self, queued: QueuedPart) -> bool:
        return queued.is_complete

    def start(self, queued: QueuedPart) -> None:
        self.start_message()
        super().start(queued)

    def append(self, queued: QueuedPart, text: str, logprobs: tuple[Any, ...] = ()) -> QueuedPart:
        if queued.index >= 0:
            self.emit_delta(queued, text, logprobs)
        else:
            queued.buffered.append((text, logprobs))
            self.advance()
        return queued

    def complete(self, queued: QueuedPart, signature: str | None = None) -> None:
        if isinstance(queued.part, Text) and not queued.is_open and not queued.buffered:
            self.parts.remove(queued)
        super().complete(queued, signature)


class StreamDecoder:
    """Decodes a stream of the Messages API into neutral events.

    Blocks arrive one after the other. If a block begins before the previous one has ended, its part waits in
    the queue.
    """

    def __init__(self) -> None:
        self.splitter = EventSplitter()
        self.events: list[Event] = []
        self.queue = BlockQueue(self.events)
        self.blocks: dict[int, StreamedBlock] = {}
        self.non_event_bytes = NonEventBytes()
        self.saw_event = False
        self.ended = False
        self.failed = False
        self.call_ids: set[str] = set()
        self.has_tool_calls = False
        self.usage_reader = StreamUsage()

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
        events = self.events[:]
        self.events.clear()
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
        self.usage_reader.report(decode_value(event.usage), is_last=event.type == "message_delta")
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

        After a second start, the blocks begin again. Parts that were already sent stay.
        """
        self.close_all_blocks()
        self.usage_reader.report(decode_value(message.get("usage", NULL)), is_last=False)
        id, model = (as_str(decode_value(message.get(name, NULL))) for name in ("id", "model"))
        self.queue.start_message(id, model)

    def on_block_event(self, event: WireEvent) -> None:
        match event.type:
            case "content_block_start":
                self.on_block_start(event)
            case "content_block_delta":
                self.on_block_delta(event)
            case _:
                self.close_block(event.index)

    def on_block_start(self, event: WireEvent) -> None:
        """Open a block.

        A repeated start of an open block changes nothing. A different start with the same index opens a new
        block.
        """
        if event.index in self.blocks and self.blocks[event.index].raw == event.content_block:
            return
        self.close_block(event.index)
        try:
            start = decode_ignoring_nulls(decode_block_start, event.content_block)
            decode_any(event.content_block)
        except DECODE_ERRORS:
            return
        self.usage_reader.start_block(start.type, start.name)
        if start.type:
            self.open_block(event.index, start, event.content_block)

    def open_block(self, index: int, start: BlockStart, raw: Raw) -> StreamedBlock:
        queued = self.queue.add(QueuedPart(self.new_part(start)))
        self.blocks[index] = block = StreamedBlock(start, raw, queued)
        self.add_text(block, start.initial_text)
        if start.type == "thinking" and start.signature:
            block.add_signature(start.signature)
        return block

    def new_part(self, start: BlockStart) -> Part:
        match start.type:
            case "text":
                return Text()
            case "thinking":
                return Thinking(origin=FORMAT)
            case "redacted_thinking":
                return Thinking(redacted=start.data, origin=FORMAT)
            case "tool_use":
                self.has_tool_calls = True
                return ToolCall(id=unique_call_id(start.id, self.call_ids), name=start.name)
            case other:
                return Opaque(origin=FORMAT, kind=other, value=None)

    def on_block_delta(self, event: WireEvent) -> None:
        """Add a delta to its block. If there is no block, text opens one."""
        try:
            delta = decode_ignoring_nulls(decode_delta, event.delta)
        except DECODE_ERRORS:
            return
        self.usage_reader.add_text(delta.text or delta.thinking or delta.partial_json)
        block = self.blocks.get(event.index)
        if block is None and delta.type == "text_delta" and delta.text:
            block = self.open_block(event.index, BlockStart(type="text"), NULL)
        if block is None:
            return
        if block.is_opaque:
            self.collect_opaque(block, delta, event.delta)
            return
        match block.block.type, delta.type:
            case ("text", "text_delta"):
                self.add_text(block, delta.text)
            case ("text", "citations_delta"):
                block.queued.citations += parse_citations([delta.citation])
            case ("thinking", "thinking_delta"):
                self.add_text(block, delta.thinking)
            case ("thinking", "signature_delta"):
                block.add_signature(delta.signature)
            case ("tool_use", "input_json_delta"):
                self.add_text(block, delta.partial_json)
            case _:
                pass

    def collect_opaque(self, block: StreamedBlock, delta: Delta, raw: Raw) -> None:
        if delta.type == "input_json_delta":
            block.json_pieces += [delta.partial_json] if delta.partial_json else []
            return
        try:
            fields: dict[str, Any] = decode_any(raw)
        except DECODE_ERRORS:
            return
        block.opaque_fields |= {name: value for name, value in fields.items() if name != "type"}

    def add_text(self, block: StreamedBlock, text: str) -> None:
        if text:
            block.has_content = True
            self.queue.append(block.queued, text)

    def close_block(self, index: int) -> None:
        """Close an open block.

        A call without deltas gets its input from the start of the block, if there is any.
        """
        block = self.blocks.pop(index, None)
        if block is None:
            return
        if block.block.type == "tool_use" and not block.has_content:
            self.add_text(block, parse_input(block.block.input))
        if isinstance(block.queued.part, Opaque):
            block.queued.part = parse_opaque_part(block.complete_value(), block.block.type)
        self.queue.complete(block.queued, block.signature or None)

    def close_all_blocks(self) -> None:
        for index in [*self.blocks]:
            self.close_block(index)

    def on_message_delta(self, event: WireEvent) -> None:
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
        self.queue.start_message()
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
        """Report the usage at the end, because the output count at the start of a stream is a placeholder."""
        if (usage := self.usage_reader.reported) is not None:
            self.events.append(UsageReported(usage=usage))

    def fail(self, error: ApiError) -> None:
        if not self.ended:
            self.close_all_blocks()
        self.failed = True
        self.events.append(Failed(error=error))

    def keep_non_event(self, event: bytes) -> None:
        if not self.saw_event or ERROR_KEY in event:
            self.non_event_bytes.add(event)

    def on_disconnect(self) -> None:
        """End a stream that has no final event, and is therefore incomplete.

        If the bytes are not a stream, they are parsed as a non-streaming response, or as an error of another
        server.
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
        self.usage_reader.read_response(body)
        self.events += events_of_response(response)


def parse_input(raw: Raw) -> str:
    return "{}" if raw == NULL else bytes(raw).decode(errors="replace")
