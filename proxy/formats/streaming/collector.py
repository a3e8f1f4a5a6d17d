"""Collects the events of a complete stream into a non-streaming response."""

from collections.abc import Iterable
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
    PartSigned,
    PartStarted,
    Refusal,
    Response,
    Started,
    Text,
    Thinking,
    ToolCall,
    Usage,
    UsageReported,
)


@dataclass(slots=True, eq=False)
class PartBuilder:
    """A part, and the content that arrived after its start."""

    part: Part
    texts: list[str] = field(default_factory=list)
    signature: str | None = None
    citations: list[Citation] = field(default_factory=list)

    def build(self) -> Part:
        """Return the complete part."""
        text, part = "".join(self.texts), self.part
        match part:
            case Text():
                return replace(part, text=part.text + text, citations=(*part.citations, *self.citations))
            case Refusal():
                return replace(part, text=part.text + text)
            case Thinking():
                return replace(part, text=part.text + text, signature=self.signature or part.signature)
            case ToolCall():
                arguments = part.arguments + text
                return replace(part, arguments=arguments, signature=self.signature or part.signature)
            case _:
                return part


@dataclass(slots=True, eq=False)
class ChoiceBuilder:
    """A choice with its parts by index."""

    parts: dict[int, PartBuilder] = field(default_factory=dict)
    logprobs: list[Any] = field(default_factory=list)
    finished: Finished | None = None

    def build(self) -> Choice:
        """Return the complete choice."""
        finished = self.finished or Finished(choice=0, finish_reason="other")
        return Choice(
            parts=tuple(builder.build() for _, builder in sorted(self.parts.items())),
            finish_reason=finished.finish_reason,
            stop_sequence=finished.stop_sequence,
            logprobs=tuple(self.logprobs),
        )


class ResponseCollector:
    """Builds a response from the events of its stream."""

    def __init__(self) -> None:
        self.id = self.model = ""
        self.choices: dict[int, ChoiceBuilder] = {}
        self.usage: Usage | None = None

    def add(self, event: Event) -> None:
        """Add one event."""
        match event:
            case Started():
                self.id, self.model = event.id, event.model
            case PartStarted():
                self._choice(event.choice).parts[event.index] = PartBuilder(event.part)
            case PartDelta():
                self._choice(event.choice).logprobs += event.logprobs
                self._part(event.choice, event.index).texts.append(event.text)
            case PartSigned():
                self._part(event.choice, event.index).signature = event.signature
            case PartCited():
                self._part(event.choice, event.index).citations.append(event.citation)
            case Finished():
                self._choice(event.choice).finished = event
            case UsageReported():
                self.usage = event.usage
            case _:
                pass

    def response(self) -> Response:
        """Return the response that consists of the added events."""
        choices = tuple(builder.build() for _, builder in sorted(self.choices.items()))
        return Response(id=self.id, model=self.model, choices=choices, usage=self.usage)

    def _choice(self, index: int) -> ChoiceBuilder:
        return self.choices.setdefault(index, ChoiceBuilder())

    def _part(self, choice: int, index: int) -> PartBuilder:
        return self._choice(choice).parts[index]


def collect(events: Iterable[Event]) -> Response:
    """Return the response whose stream consists of these events."""
    collector = ResponseCollector()
    for event in events:
        collector.add(event)
    return collector.response()
