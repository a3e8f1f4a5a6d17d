"""A Redis that does not answer is given a moment; one that paused once is not."""

import pytest

from billing.ledger.redis.breaker import FAILURES, PAUSE_S, Breaker
from billing.ledger.redis.connection import NotSent


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def broken(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    for _ in range(FAILURES):
        breaker.check()
        breaker.failed()
        clock.now += 0.06
    return breaker


def test_after_five_failures_nothing_is_sent_for_a_moment_and_then_one_command(clock: Clock) -> None:
    breaker = broken(clock)
    with pytest.raises(NotSent):
        breaker.check()
    clock.now += PAUSE_S
    with pytest.raises(NotSent):
        breaker.check(probe=False)
    breaker.check()
    with pytest.raises(NotSent):
        breaker.check()
    breaker.worked()
    breaker.check()


def test_a_hundred_commands_that_fail_in_one_pause_are_one_failure(clock: Clock) -> None:
    breaker = Breaker(clock)
    for _ in range(100):
        breaker.failed()
        clock.now += 0.0001
    breaker.check()


def test_what_works_in_between_begins_the_count_anew(clock: Clock) -> None:
    breaker = Breaker(clock)
    for _ in range(FAILURES):
        breaker.failed()
        clock.now += 1
        breaker.worked()
    assert not breaker.is_open
