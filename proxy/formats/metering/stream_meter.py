"""What the meters of streams share: counting output, reading server-sent events, noticing an early end."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from proxy.formats.account_ids import IdReader
from proxy.formats.neutral import ApiError
from proxy.formats.streaming.sse import EVENT_END, EventSplitter, EventTooLong
from proxy.formats.streaming.stream_errors import STREAM_INTERRUPTED


class OutputMeter:
    """Counts the tokens of a stream by what passes. `min_output_tokens` is what they are at least: of text that comes in large
    pieces the count is only known within a quarter. `server_tool_calls` are those of the provider's tools, by kind. `saw_final_event`: the last event
    has passed, where the format has one.
    """

    output_tokens = 0
    min_output_tokens = 0
    saw_final_event = False
    error: ApiError | None = None
    provider_failed = False
    ids: IdReader | None = None
    has_unread = False
    """Whether an event passed that was too long to read: it may have been the last one."""

    @property
    def is_complete(self) -> bool:
        """Return whether the provider said that the answer is complete."""
        return self.saw_final_event

    def check_end(self) -> None:
        """Set `error` if the provider closed the stream before the answer was complete.

        HTTP cannot show this: the provider may end the body properly in the middle of an answer.
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
    """Reads a format whose streams end with an event of their own: a stream without it is the provider's failure."""

    def __init__(self) -> None:
        self.splitter = EventSplitter()

    @abstractmethod
    def on_event(self, event: bytes) -> None:
        """Counts one event."""

    def feed(self, data: bytes) -> bytes:
        """Takes bytes from the provider, gives those for the client."""
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
        """The blank line that a server left out after its last event, since clients drop that event otherwise."""
        rest = self.splitter.finish()
        self.read_with_ids(rest)
        self.check_end()
        return EVENT_END if rest else b""

    def render_error_event(self, error: ApiError, request_id: str) -> bytes:
        """Render a failure in place of the rest of the stream, which may have stopped inside an event."""
        return event_terminator(self.splitter) + self.render_own_error_event(error, request_id)

    @abstractmethod
    def render_own_error_event(self, failure: ApiError, request_id: str) -> bytes:
        """Render a failure as an event of this format."""


def event_terminator(splitter: EventSplitter) -> bytes:
    """Return what ends an event of which only a part was passed on."""
    return EVENT_END if splitter.buffer else b""
