"""Keeps the grammar of the neutral stream, one part open at a time, whatever order a provider's events come in."""

from dataclasses import dataclass, field
from typing import Any

from proxy.formats.neutral import (
    Citation,
    Event,
    Part,
    PartCited,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    ToolCall,
)


@dataclass(slots=True, eq=False)
class QueuedPart:
    """A part on its way to the client; `buffered` is what came while another part was open."""

    part: Part
    buffered: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    signature: str | None = None
    is_complete: bool = False
    index: int = -1


class PartQueue:
    """Parts in the order in which they began; the first is open and streams.

    A tool call is waited for until it is complete, since its arguments cannot be continued in a second part. Any other part
    is closed when the next one begins, and goes on in a part of its own if more of it comes.
    """

    def __init__(self) -> None:
        self.queue: list[QueuedPart] = []
        self.next_index = 0
        self.events: list[Event] = []

    def take_events(self) -> list[Event]:
        events, self.events = self.events, []
        return events

    def add(self, part: Part) -> QueuedPart:
        growing = QueuedPart(part)
        self.queue.append(growing)
        self.advance()
        return growing

    def append(self, queued: QueuedPart, text: str, logprobs: tuple[Any, ...] = ()) -> QueuedPart:
        """Gives back the part that took the text: a new one, if the first was closed."""
        if queued not in self.queue:
            if isinstance(queued.part, ToolCall):
                return queued
            queued = self.add(queued.part)
        if queued.index >= 0:
            self.events.append(PartDelta(choice=0, index=queued.index, text=text, logprobs=logprobs))
        else:
            queued.buffered.append((text, logprobs))
        return queued

    def add_citation(self, queued: QueuedPart, citation: Citation) -> None:
        """Told when the part ends, once: a source has an event of its own and stands in the whole item again."""
        if citation not in queued.citations:
            queued.citations.append(citation)

    def complete(self, queued: QueuedPart, signature: str | None = None) -> None:
        queued.signature, queued.is_complete = signature, True
        self.advance()

    def flush(self) -> None:
        for growing in self.queue:
            growing.is_complete = True
        self.advance()

    def advance(self) -> None:
        while self.queue:
            first = self.queue[0]
            if first.index < 0:
                self.open(first)
            if not first.is_complete and (len(self.queue) == 1 or isinstance(first.part, ToolCall)):
                return
            self.close(self.queue.pop(0))

    def open(self, queued: QueuedPart) -> None:
        queued.index = self.next_index
        self.next_index += 1
        self.events.append(PartStarted(choice=0, index=queued.index, part=queued.part))
        self.events += [
            PartDelta(choice=0, index=queued.index, text=text, logprobs=logprobs)
            for text, logprobs in queued.buffered
        ]

    def close(self, queued: QueuedPart) -> None:
        self.events += [
            PartCited(choice=0, index=queued.index, citation=citation) for citation in queued.citations
        ]
        if queued.signature:
            self.events.append(PartSigned(choice=0, index=queued.index, signature=queued.signature))
        self.events.append(PartEnded(choice=0, index=queued.index))
