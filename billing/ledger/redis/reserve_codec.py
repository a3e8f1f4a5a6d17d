"""Encodes requests as arguments of the script `reserve`, and decodes its replies. Does no I/O."""

from collections.abc import Iterable, Sequence
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
"""Maximum of a request's estimated tokens. Lua adds numbers of this size exactly."""
MICROSECONDS = 1e6


def encode_args(
    request: ReserveRequest, budgets: tuple[BudgetLimit, ...], epoch: str, process_id: str
) -> tuple[Argument, ...]:
    estimate = request.estimate
    return (
        request.id.hex, epoch,
        min(request.min_nano, MAX_RESERVATION_NANO), min(request.max_nano, MAX_RESERVATION_NANO),
        process_id, request.key_id, estimate.day.isoformat(), min(request.tokens, MAX_TOKENS),
        encode_entry(estimate), len(budgets),
        *limit_args(budgets, request.rate_limits, estimate.day),
    )  # fmt: skip


def encode_extend_args(
    request: ReserveRequest, amount: int, budgets: tuple[BudgetLimit, ...]
) -> tuple[Argument, ...]:
    """Return the arguments of the script `extend`: the id, the amount, and the windows of hard budgets."""
    windows = (
        argument
        for budget in budgets
        if budget.is_hard
        for argument in (window_id(budget, request.estimate.day), budget.limit_nano)
    )
    return (request.id.hex, amount, *windows)


def encode_restore_args(request: ReserveRequest, amount: int, process_id: str) -> tuple[Argument, ...]:
    """Return the arguments of the script `restore`.

    Lists of owners are joined by commas; `-` is an empty list.
    """
    concurrent = (limit for limit in request.rate_limits if limit.concurrent is not None)
    return (
        request.id.hex, min(amount, MAX_RESERVATION_NANO), process_id, request.key_id,
        request.estimate.day.isoformat(), request.tokens, encode_entry(request.estimate),
        join_owners(request.rate_limits), join_owners(concurrent),
    )  # fmt: skip


def join_owners(rate_limits: Iterable[RateLimit]) -> str:
    return ",".join(limit.owner for limit in rate_limits) or "-"


def has_hard_budget(budgets: tuple[BudgetLimit, ...]) -> bool:
    return any(budget.is_hard for budget in budgets)


@lru_cache(maxsize=4096)
def limit_args(
    budgets: tuple[BudgetLimit, ...], rate_limits: tuple[RateLimit, ...], day: date
) -> tuple[Argument, ...]:
    """Return three arguments for each budget (window, mode, limit), then those of the rate limits."""
    budget_args = (
        argument
        for budget in budgets
        for argument in (window_id(budget, day), budget.mode, budget.limit_nano)
    )
    return (*budget_args, *rate_limit_args(rate_limits))


@lru_cache(maxsize=4096)
def rate_limit_args(rate_limits: tuple[RateLimit, ...]) -> tuple[Argument, ...]:
    """Return four arguments for each owner: the owner and its three limits. Empty means no limit."""
    return tuple(
        argument
        for limit in rate_limits
        for argument in (limit.owner, *map(or_empty, (limit.requests, limit.tokens, limit.concurrent)))
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
    """Decode the four numbers that the script returns for each owner.

    They are the counted requests, the microseconds until all of these expire, and the same two numbers for
    tokens.
    """
    if not rate_limits:
        return NO_LIMITS
    quads = [numbers[n : n + 4] for n in range(0, len(numbers), 4)]
    requests = [
        limit_status(limit.requests, *quad[:2])
        for limit, quad in zip(rate_limits, quads, strict=False)
        if limit.requests is not None
    ]
    tokens = [
        limit_status(limit.tokens, *quad[2:])
        for limit, quad in zip(rate_limits, quads, strict=False)
        if limit.tokens is not None
    ]
    return RateLimitStatus(most_restrictive(requests), most_restrictive(tokens))


def limit_status(limit: int, used: int, empty_us: int) -> LimitStatus:
    return LimitStatus(limit, max(limit - used, 0), empty_us / MICROSECONDS)
