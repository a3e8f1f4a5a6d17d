"""Keeps requests from waiting for a Redis that does not answer."""

import time
from collections.abc import Callable

from billing.ledger.redis.connection import NotSent

FAILURES = 5
PAUSE_S = 1.0
EPISODE_S = 0.05
"""Commands that fail together, because Redis paused once, are one failure."""


class Breaker:
    """After FAILURES in a row nothing is let through for PAUSE_S; then one command is, and its outcome decides."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.failures = 0
        self.failed_at = -EPISODE_S
        self.shut_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether requests are told at once that Redis does not answer."""
        return self.failures >= FAILURES

    def check(self, *, probe: bool = True) -> None:
        """Raises NotSent unless the command may go. `probe`: it is one whose outcome is told."""
        if not self.is_open:
            return
        now = self.clock()
        if now < self.shut_until or not probe:
            raise NotSent("redis has failed several times: it is given a moment")
        self.shut_until = now + PAUSE_S

    def failed(self) -> None:
        now = self.clock()
        if now - self.failed_at < EPISODE_S:
            return
        self.failed_at = now
        self.failures += 1
        if self.failures == FAILURES:
            self.shut_until = now + PAUSE_S

    def worked(self) -> None:
        self.failures = 0
