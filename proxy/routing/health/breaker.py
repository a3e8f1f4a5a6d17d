"""Circuit breaker of a target: it stops calls to a provider that fails, and tries again later.

It is closed while calls may be made, and open after repeated failures. After OPEN_S it is half-open: one call
is the probe, whose result closes it or opens it again.
"""

from enum import Enum

from proxy.routing.health.published import Problem

FAILURE_THRESHOLD = 5
"""Consecutive failures that open the breaker."""
MAX_FAILURE_RATE = 0.5
"""The share of failed calls that opens the breaker."""
MIN_RATE_CALLS = 20
"""The share of failed calls counts only if there were at least this many calls."""
RATE_WINDOW_S = 30
"""The time in seconds in which calls are counted for the share of failed calls."""
OPEN_S = 10
"""Seconds until an open breaker is half-open.

If a probe has no result after this time, another call becomes the probe.
"""


class BreakerState(Enum):
    """The state of a breaker."""

    CLOSED = "closed"
    HALF_OPEN = "half-open"
    OPEN = "open"


class Breaker:
    """The breaker of one target. Times are Unix times in seconds."""

    def __init__(self) -> None:
        self.open_until = self.window_start = 0.0
        self.is_open = False
        self.consecutive_failures = self.calls = self.failures = 0

    def state(self, now: float) -> BreakerState:
        """Return the state of the breaker."""
        if not self.is_open:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self.open_until else BreakerState.HALF_OPEN

    def begin_call(self, now: float) -> bool:
        """Return whether a call may be made. If the breaker is half-open, this call is the probe."""
        if not self.is_open:
            return True
        if now < self.open_until:
            return False
        # Other calls of the target are refused until the probe has a result.
        self.open_until = now + OPEN_S
        return True

    def record_response(self) -> bool:
        """Close the breaker: the provider has responded to a call. Return whether it was open."""
        was_open = self.is_open
        if was_open:
            self.close()
        return was_open

    def record_success(self, now: float) -> None:
        """Count a call that succeeded."""
        self.record_response()
        self.consecutive_failures = 0
        self.count(now, failed=False)

    def record_failure(self, now: float) -> bool:
        """Count a call that failed. Return whether this has opened a closed breaker."""
        self.consecutive_failures += 1
        self.count(now, failed=True)
        if self.is_open:
            self.open_until = now + OPEN_S
            return False
        if self.consecutive_failures < FAILURE_THRESHOLD and not self.has_high_failure_rate:
            return False
        self.open(now + OPEN_S)
        return True

    @property
    def has_high_failure_rate(self) -> bool:
        return self.calls >= MIN_RATE_CALLS and self.failures >= MAX_FAILURE_RATE * self.calls

    def count(self, now: float, *, failed: bool) -> None:
        if now - self.window_start >= RATE_WINDOW_S:
            self.window_start, self.calls, self.failures = now, 0, 0
        self.calls += 1
        self.failures += failed

    def open(self, until: float) -> None:
        """Stop calls until a time."""
        self.is_open, self.open_until = True, until

    def take_over(self, problem: Problem | None, *, was_published: bool) -> None:
        """Take over the state of the other processes.

        `was_published` is true if the state that they published before had this breaker as open.
        """
        if problem is not None:
            self.open(max(problem.until, self.open_until if self.is_open else 0.0))
        elif was_published and self.is_open:
            self.close()

    def close(self) -> None:
        """Allow calls again, and forget earlier failures."""
        self.is_open = False
        self.consecutive_failures = self.calls = self.failures = 0
