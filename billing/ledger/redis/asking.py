"""A demand as the arguments of the reserve script, and the script's answer as a reservation or a refusal. No IO."""

from collections.abc import Sequence
from datetime import date
from functools import lru_cache

from billing.ledger.limiter import tightest
from billing.ledger.redis.connection import Argument
from billing.ledger.steps import encode_draft
from billing.ledger.terms import (
    MOST_NANO,
    UNLIMITED,
    Allowance,
    BudgetExceeded,
    BudgetTerms,
    Demand,
    LimitTerms,
    RateExceeded,
    Reservation,
    Standing,
)
from billing.ledger.windows import ends_at, window_name

MOST_TOKENS = 2**40
MICROSECONDS = 1e6


def arguments(demand: Demand, budgets: tuple[BudgetTerms, ...], epoch: str, process: str) -> tuple[Argument, ...]:
    draft = demand.draft
    return (
        demand.id.hex, epoch, min(demand.at_least, MOST_NANO), min(demand.at_most, MOST_NANO), process, demand.key_id,
        draft.day.isoformat(), min(demand.tokens, MOST_TOKENS), encode_draft(draft), len(budgets),
        *terms_of(budgets, demand.limits, draft.day),
    )  # fmt: skip


@lru_cache(maxsize=4096)
def terms_of(budgets: tuple[BudgetTerms, ...], limits: tuple[LimitTerms, ...], day: date) -> tuple[Argument, ...]:
    """Three arguments for each budget, then those of the limits."""
    of_budgets = (argument for budget in budgets for argument in (window_of(budget, day), budget.mode, budget.limit_nano))
    return (*of_budgets, *terms_of_limits(limits))


@lru_cache(maxsize=4096)
def terms_of_limits(limits: tuple[LimitTerms, ...]) -> tuple[Argument, ...]:
    """Four arguments for each: whose it is, and how much of each kind; empty where there is no limit of a kind."""
    return tuple(argument for terms in limits for argument in (terms.owner, *map(given, (terms.requests, terms.tokens, terms.concurrent))))


def window_of(budget: BudgetTerms, day: date) -> str:
    return f"{budget.id}/{window_name(budget.period, day)}"


def given(limit: int | None) -> Argument:
    return "" if limit is None else limit


def granted(demand: Demand, amount: bytes, shadow: int, numbers: Sequence[int]) -> Reservation:
    demand.draft.refusing_budget_id = shadow or None
    return Reservation(demand.id, int(amount), standing_of(demand.limits, numbers), shadow or None)


def rate_exceeded(demand: Demand, index: int, kind: bytes, retry_us: int, numbers: Sequence[int]) -> RateExceeded:
    terms = demand.limits[index]
    limit = {b"requests": terms.requests, b"tokens": terms.tokens, b"concurrent": terms.concurrent}[kind]
    assert limit is not None
    refusal = RateExceeded(terms, kind.decode(), limit, None if retry_us < 0 else retry_us / MICROSECONDS)
    refusal.standing = standing_of((terms,), numbers[-4:])
    return refusal


def budget_exceeded(demand: Demand, index: int, left: bytes, numbers: Sequence[int]) -> BudgetExceeded:
    budget = demand.budgets[index]
    window = window_name(budget.period, demand.draft.day)
    refusal = BudgetExceeded(budget, int(left), demand.at_least, ends_at(window, demand.zone))
    refusal.standing = standing_of(demand.limits, numbers)
    return refusal


def standing_of(limits: tuple[LimitTerms, ...], numbers: Sequence[int]) -> Standing:
    """From four numbers for each limit: how many requests count and for how long, then the same of tokens."""
    if not limits:
        return UNLIMITED
    quads = [numbers[n : n + 4] for n in range(0, len(numbers), 4)]
    requests = [allowance(terms.requests, *quad[:2]) for terms, quad in zip(limits, quads, strict=False) if terms.requests is not None]
    tokens = [allowance(terms.tokens, *quad[2:]) for terms, quad in zip(limits, quads, strict=False) if terms.tokens is not None]
    return Standing(tightest(requests), tightest(tokens))


def allowance(limit: int, used: int, empty_us: int) -> Allowance:
    return Allowance(limit, max(limit - used, 0), empty_us / MICROSECONDS)
