"""The circuit breaker: while Redis does not answer, commands of requests fail at once."""

import time
from collections.abc import Callable

from billing.ledger.redis.client.protocol import CommandNotSent

FAILURE_THRESHOLD = 5
COOLDOWN_S = 1.0
FAILURE_WINDOW_S = 0.05
"""Failures within this time after a counted failure do not count: Redis may only have paused once."""


class CircuitBreaker:
    """Opens after FAILURE_THRESHOLD consecutive failures.

    While it is open, it allows one command every COOLDOWN_S as a probe. The first success closes the breaker.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.failures = 0
        self.last_failure_at = -FAILURE_WINDOW_S
        self.open_until = 0.0

    @property
    def is_open(self) -> bool:
        """Return whether commands of requests fail at once, without being sent."""
        return self.failures >= FAILURE_THRESHOLD

    def raise_if_open(self, *, is_probe: bool = True) -> None:
        """Raise CommandNotSent if a command may not be sent now.

        `is_probe`: the caller records success as well as failure, so its command can be the probe.
        """
        if not self.is_open:
            return
        now = self.clock()
        if now < self.open_until or not is_probe:
            raise CommandNotSent("circuit breaker open: Redis has failed several times in a row")
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
