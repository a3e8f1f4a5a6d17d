"""Meters of streams, which read the usage of server-sent events and detect incomplete streams."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from proxy.formats.account_ids import IdReader
from proxy.formats.metering.usage_reader import UsageReader
from proxy.formats.neutral import ApiError, Usage
from proxy.formats.streaming.sse import EVENT_END, EventSplitter, EventTooLong
from proxy.formats.streaming.stream_errors import STREAM_INTERRUPTED


class OutputMeter:
    """Measures a stream with the usage reader of its format.

    `saw_final_event` is true after the final event. In a format without a final event, it is always false.
    """

    saw_final_event = False
    error: ApiError | None = None
    provider_failed = False
    id_reader: IdReader | None = None
    has_unread = False
    """Whether an event was too long to be read. It may have been the final event."""

    def __init__(self, reader: UsageReader) -> None:
        self.reader = reader

    @property
    def usage(self) -> Usage | None:
        return self.reader.usage

    @property
    def output_tokens(self) -> int:
        return self.reader.output_tokens

    @property
    def min_output_tokens(self) -> int:
        return self.reader.min_output_tokens

    @property
    def service_tier(self) -> str:
        return self.reader.service_tier

    @property
    def server_tool_calls(self) -> Mapping[str, int]:
        return self.reader.server_tool_calls

    @property
    def is_complete(self) -> bool:
        """Return whether the provider marked the response as complete."""
        return self.saw_final_event

    def check_end(self) -> None:
        """Set `error` if the provider closed the stream before the response was complete.

        The gateway cannot detect this by HTTP, because the provider may end the body correctly in the middle
        of a response.
        """
        if not (self.is_complete or self.provider_failed or self.has_unread):
            self.error = STREAM_INTERRUPTED


class EventMeter(OutputMeter, ABC):
    """Meter of a format whose streams end with a final event.

    A stream without the final event is a failure of the provider.
    """

    def __init__(self, reader: UsageReader) -> None:
        super().__init__(reader)
        self.splitter = EventSplitter()

    @abstractmethod
    def on_event(self, event: bytes) -> None:
        """Count one event."""

    def feed(self, data: bytes) -> bytes:
        """Convert bytes from the provider into bytes for the client."""
        try:
            for event in self.splitter.feed(data):
                self.read_with_ids(event)
        except EventTooLong:
            self.has_unread = True
        return data

    def read_with_ids(self, event: bytes) -> None:
        self.on_event(event)
        if self.id_reader is not None:
            self.id_reader.read_event(event)

    def finish(self) -> bytes:
        """Return the blank line after the last event, if the server has not sent it.

        Clients ignore an event without its blank line.
        """
        rest = self.splitter.finish()
        self.read_with_ids(rest)
        self.check_end()
        return EVENT_END if rest else b""

    def render_error_event(self, error: ApiError, request_id: str) -> bytes:
        """Return an error event for the client.

        If the stream has stopped inside of an event, the result ends this event first.
        """
        return event_terminator(self.splitter) + self.render_own_error_event(error, request_id)

    @abstractmethod
    def render_own_error_event(self, failure: ApiError, request_id: str) -> bytes:
        """Return an error event of this format."""


def event_terminator(splitter: EventSplitter) -> bytes:
    """Return the bytes that end an event that was only partly relayed."""
    return EVENT_END if splitter.buffer else b""
