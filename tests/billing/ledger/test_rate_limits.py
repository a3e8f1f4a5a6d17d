"""Limits on requests, tokens and concurrent requests are exact, on every store."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.ledger import AdmissionDenied, BudgetExceeded, Ledger, RateLimitExceeded, ReserveRequest
from billing.ledger.interface import LimitStatus, RateLimit, RateLimitStatus
from billing.ledger.rate_limiter import BUCKET_S, WINDOW_S, RateLimiter
from keys.models import ApiKey
from tests.support.ledger_harness import LedgerHarness, budget, reserve, reserve_request, settle

store = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]


def on_every_store(test: object) -> object:
    for mark in store:
        test = mark(test)
    return test


@pytest.fixture
async def ledger(ledger_harness: LedgerHarness) -> Ledger:
    return await ledger_harness.start()


@on_every_store
async def test_limit_of_ten_requests_admits_ten_across_processes(
    ledger_harness: LedgerHarness, key: ApiKey
) -> None:
    gateways = [await ledger_harness.start() for _ in range(ledger_harness.processes)]
    limits = (RateLimit(f"k{key.pk}", requests=10),)
    results = await asyncio.gather(
        *(reserve(gateways[n % len(gateways)], reserve_request(key, limits=limits)) for n in range(40))
    )
    admitted = [result[1] for result in results if not isinstance(result, AdmissionDenied)]
    remaining = sorted(
        each.rate_limit_status.requests.remaining for each in admitted if each.rate_limit_status.requests
    )
    assert remaining == list(range(10))
    denials = [result for result in results if isinstance(result, RateLimitExceeded)]
    assert len(denials) == 30
    assert all(
        denial.kind == "requests" and 55 < (denial.retry_after or 0) <= WINDOW_S + BUCKET_S
        for denial in denials
    )


@on_every_store
async def test_most_restrictive_limit_applies_and_is_reported(ledger: Ledger, key: ApiKey) -> None:
    limits = (RateLimit(f"k{key.pk}", requests=5), RateLimit(f"p{key.project_id}", requests=2))
    statuses = [
        (await ledger.reserve(reserve_request(key, limits=limits))).rate_limit_status.requests
        for _ in range(2)
    ]
    assert [(each.limit, each.remaining) for each in statuses if each] == [(2, 1), (2, 0)]
    with pytest.raises(RateLimitExceeded) as denial:
        await ledger.reserve(reserve_request(key, limits=limits))
    assert denial.value.rate_limit.owner_kind == "project" and denial.value.limit == 2


@on_every_store
async def test_estimated_tokens_are_replaced_by_actual_use(ledger: Ledger, key: ApiKey) -> None:
    limits = (RateLimit(f"k{key.pk}", tokens=100),)
    first = reserve_request(key, limits=limits, tokens=80)
    grant = await ledger.reserve(first)
    assert grant.rate_limit_status.tokens is not None and grant.rate_limit_status.tokens.remaining == 20
    with pytest.raises(RateLimitExceeded) as denial:
        await ledger.reserve(reserve_request(key, limits=limits, tokens=30))
    assert denial.value.kind == "tokens"
    first.estimate.tokens = type(first.estimate.tokens)(input=6, output=4)
    await settle(ledger, first, grant, cost=0)
    status = (await ledger.reserve(reserve_request(key, limits=limits, tokens=30))).rate_limit_status.tokens
    assert status is not None and status.remaining == 60


@on_every_store
async def test_rate_limit_status_is_read_without_counting(ledger: Ledger, key: ApiKey) -> None:
    limits = (
        RateLimit(f"k{key.pk}", requests=5, tokens=100),
        RateLimit(f"p{key.project_id}", requests=9, tokens=50),
    )
    assert await ledger.rate_limit_status(key.project_id, ()) == RateLimitStatus()
    fresh = await ledger.rate_limit_status(key.project_id, limits)
    assert fresh == RateLimitStatus(LimitStatus(5, 5, 0), LimitStatus(50, 50, 0))
    grant = await ledger.reserve(reserve_request(key, limits=limits, tokens=30))
    for _ in range(2):
        now = await ledger.rate_limit_status(key.project_id, limits)
        assert now.requests is not None and now.tokens is not None
        assert (now.requests.remaining, now.tokens.remaining) == (4, 20)
        assert (
            0
            < now.requests.resets_after
            <= (grant.rate_limit_status.requests or now.requests).resets_after
            <= WINDOW_S + BUCKET_S
        )


@on_every_store
async def test_rate_limit_status_of_a_budget_denial_is_unchanged(ledger: Ledger, key: ApiKey) -> None:
    limits = (RateLimit(f"k{key.pk}", requests=5, tokens=100),)
    empty_budget = await budget(key, 0)
    for _ in range(2):
        with pytest.raises(BudgetExceeded) as denial:
            await ledger.reserve(reserve_request(key, empty_budget, limits=limits, tokens=30))
        status = denial.value.rate_limit_status
        assert status.requests is not None and status.tokens is not None
        assert (status.requests.remaining, status.tokens.remaining) == (5, 100)


@on_every_store
async def test_request_larger_than_the_token_limit_gets_a_clear_error(ledger: Ledger, key: ApiKey) -> None:
    with pytest.raises(RateLimitExceeded) as denial:
        await ledger.reserve(reserve_request(key, limits=(RateLimit(f"k{key.pk}", tokens=100),), tokens=101))
    assert denial.value.retry_after is None


@on_every_store
async def test_concurrency_limit_admits_one_more_when_one_ends(ledger: Ledger, key: ApiKey) -> None:
    limits = (RateLimit(f"k{key.pk}", concurrent=2),)
    requests = [reserve_request(key, limits=limits) for _ in range(3)]
    grants = [await ledger.reserve(each) for each in requests[:2]]
    with pytest.raises(RateLimitExceeded) as denial:
        await ledger.reserve(requests[2])
    assert denial.value.kind == "concurrent"
    await settle(ledger, requests[0], grants[0], cost=0)
    await ledger.reserve(requests[2])


@on_every_store
async def test_request_denied_by_a_budget_counts_in_no_rate_limit(ledger: Ledger, key: ApiKey) -> None:
    limits = (RateLimit(f"k{key.pk}", requests=2, tokens=100, concurrent=1),)
    nothing, plenty = await budget(key, 0), await budget(key, 5, whole_project=True)
    for _ in range(5):
        with pytest.raises(BudgetExceeded):
            await ledger.reserve(reserve_request(key, nothing, limits=limits, tokens=60))
    status = (await ledger.reserve(reserve_request(key, plenty, limits=limits, tokens=60))).rate_limit_status
    assert status.requests is not None and status.tokens is not None
    assert (status.requests.remaining, status.tokens.remaining) == (1, 40)


@on_every_store
async def test_slots_of_a_dead_process_are_freed(ledger_harness: LedgerHarness, key: ApiKey) -> None:
    limits = (RateLimit(f"k{key.pk}", concurrent=1),)
    dying = await ledger_harness.start()
    await dying.reserve(reserve_request(key, limits=limits))
    await ledger_harness.kill(dying)
    await ledger_harness.recover_dead()
    await ledger_harness.running[0].reserve(reserve_request(key, limits=limits))


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.floats(0, 3), min_size=50, max_size=400), st.integers(1, 40), st.integers(0, 2**32))
def test_limit_holds_in_every_60_seconds_and_retry_after_is_exact(
    steps: list[float], limit: int, seed: int
) -> None:
    clock, chance = Clock(), random.Random(seed)
    limiter, admitted, retry_at = RateLimiter(clock), [], 0.0
    rate_limits = (RateLimit("k1", requests=limit),)
    for step in steps:
        clock.now += step * chance.random()
        try:
            limiter.acquire(rate_limited_request(rate_limits))
        except RateLimitExceeded as denial:
            assert denial.retry_after is not None and 0 < denial.retry_after <= WINDOW_S + BUCKET_S
            retry_at = clock.now + denial.retry_after
        else:
            admitted.append(clock.now)
            retry_at = 0.0
    for n, moment in enumerate(admitted[limit:]):
        assert moment - admitted[n] >= WINDOW_S
    if retry_at:
        clock.now = max(retry_at, clock.now)
        limiter.acquire(rate_limited_request(rate_limits))


def test_limiter_admits_its_rate_under_triple_load() -> None:
    clock = Clock()
    limiter, admitted = RateLimiter(clock), 0
    rate_limits = (RateLimit("k1", requests=600),)
    for _ in range(10 * 3 * 600):
        clock.now += 60 / 1800
        try:
            limiter.acquire(rate_limited_request(rate_limits))
            admitted += 1
        except RateLimitExceeded:
            pass
    assert abs(admitted - 6000) <= 60


def test_idle_keys_are_dropped_from_memory() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    limiter.acquire(rate_limited_request((RateLimit("k1", requests=5, tokens=50),)))
    clock.now += WINDOW_S + 1
    limiter.drop_idle()
    assert not limiter.requests and not limiter.tokens


def rate_limited_request(rate_limit: tuple[RateLimit, ...]) -> ReserveRequest:
    return reserve_request(ApiKey(pk=1, project_id=1), limits=rate_limit)
