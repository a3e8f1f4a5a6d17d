"""Timeouts of calls to providers."""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The longest waits for a provider, in seconds.

    `first_chunk_s` is counted from the start of the call: until the first data of a stream, or the headers of
    another response. `idle_s` is the longest pause between two chunks. Keep-alives do not count as data.
    `whole_s` bounds the whole call.
    """

    connect_s: float = 10
    first_chunk_s: float = 300
    idle_s: float = 300
    whole_s: float = math.inf

    def for_call(self, timeout_s: float | None, *, is_stream: bool) -> "Timeouts":
        """Return the timeouts of a call to a target.

        `timeout_s` is the target's own timeout, or None. It limits the whole call. Of a stream, it limits
        only the time until the first data, because a stream may take as long as its model writes.
        """
        if timeout_s is None:
            return self
        return replace(self, first_chunk_s=timeout_s) if is_stream else replace(self, whole_s=timeout_s)
