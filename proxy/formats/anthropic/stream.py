"""Streams of the Messages API, read here; encoder.py writes them (platform.claude.com/docs/en/build-with-claude/streaming)."""

from typing import Any

from msgspec import Raw
from msgspec.structs import replace

from proxy.formats.anthropic.blocks import (
    Delta,
    OpenBlock,
    StartedBlock,
    WireEvent,
    decode_delta,
    decode_event,
    decode_started,
    text_in,
    whole_answer,
)
from proxy.formats.anthropic.content import NULL, UNREADABLE, decode_any, parse_citations, read_loosely
from proxy.formats.anthropic.response import (
    finish_of,
    parse_error,
    parse_response,
    stream_failure,
    wire_usage,
)
from proxy.formats.anthropic.usage import WireUsage, merged, neutral_usage, states_output
from proxy.formats.body import mended
from proxy.formats.call_ids import fresh_call_id
from proxy.formats.neutral import (
    BadAnswer,
    Event,
    Failed,
    Failure,
    Finished,
    PartCited,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Started,
    UsageSeen,
)
from proxy.formats.sse import TOO_LONG, EventSplitter, EventTooLong, data_of

BROKEN_OFF = Failure(kind="network", code="upstream_unreachable", message="The answer broke off.", status=502)
ERROR_NAMES = (b"event: error", b"event:error")
BARE_ERROR = b'"error"'
"""In a line that is no event: a server's way to say why its stream ends."""
NO_STREAM_KEPT = 1 << 20


