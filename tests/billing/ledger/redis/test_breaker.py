"""A Redis that does not answer is given a moment; one that paused once is not."""

import pytest

from billing.ledger.redis.client.circuit_breaker import COOLDOWN_S, FAILURE_THRESHOLD, CircuitBreaker
from billing.ledger.redis.client.protocol import CommandNotSent


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def tripped_breaker(clock: Clock) -> CircuitBreaker:
    breaker = CircuitBreaker(clock)
    for _ in range(FAILURE_THRESHOLD):
        breaker.raise_if_open()
        breaker.record_failure()
        clock.now += 0.06
    return breaker


def test_breaker_opens_after_five_failures_then_probes_once(clock: Clock) -> None:
    breaker = tripped_breaker(clock)
    with pytest.raises(CommandNotSent):
        breaker.raise_if_open()
    clock.now += COOLDOWN_S
    with pytest.raises(CommandNotSent):
        breaker.raise_if_open(is_probe=False)
    breaker.raise_if_open()
    with pytest.raises(CommandNotSent):
        breaker.raise_if_open()
    breaker.record_success()
    breaker.raise_if_open()


def test_failures_in_one_outage_count_once(clock: Clock) -> None:
    breaker = CircuitBreaker(clock)
    for _ in range(100):
        breaker.record_failure()
        clock.now += 0.0001
    breaker.raise_if_open()


def test_success_resets_the_failure_count(clock: Clock) -> None:
    breaker = CircuitBreaker(clock)
    for _ in range(FAILURE_THRESHOLD):
        breaker.record_failure()
        clock.now += 1
        breaker.record_success()
    assert not breaker.is_open
