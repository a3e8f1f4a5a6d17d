"""Keeps requests from waiting for a Redis that does not answer."""

import time
from collections.abc import Callable

from billing.ledger.redis.client.protocol import CommandNotSent

FAILURE_THRESHOLD = 5
COOLDOWN_S = 1.0
FAILURE_WINDOW_S = 0.05
"""Commands that fail together, because Redis paused once, are one failure."""


class CircuitBreaker:
    """After FAILURES in a row nothing is let through for PAUSE_S; then one command is, and its outcome decides."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.failures = 0
        self.last_failure_at = -FAILURE_WINDOW_S
        self.open_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether requests are told at once that Redis does not answer."""
        return self.failures >= FAILURE_THRESHOLD

    def raise_if_open(self, *, is_probe: bool = True) -> None:
        """Raises NotSent unless the command may go. `is_probe`: it is one whose outcome is told."""
        if not self.is_open:
            return
        now = self.clock()
        if now < self.open_until or not is_probe:
            raise CommandNotSent("redis has failed several times: it is given a moment")
        self.open_until = now + COOLDOWN_S

    def record_failure(self) -> None:
        now = self.clock()
        if now - self.last_failure_at < FAILURE_WINDOW_S:
            return
        self.last_failure_at = now
        self.failures += 1
        if self.failures == FAILURE_THRESHOLD:
            self.open_until = now + COOLDOWN_S

    def record_success(self) -> None:
        self.failures = 0
