"""A demand as the arguments of the reserve script, and the script's answer as a reservation or a refusal. No IO."""

from collections.abc import Sequence
from datetime import date
from functools import lru_cache

from billing.budgets.windows import ends_at, window_name
from billing.ledger.interface import (
    MAX_RESERVATION_NANO,
    NO_LIMITS,
    BudgetExceeded,
    BudgetLimit,
    LimitStatus,
    RateLimit,
    RateLimitExceeded,
    RateLimitStatus,
    ReservationGrant,
    ReserveRequest,
)
from billing.ledger.rate_limiter import most_restrictive
from billing.ledger.redis.client.protocol import Argument
from billing.ledger.usage_entry import encode_entry

MAX_TOKENS = 2**40
MICROSECONDS = 1e6


def encode_args(
    request: ReserveRequest, budgets: tuple[BudgetLimit, ...], epoch: str, process_id: str
) -> tuple[Argument, ...]:
    estimate = request.estimate
    return (
        request.id.hex, epoch, min(request.min_nano, MAX_RESERVATION_NANO), min(request.max_nano, MAX_RESERVATION_NANO), process_id, request.key_id,
        estimate.day.isoformat(), min(request.tokens, MAX_TOKENS), encode_entry(estimate), len(budgets),
        *limit_args(budgets, request.rate_limits, estimate.day),
    )  # fmt: skip


@lru_cache(maxsize=4096)
def limit_args(
    budgets: tuple[BudgetLimit, ...], rate_limits: tuple[RateLimit, ...], day: date
) -> tuple[Argument, ...]:
    """Three arguments for each budget, then those of the limits."""
    budget_args = (
        argument
        for budget in budgets
        for argument in (window_id(budget, day), budget.mode, budget.limit_nano)
    )
    return (*budget_args, *rate_limit_args(rate_limits))


@lru_cache(maxsize=4096)
def rate_limit_args(rate_limits: tuple[RateLimit, ...]) -> tuple[Argument, ...]:
    """Four arguments for each: whose it is, and how much of each kind; empty where there is no limit of a kind."""
    return tuple(
        argument
        for terms in rate_limits
        for argument in (terms.owner, *map(or_empty, (terms.requests, terms.tokens, terms.concurrent)))
    )


def window_id(budget: BudgetLimit, day: date) -> str:
    return f"{budget.id}/{window_name(budget.period, day)}"


def or_empty(limit: int | None) -> Argument:
    return "" if limit is None else limit


def decode_reservation(
    request: ReserveRequest, amount: bytes, shadow: int, numbers: Sequence[int]
) -> ReservationGrant:
    request.estimate.blocking_budget_id = shadow or None
    return ReservationGrant(
        request.id, int(amount), decode_rate_status(request.rate_limits, numbers), shadow or None
    )


def decode_rate_limit_exceeded(
    request: ReserveRequest, index: int, kind: bytes, retry_us: int, numbers: Sequence[int]
) -> RateLimitExceeded:
    rate_limit = request.rate_limits[index]
    limit = {
        b"requests": rate_limit.requests,
        b"tokens": rate_limit.tokens,
        b"concurrent": rate_limit.concurrent,
    }[kind]
    assert limit is not None
    denial = RateLimitExceeded(
        rate_limit, kind.decode(), limit, None if retry_us < 0 else retry_us / MICROSECONDS
    )
    denial.rate_limit_status = decode_rate_status((rate_limit,), numbers[-4:])
    return denial


def decode_budget_exceeded(
    request: ReserveRequest, index: int, remaining: bytes, numbers: Sequence[int]
) -> BudgetExceeded:
    budget = request.budgets[index]
    window = window_name(budget.period, request.estimate.day)
    denial = BudgetExceeded(budget, int(remaining), request.min_nano, ends_at(window, request.timezone))
    denial.rate_limit_status = decode_rate_status(request.rate_limits, numbers)
    return denial


def decode_rate_status(rate_limits: tuple[RateLimit, ...], numbers: Sequence[int]) -> RateLimitStatus:
    """From four numbers for each limit: how many requests count and for how long, then the same of tokens."""
    if not rate_limits:
        return NO_LIMITS
    quads = [numbers[n : n + 4] for n in range(0, len(numbers), 4)]
    requests = [
        limit_status(terms.requests, *quad[:2])
        for terms, quad in zip(rate_limits, quads, strict=False)
        if terms.requests is not None
    ]
    tokens = [
        limit_status(terms.tokens, *quad[2:])
        for terms, quad in zip(rate_limits, quads, strict=False)
        if terms.tokens is not None
    ]
    return RateLimitStatus(most_restrictive(requests), most_restrictive(tokens))


def limit_status(limit: int, used: int, empty_us: int) -> LimitStatus:
    return LimitStatus(limit, max(limit - used, 0), empty_us / MICROSECONDS)
