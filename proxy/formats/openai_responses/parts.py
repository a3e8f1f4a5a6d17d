"""Keeps the grammar of the neutral stream, one part open at a time, whatever order a provider's events come in."""

from dataclasses import dataclass, field
from typing import Any

from proxy.formats.neutral import Citation, Event, Part, PartCited, PartDelta, PartEnded, PartSigned, PartStarted, ToolCall


@dataclass(slots=True, eq=False)
class Growing:
    """A part on its way to the client; `held` is what came while another part was open."""

    part: Part
    held: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    signature: str | None = None
    complete: bool = False
    index: int = -1


class PartLine:
    """Parts in the order in which they began; the first is open and streams.

    A tool call is waited for until it is complete, since its arguments cannot be continued in a second part. Any other part
    is closed when the next one begins, and goes on in a part of its own if more of it comes.
    """

    def __init__(self) -> None:
        self.line: list[Growing] = []
        self.begun = 0
        self.events: list[Event] = []

    def take(self) -> list[Event]:
        events, self.events = self.events, []
        return events

    def start(self, part: Part) -> Growing:
        growing = Growing(part)
        self.line.append(growing)
        self.advance()
        return growing

    def write(self, growing: Growing, text: str, logprobs: tuple[Any, ...] = ()) -> Growing:
        """Gives back the part that took the text: a new one, if the first was closed."""
        if growing not in self.line:
            if isinstance(growing.part, ToolCall):
                return growing
            growing = self.start(growing.part)
        if growing.index >= 0:
            self.events.append(PartDelta(choice=0, index=growing.index, text=text, logprobs=logprobs))
        else:
            growing.held.append((text, logprobs))
        return growing

    def cite(self, growing: Growing, citation: Citation) -> None:
        """Told when the part ends, once: a source has an event of its own and stands in the whole item again."""
        if citation not in growing.citations:
            growing.citations.append(citation)

    def end(self, growing: Growing, signature: str | None = None) -> None:
        growing.signature, growing.complete = signature, True
        self.advance()

    def flush(self) -> None:
        for growing in self.line:
            growing.complete = True
        self.advance()

    def advance(self) -> None:
        while self.line:
            first = self.line[0]
            if first.index < 0:
                self.open(first)
            if not first.complete and (len(self.line) == 1 or isinstance(first.part, ToolCall)):
                return
            self.close(self.line.pop(0))

    def open(self, growing: Growing) -> None:
        growing.index = self.begun
        self.begun += 1
        self.events.append(PartStarted(choice=0, index=growing.index, part=growing.part))
        self.events += [PartDelta(choice=0, index=growing.index, text=text, logprobs=logprobs) for text, logprobs in growing.held]

    def close(self, growing: Growing) -> None:
        self.events += [PartCited(choice=0, index=growing.index, citation=citation) for citation in growing.citations]
        if growing.signature:
            self.events.append(PartSigned(choice=0, index=growing.index, signature=growing.signature))
        self.events.append(PartEnded(choice=0, index=growing.index))
