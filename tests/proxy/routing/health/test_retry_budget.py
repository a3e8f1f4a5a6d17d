"""The retry budget of a target."""

import pytest

from proxy.routing.health.retry_budget import FLOOR, WINDOW_S, RetryBudget

NOW = 1000.0


@pytest.mark.parametrize("requests", [50, 100, 1000])
def test_retries_add_at_most_a_fifth_to_the_calls(requests: int) -> None:
    budget, calls = RetryBudget(), 0
    for _ in range(requests):
        budget.add_request(NOW)
        calls += 1
        while budget.take_retry(NOW):
            calls += 1
    assert calls <= 1.2 * requests


def test_a_lone_request_gets_all_its_retries() -> None:
    budget = RetryBudget()
    for minute in range(10):
        now = NOW + 60 * minute
        budget.add_request(now)
        assert all(budget.take_retry(now) for _ in range(3))


def test_the_floor_applies_again_in_the_next_window() -> None:
    budget = RetryBudget()
    budget.add_request(NOW)
    assert sum(budget.take_retry(NOW) for _ in range(20)) == FLOOR
    assert sum(budget.take_retry(NOW + WINDOW_S) for _ in range(20)) == FLOOR
