"""Strategies: the order in which the targets of a route are called."""

import random
from collections.abc import Callable, Sequence
from typing import assert_never

from billing.pricing import Price
from proxy.models.route_definitions import Strategy
from proxy.routing.routes.latency import latency_averages
from proxy.routing.routes.route import RouteTarget

ASSUMED_OUTPUT_TOKENS = 500
"""The output tokens that are assumed for the estimated cost, unless the client sets a lower limit."""
UNKNOWN_COST = float("inf")

PriceOf = Callable[[RouteTarget], Price | None]


def order(
    targets: Sequence[RouteTarget], strategy: Strategy, price_of: PriceOf, tokens: tuple[int, int]
) -> Sequence[RouteTarget]:
    """Return the targets in the order of a strategy.

    `tokens` are the estimated input and output tokens of the request.
    """
    if len(targets) < 2:
        return targets
    match strategy:
        case "ordered":
            return targets
        case "weighted":
            return sorted(targets, key=lambda target: random.expovariate(target.weight))
        case "cheapest":
            return sorted(targets, key=lambda target: estimated_cost(price_of(target), tokens))
        case "least_latency":
            return sorted(targets, key=estimated_latency)
    assert_never(strategy)


def estimated_cost(price: Price | None, tokens: tuple[int, int]) -> float:
    """Return the estimated cost of a request, in nano-USD times a million; infinite if it is not known."""
    if price is None:
        return UNKNOWN_COST
    rates = price.base
    return rates.input * tokens[0] + rates.output * tokens[1] + price.request_fee_nano * 1_000_000


def estimated_latency(target: RouteTarget) -> float:
    return latency_averages.next_estimate(target.pool.accounts[0], target.model)
