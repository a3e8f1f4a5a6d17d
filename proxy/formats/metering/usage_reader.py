"""Base class of the usage readers of streams, which pass-through and conversion share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from proxy.formats.metering.billable import parse_tier
from proxy.formats.neutral import Usage, reported_or_none


class UsageReader(ABC):
    """Reads the usage that one stream reports, and counts the output of the stream.

    Each format has one subclass, in its `usage.py`. The usage is therefore the same if the stream passes
    through and if it is converted. `output_tokens` is the gateway's count of the output. It is an estimate.
    `min_output_tokens` is a lower bound of it: for chunks of several tokens, the estimate may be a quarter
    too high. `service_tier` is the last tier that an event stated, even before any usage.
    """

    output_tokens = 0
    min_output_tokens = 0
    service_tier = ""

    @property
    @abstractmethod
    def reported(self) -> Usage | None:
        """Return the usage to show to the client: the last report of the stream, or None.

        It is marked as estimated if more output has arrived since the report.
        """

    @property
    def usage(self) -> Usage | None:
        """Return the reported usage; None if the stream has reported no tokens."""
        usage = reported_or_none(self.reported)
        if usage is None or usage.service_tier or not self.service_tier:
            return usage
        return replace(usage, service_tier=self.service_tier)

    @property
    def server_tool_calls(self) -> Mapping[str, int]:
        """Return the calls of server tools, by kind, that arrived before any usage."""
        return {}

    def read_tier(self, reported: Any) -> None:
        """Store the service tier of an event, if the event states one."""
        self.service_tier = parse_tier(reported) or self.service_tier

    def add_tokens(self, tokens: int) -> None:
        """Add tokens to the gateway's count of the output."""
        self.output_tokens += tokens
        self.min_output_tokens += tokens if tokens == 1 else tokens - tokens // 4
