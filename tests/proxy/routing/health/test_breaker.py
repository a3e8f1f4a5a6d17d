"""The circuit breaker of a target, with a fake clock."""

from proxy.routing.health.breaker import (
    FAILURE_THRESHOLD,
    MIN_RATE_CALLS,
    OPEN_S,
    RATE_WINDOW_S,
    Breaker,
    BreakerState,
)

NOW = 1000.0


def opened() -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURE_THRESHOLD):
        breaker.record_failure(NOW)
    return breaker


def test_it_opens_after_consecutive_failures() -> None:
    breaker = Breaker()
    assert [breaker.record_failure(NOW) for _ in range(FAILURE_THRESHOLD)] == [False] * 4 + [True]
    assert breaker.state(NOW) is BreakerState.OPEN and not breaker.begin_call(NOW)


def test_a_success_between_failures_keeps_it_closed() -> None:
    breaker = Breaker()
    for _ in range(3):
        for _ in range(FAILURE_THRESHOLD - 1):
            breaker.record_failure(NOW)
        breaker.record_success(NOW)
        breaker.count(NOW, failed=False)
        breaker.count(NOW + RATE_WINDOW_S, failed=False)
    assert breaker.begin_call(NOW)


def test_it_opens_at_a_high_failure_rate() -> None:
    breaker = Breaker()
    results = []
    for number in range(MIN_RATE_CALLS):
        if number % 2:
            results.append(breaker.record_failure(NOW))
        else:
            breaker.record_success(NOW)
    assert results == [False] * (MIN_RATE_CALLS // 2 - 1) + [True]


def test_old_calls_do_not_count_in_the_failure_rate() -> None:
    breaker = Breaker()
    for number in range(MIN_RATE_CALLS):
        now = NOW + number * RATE_WINDOW_S / 10
        breaker.record_success(now) if number % 2 else breaker.record_failure(now)
    assert breaker.state(NOW) is BreakerState.CLOSED


def test_one_probe_is_made_when_it_is_half_open() -> None:
    breaker, later = opened(), NOW + OPEN_S
    assert breaker.state(later) is BreakerState.HALF_OPEN
    assert [breaker.begin_call(later) for _ in range(3)] == [True, False, False]


def test_a_probe_with_a_response_closes_it() -> None:
    breaker = opened()
    assert breaker.begin_call(NOW + OPEN_S)
    breaker.record_response()
    assert breaker.state(NOW + OPEN_S) is BreakerState.CLOSED and not breaker.consecutive_failures


def test_a_failed_probe_keeps_it_open() -> None:
    breaker, later = opened(), NOW + OPEN_S
    assert breaker.begin_call(later) and not breaker.record_failure(later)
    assert not breaker.begin_call(later + OPEN_S - 1) and breaker.begin_call(later + OPEN_S)
