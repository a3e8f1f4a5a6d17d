"""Queue of the parts of a stream, which keeps only one part open at a time."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from proxy.formats.neutral import (
    Choice,
    Citation,
    Event,
    Finished,
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


@dataclass(slots=True, eq=False)
class QueuedPart:
    """A part that has not been sent completely.

    `buffered` is the data that arrived while another part was open. `text` is all text that was added to a
    tool call. `is_complete` is true if the provider has ended the part. `index` is -1 until the part has
    started.
    """

    part: Part
    buffered: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    text: str = ""
    signature: str | None = None
    is_signature_sent: bool = False
    is_complete: bool = False
    index: int = -1

    @property
    def is_open(self) -> bool:
        return self.index >= 0


class PartQueue:
    """The parts of one choice in the order in which they began. The first part is open and streams.

    A tool call stays open until it is complete, because its arguments cannot continue in a second part. Any
    other part ends when the next one begins. If more of it arrives, it continues in a new part. Events are
    appended to `events`, which all choices of a decoder share.
    """

    def __init__(self, events: list[Event], choice: int = 0) -> None:
        self.events, self.choice = events, choice
        self.parts: deque[QueuedPart] = deque()
        self.next_index = 0

    def can_start(self, queued: QueuedPart) -> bool:
        """Return whether enough of the part is known to start it."""
        return True

    def can_end(self, queued: QueuedPart) -> bool:
        """Return whether the open part can end.

        This is called if the part is complete, or if another part waits for it.
        """
        return queued.is_complete or not isinstance(queued.part, ToolCall)

    def add(self, queued: QueuedPart) -> QueuedPart:
        """Add a part at the end of the queue."""
        self.parts.append(queued)
        self.advance()
        return queued

    def append(self, queued: QueuedPart, text: str, logprobs: tuple[Any, ...] = ()) -> QueuedPart:
        """Add text to a part. Return that part, or a new part if it has already ended.

        Text for a tool call that has ended is dropped.
        """
        is_call = isinstance(queued.part, ToolCall)
        if is_call:
            queued.text += text
        if queued not in self.parts:
            if is_call:
                return queued
            queued = self.add(QueuedPart(queued.part))
        if queued.index < 0:
            queued.buffered.append((text, logprobs))
            return queued
        self.emit_delta(queued, text, logprobs)
        if len(self.parts) > 1:
            self.advance()
        return queued

    def complete(self, queued: QueuedPart, signature: str | None = None) -> None:
        """Mark a part as ended by the provider."""
        queued.signature, queued.is_complete = signature, True
        self.advance()

    def advance(self) -> None:
        """Start and end parts from the front of the queue, as far as possible."""
        while self.parts:
            first = self.parts[0]
            if not first.is_open:
                if not self.can_start(first):
                    return
                self.start(first)
            if not (first.is_complete or len(self.parts) > 1) or not self.can_end(first):
                return
            self.end(self.parts.popleft())

    def flush(self) -> None:
        """Start and end all parts, at the end of the stream."""
        while self.parts:
            first = self.parts.popleft()
            if not first.is_open:
                self.start(first)
            self.end(first)

    def start(self, queued: QueuedPart) -> None:
        queued.index = self.next_index
        self.next_index += 1
        self.events.append(PartStarted(choice=self.choice, index=queued.index, part=queued.part))
        if isinstance(queued.part, ToolCall):
            self.emit_signature(queued)
        for text, logprobs in queued.buffered:
            self.emit_delta(queued, text, logprobs)

    def emit_delta(self, queued: QueuedPart, text: str, logprobs: tuple[Any, ...]) -> None:
        self.events.append(PartDelta(choice=self.choice, index=queued.index, text=text, logprobs=logprobs))

    def emit_signature(self, queued: QueuedPart) -> None:
        """Emit a call's signature as soon as it is known.

        Other formats send the signature before the arguments.
        """
        if queued.signature and not queued.is_signature_sent:
            queued.is_signature_sent = True
            self.events.append(PartSigned(choice=self.choice, index=queued.index, signature=queued.signature))

    def end(self, queued: QueuedPart) -> None:
        self.events += [
            PartCited(choice=self.choice, index=queued.index, citation=citation)
            for citation in queued.citations
        ]
        self.emit_signature(queued)
        self.events.append(PartEnded(choice=self.choice, index=queued.index))


# Non-streaming responses --------------------------------------------------------------------------


def events_of_response(response: Response) -> list[Event]:
    """Return the events of a non-streaming response."""
    events: list[Event] = [Started(id=response.id, model=response.model)]
    for number, choice in enumerate(response.choices):
        for index, part in enumerate(choice.parts):
            events += events_of_part(number, index, part, choice.logprobs if index == 0 else ())
    if response.usage is not None:
        events.append(UsageReported(usage=response.usage))
    return [*events, *(end_of_choice(number, choice) for number, choice in enumerate(response.choices))]


def end_of_choice(number: int, choice: Choice) -> Finished:
    return Finished(choice=number, finish_reason=choice.finish_reason, stop_sequence=choice.stop_sequence)


def events_of_part(choice: int, index: int, part: Part, logprobs: tuple[Any, ...] = ()) -> list[Event]:
    """Return the events of a complete part."""
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
    at = {"choice": choice, "index": index}
    deltas: list[Event] = [PartDelta(**at, text=text, logprobs=logprobs)] if text else []
    signed: list[Event] = [PartSigned(**at, signature=signature)] if signature else []
    cited: list[Event] = [PartCited(**at, citation=citation) for citation in citations]
    return [PartStarted(**at, part=part), *deltas, *signed, *cited, PartEnded(**at)]
