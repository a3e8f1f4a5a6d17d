"""The reader of a stream's usage, shared by pass-through and conversion."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from proxy.formats.metering.billable import normalize_tier
from proxy.formats.neutral import Usage, reported_or_none


class UsageReader(ABC):
    """Reads the usage that one stream reports, and counts its output.

    Each format has one subclass, in its `usage.py`: whatever a server sends is read alike, whether the stream
    is passed through or converted. `output_tokens` is the gateway's own count of the output.
    `min_output_tokens` is a lower bound of it: the count of text that comes in large pieces is known only
    within a quarter. `service_tier` is the last tier that an event stated, also before any usage.
    """

    output_tokens = 0
    min_output_tokens = 0
    service_tier = ""

    @property
    @abstractmethod
    def reported(self) -> Usage | None:
        """Return what the stream has reported so far, for the client; None if it has reported nothing.

        It is marked as estimated if more output has come since the report.
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
        """Return the calls of the provider's own tools, by kind, that came before any usage."""
        return {}

    def read_tier(self, reported: Any) -> None:
        """Note the service tier that an event states, if it states one."""
        self.service_tier = normalize_tier(reported) or self.service_tier

    def add_tokens(self, tokens: int) -> None:
        """Add to the gateway's own count of the output."""
        self.output_tokens += tokens
        self.min_output_tokens += tokens if tokens == 1 else tokens - tokens // 4