class StreamDecoder:
    """Anthropic's blocks come one after the other. Events of a block that begins before the last one has ended wait for that end,
    so that no part is torn."""

    def __init__(self) -> None:
        self.splitter = EventSplitter()
        self.events: list[Event] = []
        self.strange = b""
        self.recognised = False
        self.started = False
        self.ended = False
        self.failed = False
        self.open: OpenBlock | None = None
        self.waiting: list[WireEvent] = []
        self.part_index = 0
        self.call_ids: set[str] = set()
        self.called = False
        self.usage: WireUsage | None = None
        self.final = False

    def feed(self, data: bytes) -> list[Event]:
        try:
            for event in () if self.failed else self.splitter.feed(data):
                self.read(event)
        except EventTooLong:
            self.fail(TOO_LONG)
        return self.take()

    def finish(self) -> list[Event]:
        if rest := self.splitter.finish():
            self.read(rest)
        if not (self.ended or self.failed):
            self.close_all()
            self.break_off()
        return self.take()

    def take(self) -> list[Event]:
        events, self.events = self.events, []
        return events

    def read(self, event: bytes) -> None:
        data = mended(data_of(event))
        try:
            parsed = read_loosely(decode_event, Raw(data)) if data else None
        except UNREADABLE:
            parsed = None
        if parsed is None or self.failed:
            self.keep_strange(event)
            return
        if parsed.type == "error" or parsed.error is not None or event.startswith(ERROR_NAMES):
            self.fail(stream_failure(parsed.error, data))
        elif parsed.type:
            self.recognised = True
            self.handle(parsed)

    def handle(self, event: WireEvent) -> None:
        match event.type:
            case "message_start":
                self.start(event.message or {})
            case "content_block_start" | "content_block_delta" | "content_block_stop" if not self.ended:
                self.block_event(event)
            case "message_delta":
                self.message_delta(event)
            case "message_stop" if not self.ended:
                self.end(None, None)
            case _:
                pass

    def start(self, message: dict[str, Raw]) -> None:
        """A second start begins the blocks anew; what went out already stays."""
        self.close_all()
        self.see(message.get("usage", NULL))
        self.announce(text_in(message.get("id", NULL)), text_in(message.get("model", NULL)))

    def announce(self, id: str = "", model: str = "") -> None:
        if not self.started:
            self.started = True
            self.events.append(Started(id=id, model=model))

    def see(self, raw: Raw, *, last: bool = False) -> None:
        """Counts that are absurd do not replace sound ones. `last`: they are those of the end."""
        stated = wire_usage(raw)
        if stated is None:
            return
        usage = merged(self.usage, stated)
        if neutral_usage(usage) is not None:
            self.usage = usage
            self.final = last and (self.final or states_output(stated))

    def block_event(self, event: WireEvent) -> None:
        if self.open is not None and self.open.index != event.index:
            self.waiting.append(event)
        elif event.type == "content_block_start":
            self.block_start(event)
        elif event.type == "content_block_delta":
            self.block_delta(event)
        elif self.open is not None:
            self.close()
            self.resume()

    def resume(self) -> None:
        waiting, self.waiting = self.waiting, []
        for event in waiting:
            self.block_event(event)

    def block_start(self, event: WireEvent) -> None:
        """The same start once more is no new block; another one with its index is."""
        if self.open is not None and self.open.raw == event.content_block:
            return
        if self.open is not None:
            self.close()
        try:
            block = read_loosely(decode_started, event.content_block)
            decode_any(event.content_block)
        except UNREADABLE:
            return
        if not block.type:
            return
        self.open = OpenBlock(event.index, block, event.content_block)
        if block.type != "text" and not self.open.is_opaque:
            self.begin()
        self.write(block.begins_with)
        if block.type == "thinking" and block.signature:
            self.sign(block.signature)

    def block_delta(self, event: WireEvent) -> None:
        try:
            delta = read_loosely(decode_delta, event.delta)
        except UNREADABLE:
            return
        if self.open is None and delta.type == "text_delta" and delta.text:
            self.open = OpenBlock(event.index, StartedBlock(type="text"), NULL)
        if self.open is None:
            return
        if self.open.is_opaque:
            self.collect(self.open, delta, event.delta)
            return
        match self.open.block.type, delta.type:
            case ("text", "text_delta"):
                self.write(delta.text)
            case ("text", "citations_delta"):
                self.open.citations += parse_citations([delta.citation])
            case ("thinking", "thinking_delta"):
                self.write(delta.thinking)
            case ("thinking", "signature_delta"):
                self.sign(delta.signature)
            case ("tool_use", "input_json_delta"):
                self.write(delta.partial_json)
            case _:
                pass

    def collect(self, block: OpenBlock, delta: Delta, raw: Raw) -> None:
        if delta.type == "input_json_delta":
            block.json += [delta.partial_json] if delta.partial_json else []
            return
        try:
            fields: dict[str, Any] = decode_any(raw)
        except UNREADABLE:
            return
        block.collected |= {name: value for name, value in fields.items() if name != "type"}

    def begin(self) -> None:
        """Text begins with its first word: blocks without any are no parts."""
        assert self.open is not None
        self.open.begun = True
        self.announce()
        self.events.append(PartStarted(choice=0, index=self.part_index, part=self.open.part(self.call_id())))

    def call_id(self) -> str:
        """An id of its own for each call, where the provider gives none or repeats one."""
        assert self.open is not None
        if self.open.block.type != "tool_use":
            return ""
        self.called = True
        return fresh_call_id(self.open.block.id, self.call_ids)

    def write(self, text: str) -> None:
        if not text or self.open is None:
            return
        if not self.open.begun:
            self.begin()
        self.open.written = True
        self.events.append(PartDelta(choice=0, index=self.part_index, text=text))

    def sign(self, signature: str) -> None:
        """Told at the end of its thought: servers send it in pieces, or again."""
        assert self.open is not None
        before = self.open.signature
        self.open.signature = signature if signature.startswith(before) else before + signature

    def close(self) -> None:
        """The input of a call may stand in its start, or nowhere at all."""
        block = self.open
        if block is None:
            return
        if block.block.type == "tool_use" and not block.written:
            self.write(block.block.arguments)
        if block.is_opaque:
            self.begin()
        if block.begun:
            self.events += [PartCited(choice=0, index=self.part_index, citation=citation) for citation in block.citations]
            if block.signature:
                self.events.append(PartSigned(choice=0, index=self.part_index, signature=block.signature))
            self.events.append(PartEnded(choice=0, index=self.part_index))
            self.part_index += 1
        self.open = None

    def close_all(self) -> None:
        """At the end, blocks that were never ended give way to those that wait for it."""
        while self.open is not None:
            self.close()
            self.resume()

    def message_delta(self, event: WireEvent) -> None:
        self.see(event.usage, last=True)
        try:
            delta = read_loosely(decode_delta, event.delta) if event.delta != NULL else Delta()
        except UNREADABLE:
            delta = Delta()
        if delta.stop_reason is not None and not self.ended:
            self.end(delta.stop_reason, delta.stop_sequence)
        elif self.ended:
            self.tell_usage()

    def end(self, reason: str | None, stop_sequence: str | None) -> None:
        self.close_all()
        self.announce()
        self.tell_usage()
        self.ended = True
        self.events.append(Finished(choice=0, finish=finish_of(reason, called=self.called), stop_sequence=stop_sequence))

    def tell_usage(self) -> None:
        """Only with the end: what the start of a stream states of the output is a placeholder."""
        if self.usage is not None and (usage := neutral_usage(self.usage)):
            self.events.append(UsageSeen(usage=usage if self.final else replace(usage, estimated=True)))

    def fail(self, failure: Failure) -> None:
        if not self.ended:
            self.close_all()
        self.failed = True
        self.events.append(Failed(failure=failure))

    def keep_strange(self, event: bytes) -> None:
        if len(self.strange) < NO_STREAM_KEPT and (not self.recognised or BARE_ERROR in event):
            self.strange += event

    def break_off(self) -> None:
        """Without an end, the answer is incomplete, unless what came is no stream but a whole answer, or another server's error."""
        body = self.strange.strip()
        if not body or self.recognised:
            self.fail(parse_error(502, body) if body else BROKEN_OFF)
            return
        try:
            response = parse_response(body)
        except BadAnswer:
            self.fail(parse_error(502, body))
            return
        self.events += whole_answer(response)
