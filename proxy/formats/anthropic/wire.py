"""What a stream is made of: events as they stand on the wire, the block that is coming in, and the events of a whole answer."""

from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from proxy.formats.anthropic.content import DECODE_ERRORS, FORMAT, NULL, decode_any, parse_arguments
from proxy.formats.neutral import (
    Citation,
    Event,
    Finished,
    Opaque,
    Part,
    PartCited,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Refusal,
    Response,
    Started,
    Text,
    Thinking,
    ToolCall,
    UsageReported,
)


class WireEvent(msgspec.Struct):
    type: str = ""
    index: int = 0
    message: dict[str, Raw] | None = None
    content_block: Raw = NULL
    delta: Raw = NULL
    usage: Raw = NULL
    error: Any = None


class Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    signature: str = ""
    citation: Any = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class BlockStart(msgspec.Struct):
    type: str = ""
    id: str = ""
    name: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str = ""
    input: Raw = NULL

    @property
    def initial_text(self) -> str:
        match self.type:
            case "text":
                return self.text or ""
            case "thinking":
                return self.thinking or ""
            case _:
                return ""

    @property
    def arguments(self) -> str:
        return parse_arguments(self.input)


decode_event = msgspec.json.Decoder(WireEvent).decode
decode_delta = msgspec.json.Decoder(Delta).decode
decode_block_start = msgspec.json.Decoder(BlockStart).decode


class OpenBlock:
    """The block that is coming in. A part that only the provider understands is collected, since it is passed on whole."""

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


def decode_str(raw: Raw) -> str:
    try:
        return msgspec.json.decode(raw, type=str)
    except DECODE_ERRORS:
        return ""


def events_of_response(response: Response) -> list[Event]:
    """The events of an answer that came at once."""
    choice = response.choices[0]
    events: list[Event] = [Started(id=response.id, model=response.model)]
    for index, part in enumerate(choice.parts):
        events += events_of_part(index, part)
    if response.usage is not None:
        events.append(UsageReported(usage=response.usage))
    return [
        *events,
        Finished(choice=0, finish_reason=choice.finish_reason, stop_sequence=choice.stop_sequence),
    ]


def events_of_part(index: int, part: Part) -> list[Event]:
    text, signature = "", None
    citations: tuple[Citation, ...] = ()
    match part:
        case Text():
            text, citations, part = part.text, part.citations, Text()
        case Refusal():
            text, part = part.text, Refusal()
        case Thinking():
            text, signature, part = part.text, part.signature, replace(part, text="", signature=None)
        case ToolCall():
            text, part = part.arguments, replace(part, arguments="")
        case _:
            pass
    deltas: list[Event] = [PartDelta(choice=0, index=index, text=text)] if text else []
    signed: list[Event] = [PartSigned(choice=0, index=index, signature=signature)] if signature else []
    cited: list[Event] = [PartCited(choice=0, index=index, citation=citation) for citation in citations]
    return [
        PartStarted(choice=0, index=index, part=part),
        *deltas,
        *signed,
        *cited,
        PartEnded(choice=0, index=index),
    ]
