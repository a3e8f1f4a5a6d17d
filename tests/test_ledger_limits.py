"""Limits on requests, tokens and requests at once hold exactly, on every store."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.ledger import BudgetExceeded, Demand, Ledger, RateExceeded, Refused
from billing.ledger.limiter import BUCKET_S, WINDOW_S, Limiter
from billing.ledger.terms import Allowance, LimitTerms, Standing
from keys.models import ApiKey
from tests.ledgers import Books, budget, demand, reserve, settle

store = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]


def on_every_store(test: object) -> object:
    for mark in store:
        test = mark(test)
    return test


@pytest.fixture
async def ledger(books: Books) -> Ledger:
    return await books.start()


@on_every_store
async def test_a_limit_of_ten_requests_admits_ten_whichever_process_is_asked(books: Books, key: ApiKey) -> None:
    gateways = [await books.start() for _ in range(books.processes)]
    limits = (LimitTerms(f"k{key.pk}", requests=10),)
    answers = await asyncio.gather(*(reserve(gateways[n % len(gateways)], demand(key, limits=limits)) for n in range(40)))
    admitted = [answer[1] for answer in answers if not isinstance(answer, Refused)]
    left = sorted(each.standing.requests.left for each in admitted if each.standing.requests)
    assert left == list(range(10))
    refusals = [answer for answer in answers if isinstance(answer, RateExceeded)]
    assert len(refusals) == 30
    assert all(refusal.kind == "requests" and 55 < (refusal.retry_after or 0) <= WINDOW_S + BUCKET_S for refusal in refusals)


@on_every_store
async def test_the_tighter_of_key_and_project_holds_and_is_told(ledger: Ledger, key: ApiKey) -> None:
    limits = (LimitTerms(f"k{key.pk}", requests=5), LimitTerms(f"p{key.project_id}", requests=2))
    standings = [(await ledger.reserve(demand(key, limits=limits))).standing.requests for _ in range(2)]
    assert [(each.limit, each.left) for each in standings if each] == [(2, 1), (2, 0)]
    with pytest.raises(RateExceeded) as refusal:
        await ledger.reserve(demand(key, limits=limits))
    assert refusal.value.terms.covers_project and refusal.value.limit == 2


@on_every_store
async def test_tokens_are_counted_as_estimated_and_then_as_used(ledger: Ledger, key: ApiKey) -> None:
    limits = (LimitTerms(f"k{key.pk}", tokens=100),)
    first = demand(key, limits=limits, tokens=80)
    held = await ledger.reserve(first)
    assert held.standing.tokens is not None and held.standing.tokens.left == 20
    with pytest.raises(RateExceeded) as refusal:
        await ledger.reserve(demand(key, limits=limits, tokens=30))
    assert refusal.value.kind == "tokens"
    first.draft.tokens = type(first.draft.tokens)(input=6, output=4)
    await settle(ledger, first, held, cost=0)
    standing = (await ledger.reserve(demand(key, limits=limits, tokens=30))).standing.tokens
    assert standing is not None and standing.left == 60


@on_every_store
async def test_the_standing_of_limits_is_told_without_counting(ledger: Ledger, key: ApiKey) -> None:
    limits = (LimitTerms(f"k{key.pk}", requests=5, tokens=100), LimitTerms(f"p{key.project_id}", requests=9, tokens=50))
    assert await ledger.standing(key.project_id, ()) == Standing()
    fresh = await ledger.standing(key.project_id, limits)
    assert fresh == Standing(Allowance(5, 5, 0), Allowance(50, 50, 0))
    held = await ledger.reserve(demand(key, limits=limits, tokens=30))
    for _ in range(2):
        now = await ledger.standing(key.project_id, limits)
        assert now.requests is not None and now.tokens is not None
        assert (now.requests.left, now.tokens.left) == (4, 20)
        assert 0 < now.requests.resets_after <= (held.standing.requests or now.requests).resets_after <= WINDOW_S + BUCKET_S


@on_every_store
async def test_a_request_that_a_budget_refuses_counts_in_no_limit(ledger: Ledger, key: ApiKey) -> None:
    limits, terms = (LimitTerms(f"k{key.pk}", requests=5, tokens=100),), await budget(key, 0)
    for _ in range(2):
        with pytest.raises(BudgetExceeded) as refusal:
            await ledger.reserve(demand(key, terms, limits=limits, tokens=30))
        standing = refusal.value.standing
        assert standing.requests is not None and standing.tokens is not None
        assert (standing.requests.left, standing.tokens.left) == (5, 100)


@on_every_store
async def test_a_request_that_alone_needs_more_tokens_than_the_limit_is_told_so(ledger: Ledger, key: ApiKey) -> None:
    with pytest.raises(RateExceeded) as refusal:
        await ledger.reserve(demand(key, limits=(LimitTerms(f"k{key.pk}", tokens=100),), tokens=101))
    assert refusal.value.retry_after is None


@on_every_store
async def test_so_many_requests_at_once_and_one_more_when_one_ends(ledger: Ledger, key: ApiKey) -> None:
    limits = (LimitTerms(f"k{key.pk}", concurrent=2),)
    wanted = [demand(key, limits=limits) for _ in range(3)]
    held = [await ledger.reserve(each) for each in wanted[:2]]
    with pytest.raises(RateExceeded) as refusal:
        await ledger.reserve(wanted[2])
    assert refusal.value.kind == "concurrent"
    await settle(ledger, wanted[0], held[0], cost=0)
    await ledger.reserve(wanted[2])


@on_every_store
async def test_a_request_that_a_budget_refuses_does_not_count_in_the_limits(ledger: Ledger, key: ApiKey) -> None:
    limits = (LimitTerms(f"k{key.pk}", requests=2, tokens=100, concurrent=1),)
    nothing, plenty = await budget(key, 0), await budget(key, 5, whole_project=True)
    for _ in range(5):
        with pytest.raises(BudgetExceeded):
            await ledger.reserve(demand(key, nothing, limits=limits, tokens=60))
    standing = (await ledger.reserve(demand(key, plenty, limits=limits, tokens=60))).standing
    assert standing.requests is not None and standing.tokens is not None
    assert (standing.requests.left, standing.tokens.left) == (1, 40)


@on_every_store
async def test_what_a_dead_process_had_under_way_makes_room_again(books: Books, key: ApiKey) -> None:
    limits = (LimitTerms(f"k{key.pk}", concurrent=1),)
    dying = await books.start()
    await dying.reserve(demand(key, limits=limits))
    await books.kill(dying)
    await books.bury()
    await books.open[0].reserve(demand(key, limits=limits))


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.floats(0, 3), min_size=50, max_size=400), st.integers(1, 40), st.integers(0, 2**32))
def test_no_sixty_seconds_see_more_than_the_limit_and_no_request_waits_longer_than_told(steps: list[float], limit: int, seed: int) -> None:
    clock, chance = Clock(), random.Random(seed)
    limiter, admitted, told = Limiter(clock), [], 0.0
    terms = (LimitTerms("k1", requests=limit),)
    for step in steps:
        clock.now += step * chance.random()
        try:
            limiter.enter(wanted(terms))
        except RateExceeded as refusal:
            assert refusal.retry_after is not None and 0 < refusal.retry_after <= WINDOW_S + BUCKET_S
            told = clock.now + refusal.retry_after
        else:
            admitted.append(clock.now)
            told = 0.0
    for n, moment in enumerate(admitted[limit:]):
        assert moment - admitted[n] >= WINDOW_S
    if told:
        clock.now = max(told, clock.now)
        limiter.enter(wanted(terms))


def test_offered_three_times_its_rate_for_ten_minutes_it_admits_its_rate_within_one_percent() -> None:
    clock = Clock()
    limiter, admitted, terms = Limiter(clock), 0, (LimitTerms("k1", requests=600),)
    for _ in range(10 * 3 * 600):
        clock.now += 60 / 1800
        try:
            limiter.enter(wanted(terms))
            admitted += 1
        except RateExceeded:
            pass
    assert abs(admitted - 6000) <= 60


def test_idle_keys_are_forgotten() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    limiter.enter(wanted((LimitTerms("k1", requests=5, tokens=50),)))
    clock.now += WINDOW_S + 1
    limiter.forget_idle()
    assert not limiter.requests and not limiter.tokens


def wanted(terms: tuple[LimitTerms, ...]) -> Demand:
    return demand(ApiKey(pk=1, project_id=1), limits=terms)
