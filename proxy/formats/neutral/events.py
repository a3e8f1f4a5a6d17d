"""Neutral stream events.

A stream begins with Started. Each part has PartStarted, any number of PartDelta, and PartEnded. `index`
counts up from 0 in each choice, and at most one part of a choice is open at a time. Each choice has one
Finished. UsageReported may occur several times; the last one is final. Failed may occur at any point, and
ends the stream. A stream without Finished and Failed is incomplete.
"""

from typing import Any

from proxy.formats.neutral.content import Citation, Frozen, Part
from proxy.formats.neutral.response import ApiError, FinishReason, Usage


class Started(Frozen, tag="started", frozen=True, kw_only=True):
    id: str
    model: str


class PartStarted(Frozen, tag="part_started", frozen=True, kw_only=True):
    """The start of a part. It contains what is known at the start, such as the id and name of a tool call.

    Image, File and Opaque parts are complete.
    """

    choice: int
    index: int
    part: Part


class PartDelta(Frozen, tag="part_delta", frozen=True, kw_only=True):
    """More text of a Text, Thinking or Refusal part, or more arguments of a tool call."""

    choice: int
    index: int
    text: str
    logprobs: tuple[Any, ...] = ()


class PartSigned(Frozen, tag="part_signed", frozen=True, kw_only=True):
    """The signature of the open Thinking or ToolCall part."""

    choice: int
    index: int
    signature: str


class PartCited(Frozen, tag="part_cited", frozen=True, kw_only=True):
    """A citation of the open Text part. All of the cited text precedes this event."""

    choice: int
    index: int
    citation: Citation


class PartEnded(Frozen, tag="part_ended", frozen=True, kw_only=True):
    choice: int
    index: int


class UsageReported(Frozen, tag="usage", frozen=True, kw_only=True):
    usage: Usage


class Finished(Frozen, tag="finished", frozen=True, kw_only=True):
    choice: int
    finish_reason: FinishReason
    stop_sequence: str | None = None


class Failed(Frozen, tag="failed", frozen=True, kw_only=True):
    error: ApiError


Event = (
    Started | PartStarted | PartDelta | PartSigned | PartCited | PartEnded | UsageReported | Finished | Failed
)
