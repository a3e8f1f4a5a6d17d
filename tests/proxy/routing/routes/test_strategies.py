"""Cost and latency decide the order of targets."""

import pytest

from billing.pricing import bundled_price
from proxy.models.route_definitions import RouteDefinition, TargetDefinition
from proxy.routing.routes import latency, strategies
from proxy.routing.routes.latency import LatencyAverages
from proxy.routing.routes.route import Pool, RouteTarget
from tests.proxy.routing.routes.conftest import Given, account
from tests.support.operator_accounts import resolution

OPENAI, ANTHROPIC = account("openai"), account("anthropic")


def test_the_cheapest_target_is_first_and_unpriced_ones_are_last(given: Given) -> None:
    models = ("gpt-6-astra", "no-such-model", "gpt-6-luna", "gpt-6-sol")
    route = RouteDefinition(
        "smart", tuple(TargetDefinition("openai", model) for model in models), strategy="cheapest"
    )
    found = resolution("smart", (OPENAI,), routes=(route,), given=given())
    assert [target.model for target in found.targets] == [
        "gpt-6-luna",
        "gpt-6-sol",
        "gpt-6-astra",
        "no-such-model",
    ]


def test_the_estimated_cost_counts_input_and_output() -> None:
    price = bundled_price("openai", "gpt-5.4-mini")
    assert price is not None
    rates = price.base
    assert strategies.estimated_cost(price, (1000, 10)) == 1000 * rates.input + 10 * rates.output


@pytest.fixture
def averages(monkeypatch: pytest.MonkeyPatch) -> LatencyAverages:
    averages = LatencyAverages(clock=lambda: now[0])
    monkeypatch.setattr(strategies, "latency_averages", averages)
    now[0] = 1000.0
    return averages


now = [1000.0]


def order() -> list[str]:
    targets = [RouteTarget(Pool((OPENAI,)), "a"), RouteTarget(Pool((ANTHROPIC,)), "b")]
    ordered = strategies.order(targets, "least_latency", lambda _: None, (1, 1))
    return [target.model for target in ordered]


def test_the_fastest_target_is_first(averages: LatencyAverages) -> None:
    averages.observe(OPENAI, "a", 0.9)
    averages.observe(ANTHROPIC, "b", 0.3)
    assert order() == ["b", "a"]
    for _ in range(20):
        averages.observe(ANTHROPIC, "b", 3)
    assert order() == ["a", "b"]


def test_a_target_that_was_never_measured_is_tried(averages: LatencyAverages) -> None:
    averages.observe(OPENAI, "a", 0.1)
    assert order() == ["b", "a"]


def test_an_old_average_is_measured_again_by_one_request(averages: LatencyAverages) -> None:
    averages.observe(ANTHROPIC, "b", 9)
    now[0] += latency.MAX_AGE_S + 1
    averages.observe(OPENAI, "a", 0.1)
    assert [order()[0] for _ in range(3)] == ["b", "a", "a"]


def test_the_number_of_averages_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "MAX_ENTRIES", 3)
    averages = LatencyAverages()
    for number in range(10):
        averages.observe(OPENAI, f"m{number}", 1)
    assert len(averages.averages) <= 3
