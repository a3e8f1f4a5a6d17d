"""What the meters of streams share: counting output, reading server-sent events, noticing an early end."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from proxy.formats.account_ids import IdReader
from proxy.formats.neutral import Failure
from proxy.formats.sse import END_OF_EVENT, EventSplitter, EventTooLong

INCOMPLETE = Failure(
    kind="network",
    code="upstream_unreachable",
    message="The provider ended its answer before it was complete.",
    status=502,
)


class OutputMeter:
    """Counts the tokens of a stream by what passes. `output_least` is what they are at least: of text that comes in large
    pieces the count is only known within a quarter. `calls_seen` are those of the provider's tools, by kind. `ended`: the last event
    has passed, where the format has one."""

    output_seen = 0
    output_least = 0
    ended = False
    failure: Failure | None = None
    provider_failed = False
    ids: IdReader | None = None
    has_unread = False
    """Whether an event passed that was too long to read: it may have been the last one."""

    @property
    def is_complete(self) -> bool:
        """Return whether the provider said that the answer is complete."""
        return self.ended

    def check_end(self) -> None:
        """Set `failure` if the provider closed the stream before the answer was complete.

        HTTP cannot show this: the provider may end the body properly in the middle of an answer.
        """
        if not (self.is_complete or self.provider_failed or self.has_unread):
            self.failure = INCOMPLETE

    @property
    def calls_seen(self) -> Mapping[str, int]:
        return {}

    def count(self, tokens: int) -> None:
        self.output_seen += tokens
        self.output_least += tokens if tokens == 1 else tokens - tokens // 4


class EventMeter(OutputMeter, ABC):
    """Reads a format whose streams end with an event of their own: a stream without it is the provider's failure."""

    def __init__(self) -> None:
        self.splitter = EventSplitter()

    @abstractmethod
    def read(self, event: bytes) -> None:
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
        self.read(event)
        if self.ids is not None:
            self.ids.read_event(event)

    def finish(self) -> bytes:
        """The blank line that a server left out after its last event, since clients drop that event otherwise."""
        rest = self.splitter.finish()
        self.read_with_ids(rest)
        self.check_end()
        return END_OF_EVENT if rest else b""

    def error_event(self, failure: Failure, request_id: str) -> bytes:
        """Render a failure in place of the rest of the stream, which may have stopped inside an event."""
        return end_of(self.splitter) + self.own_error_event(failure, request_id)

    @abstractmethod
    def own_error_event(self, failure: Failure, request_id: str) -> bytes:
        """Render a failure as an event of this format."""


def end_of(splitter: EventSplitter) -> bytes:
    """Return what ends an event of which only a part was passed on."""
    return END_OF_EVENT if splitter.rest else b""
