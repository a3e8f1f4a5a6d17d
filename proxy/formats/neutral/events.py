"""Events of a stream.

A stream begins with Started. Each part has PartStarted, any number of PartDelta, and PartEnded; `index`
counts up from 0 in each choice, and at most one part of a choice is open at a time. Finished comes once for
each choice. UsageReported may come several times, and the last one counts. Failed may come at any point and
ends the stream. A stream without Finished or Failed was cut.
"""

from typing import Any

from proxy.formats.neutral.content import Citation, Frozen, Part
from proxy.formats.neutral.response import ApiError, FinishReason, Usage


class Started(Frozen, tag="started", frozen=True, kw_only=True):
    id: str
    model: str


class PartStarted(Frozen, tag="part_started", frozen=True, kw_only=True):
    """The start of a part, which holds what is known from the start: a tool call's id and name.

    Image, File and Opaque are complete.
    """

    choice: int
    index: int
    part: Part


class PartDelta(Frozen, tag="part_delta", frozen=True, kw_only=True):
    """More text of a Text, Thinking or Refusal, or more arguments of a tool call."""

    choice: int
    index: int
    text: str
    logprobs: tuple[Any, ...] = ()


class PartSigned(Frozen, tag="part_signed", frozen=True, kw_only=True):
    """The signature of the open Thinking or ToolCall."""

    choice: int
    index: int
    signature: str


class PartCited(Frozen, tag="part_cited", frozen=True, kw_only=True):
    """A citation of the open Text; all cited text has come."""

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
