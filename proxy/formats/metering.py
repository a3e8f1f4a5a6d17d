"""What the meters of streams share: counting output, and reading server-sent events as they pass."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress

from proxy.formats.neutral import Failure
from proxy.formats.sse import END_OF_EVENT, EventSplitter, EventTooLong


class OutputMeter:
    """Counts the tokens of a stream by what passes. `output_least` is what they are at least: of text that comes in large
    pieces the count is only known within a quarter. `calls_seen` are those of the provider's tools, by kind. `ended`: the last event
    has passed, where the format has one."""

    output_seen = 0
    output_least = 0
    ended = False

    @property
    def calls_seen(self) -> Mapping[str, int]:
        return {}

    def count(self, tokens: int) -> None:
        self.output_seen += tokens
        self.output_least += tokens if tokens == 1 else tokens - tokens // 4


class EventMeter(OutputMeter, ABC):
    """Of a format whose streams end with an event of their own: one that breaks off before it is the provider's failure."""

    def __init__(self) -> None:
        self.splitter = EventSplitter()
        self.failure: Failure | None = None
        self.provider_failed = False

    @abstractmethod
    def read(self, event: bytes) -> None:
        """Counts one event."""

    def feed(self, data: bytes) -> bytes:
        """Takes bytes from the provider, gives those for the client."""
        with suppress(EventTooLong):
            for event in self.splitter.feed(data):
                self.read(event)
        return data

    def finish(self) -> bytes:
        """The blank line that a server left out after its last event, since clients drop that event otherwise."""
        rest = self.splitter.finish()
        self.read(rest)
        self.provider_failed = self.provider_failed or not self.ended
        return END_OF_EVENT if rest else b""
