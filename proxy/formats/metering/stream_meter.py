"""Meters of streams: counting output, reading server-sent events, detecting an early end."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from proxy.formats.account_ids import IdReader
from proxy.formats.neutral import ApiError
from proxy.formats.streaming.sse import EVENT_END, EventSplitter, EventTooLong
from proxy.formats.streaming.stream_errors import STREAM_INTERRUPTED


class OutputMeter:
    """Counts the output tokens of a stream.

    `min_output_tokens` is a lower bound: the count of text that comes in large pieces is known only
    within a quarter. `server_tool_calls` are calls of the provider's own tools, by kind.
    `saw_final_event` is whether the last event has passed, in a format that has one.
    """

    output_tokens = 0
    min_output_tokens = 0
    saw_final_event = False
    error: ApiError | None = None
    provider_failed = False
    ids: IdReader | None = None
    has_unread = False
    """Whether an event passed that was too long to read; it may have been the last one."""

    @property
    def is_complete(self) -> bool:
        """Return whether the provider marked the response as complete."""
        return self.saw_final_event

    def check_end(self) -> None:
        """Set `error` if the provider closed the stream before the response was complete.

        HTTP cannot show this: the provider may end the body properly in the middle of a response.
        """
        if not (self.is_complete or self.provider_failed or self.has_unread):
            self.error = STREAM_INTERRUPTED

    @property
    def server_tool_calls(self) -> Mapping[str, int]:
        return {}

    def add_tokens(self, tokens: int) -> None:
        self.output_tokens += tokens
        self.min_output_tokens += tokens if tokens == 1 else tokens - tokens // 4


class EventMeter(OutputMeter, ABC):
    """Meters a format whose streams end with a final event: a stream without it is the provider's failure."""

    def __init__(self) -> None:
        self.splitter = EventSplitter()

    @abstractmethod
    def on_event(self, event: bytes) -> None:
        """Count one event."""

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the provider and return those for the client."""
        try:
            for event in self.splitter.feed(data):
                self.read_with_ids(event)
        except EventTooLong:
            self.has_unread = True
        return data

    def read_with_ids(self, event: bytes) -> None:
        self.on_event(event)
        if self.ids is not None:
            self.ids.read_event(event)

    def finish(self) -> bytes:
        """Return the blank line that a server left out after its last event, which clients drop otherwise."""
        rest = self.splitter.finish()
        self.read_with_ids(rest)
        self.check_end()
        return EVENT_END if rest else b""

    def render_error_event(self, error: ApiError, request_id: str) -> bytes:
        """Return an error event for the client; the stream may have stopped inside an event."""
        return event_terminator(self.splitter) + self.render_own_error_event(error, request_id)

    @abstractmethod
    def render_own_error_event(self, failure: ApiError, request_id: str) -> bytes:
        """Return an error event of this format."""


def event_terminator(splitter: EventSplitter) -> bytes:
    """Return what ends an event of which only a part was passed on."""
    return EVENT_END if splitter.buffer else b""
