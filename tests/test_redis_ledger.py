"""The ledger on Redis: budgets hold in several processes, and nothing is lost or counted twice, whichever server dies."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.cache import cache
from django.db.models import Sum

from billing.ledger import BudgetExceeded, Demand, Entry, LedgerUnavailable, RateExceeded, Refused, Reservation
from billing.ledger.redis import Policy, RedisLedger, reader
from billing.ledger.redis.books import NEVER_DRAINED
from billing.ledger.redis.breaker import FAILURES
from billing.ledger.redis.connection import StoreUnavailable
from billing.ledger.redis.memory import Posting
from billing.ledger.redis.scripts import prefix
from billing.ledger.session import DatabaseErrors
from billing.ledger.terms import BudgetTerms, LimitTerms, Spending
from billing.models import Budget, Correction, Period, UsageRecord
from keys.models import ApiKey
from projects.ids import uuid7
from tests.environment import ON_SERVERS
from tests.services import Server, valkey_server

pytestmark = [
    pytest.mark.databases,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not ON_SERVERS, reason="needs Redis and PostgreSQL"),
]

PRICE = 1_000
TODAY = date(2026, 11, 20)
WINDOW = "2026-11-20"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
PROCESSES = 4
PATIENT = Policy(timeout_s=0.3)
"""Redis shares its two cores with the tests."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A Valkey of its own, with an append-only file: tests kill it."""
    with valkey_server(append_only=True) as server:
        yield server


@pytest.fixture
async def gateways(transactional_db: None, server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[RedisLedger]]:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        monkeypatch.setattr(reader, "client", lambda: client)
        ledgers = [RedisLedger(server.url, PATIENT) for _ in range(PROCESSES)]
        for ledger in ledgers:
            await ledger.start()
        yield ledgers
        for ledger in ledgers:
            await ledger.stop()


def budget(key: ApiKey, requests: int, *, period: Period = Period.DAY, whole_project: bool = False, mode: str = "hard") -> BudgetTerms:
    """A budget that pays for so many requests."""
    owner = None if whole_project else key
    row = Budget.objects.create(project=key.project, key=owner, period=period, limit_nano=requests * PRICE, mode=mode)
    return BudgetTerms(row.pk, row.period, row.limit_nano, covers_project=whole_project, mode=mode)


def demand(key: ApiKey, *budgets: BudgetTerms, limits: tuple[LimitTerms, ...] = (), tokens: int = 10, day: date = TODAY) -> Demand:
    draft = Entry(
        id=uuid7(), project_id=key.project_id, key_id=key.pk, day=day, created_at=NOON, request_id="request", operation="chat",
        format="openai", cost_nano=PRICE, estimated=True,
    )  # fmt: skip
    return Demand(draft.id, key.project_id, key.pk, ZoneInfo("UTC"), PRICE, PRICE, budgets, limits, tokens, draft)


async def reserve(ledger: RedisLedger, wanted: Demand) -> tuple[Demand, Reservation] | Refused | LedgerUnavailable:
    try:
        return wanted, await ledger.reserve(wanted)
    except (Refused, LedgerUnavailable) as refusal:
        return refusal


async def settle(ledger: RedisLedger, wanted: Demand, held: Reservation, cost: int) -> None:
    wanted.draft.cost_nano, wanted.draft.estimated = cost, False
    await ledger.settle(held, wanted.draft)


async def taken(key: ApiKey, terms: BudgetTerms, window: str = WINDOW) -> Spending | None:
    """What is spent and reserved in a budget's window."""
    (spending,) = await sync_to_async(reader.spending)(key.project_id, [(terms.id, window)])
    return spending


async def recorded() -> int:
    total: int = (await UsageRecord.objects.aaggregate(total=Sum("cost_nano", default=0)))["total"]
    return total


async def write_all(gateways: list[RedisLedger]) -> None:
    """Brings every record to SQL, whatever it takes."""
    async with asyncio.timeout(30):
        while True:
            with suppress(StoreUnavailable, *DatabaseErrors):
                for ledger in gateways:
                    await ledger.pay_debts()
                if not any(ledger.memory.owed() or ledger.memory.voids for ledger in gateways) and not await gateways[0].drainer.drain():
                    return
            await asyncio.sleep(0.05)


async def assert_books_agree(gateways: list[RedisLedger], key: ApiKey, terms: BudgetTerms, reserved: int = 0) -> None:
    await write_all(gateways)
    spent = await recorded()
    assert await taken(key, terms) == Spending(spent, reserved)


async def test_of_200_requests_at_once_to_each_of_4_processes_exactly_the_50_that_the_budget_pays_for_are_admitted(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    terms = await sync_to_async(budget)(key, 50)
    answers = await asyncio.gather(*(reserve(gateways[n % PROCESSES], demand(key, terms)) for n in range(200 * PROCESSES)))
    refusals = [answer for answer in answers if isinstance(answer, Refused)]
    assert len(answers) - len(refusals) == 50
    assert all(isinstance(refusal, BudgetExceeded) and refusal.left == 0 for refusal in refusals)
    held = [answer for answer in answers if isinstance(answer, tuple)]
    await asyncio.gather(*(settle(gateways[n % PROCESSES], *pair, cost=n) for n, pair in enumerate(held)))
    await gateways[0].drainer.drain()
    assert await UsageRecord.objects.acount() == 50
    await assert_books_agree(gateways, key, terms)


async def test_a_refusal_writes_nothing(gateways: list[RedisLedger], key: ApiKey) -> None:
    enough, spent = await sync_to_async(budget)(key, 9), await sync_to_async(budget)(key, 0, period=Period.MONTH)
    limits = (LimitTerms(f"k{key.pk}", requests=5, tokens=100, concurrent=3),)
    with pytest.raises(BudgetExceeded) as refusal:
        await gateways[0].reserve(demand(key, enough, spent, limits=limits))
    assert refusal.value.budget == spent
    assert (refusal.value.left, refusal.value.needed, refusal.value.resets_at) == (0, PRICE, datetime(2026, 12, 1, tzinfo=UTC))
    assert await taken(key, enough) == Spending()
    assert not await sync_to_async(reader.reservations)(key.project_id)
    held = await gateways[1].reserve(demand(key, enough, limits=limits))
    assert held.standing.requests is not None and held.standing.tokens is not None
    assert (held.standing.requests.left, held.standing.tokens.left) == (4, 90)


async def test_only_hard_budgets_refuse_and_a_shadow_one_says_that_it_would(gateways: list[RedisLedger], key: ApiKey) -> None:
    soft = await sync_to_async(budget)(key, 0, mode="soft")
    shadow = await sync_to_async(budget)(key, 1, mode="shadow")
    held = [await ledger.reserve(demand(key, soft, shadow)) for ledger in gateways[:2]]
    assert [each.shadow_budget_id for each in held] == [None, shadow.id]
    assert await taken(key, shadow) == Spending(0, 2 * PRICE)


async def test_what_a_budget_has_left_is_granted_between_the_least_and_the_most(gateways: list[RedisLedger], key: ApiKey) -> None:
    terms = await sync_to_async(budget)(key, 10)
    grants = [(await ledger.reserve(replace(demand(key, terms), at_least=2 * PRICE, at_most=7 * PRICE))).amount for ledger in gateways[:2]]
    assert grants == [7 * PRICE, 3 * PRICE]


@pytest.mark.parametrize("left", [0, 1, 999_999_999, 10**15 + 7])
async def test_amounts_are_exact_where_a_double_is_not(gateways: list[RedisLedger], key: ApiKey, left: int) -> None:
    limit = 9 * 10**18 + 1
    row = await Budget.objects.acreate(project=key.project, key=key, period=Period.DAY, limit_nano=limit)
    terms = BudgetTerms(row.pk, row.period, limit, covers_project=False)
    await settle(gateways[0], (wanted := demand(key)), await gateways[0].reserve(wanted), cost=limit - left)
    if left:
        held = await gateways[1].reserve(replace(demand(key, terms), at_least=left, at_most=2**60))
        assert held.amount == left
    with pytest.raises(BudgetExceeded) as refusal:
        await gateways[1].reserve(replace(demand(key, terms), at_least=1))
    assert refusal.value.left == 0
    assert await taken(key, terms) == Spending(limit - left, left)


async def test_limits_of_a_key_and_its_project_hold_among_processes(gateways: list[RedisLedger], key: ApiKey) -> None:
    limits = (LimitTerms(f"k{key.pk}", requests=7), LimitTerms(f"p{key.project_id}", concurrent=5))
    answers = await asyncio.gather(*(reserve(gateways[n % PROCESSES], demand(key, limits=limits)) for n in range(40)))
    held = [answer for answer in answers if isinstance(answer, tuple)]
    assert len(held) == 5
    assert {answer.kind for answer in answers if isinstance(answer, RateExceeded)} == {"concurrent"}
    await asyncio.gather(*(settle(gateways[0], *pair, cost=1) for pair in held))
    answers = await asyncio.gather(*(reserve(gateways[n % PROCESSES], demand(key, limits=limits)) for n in range(40)))
    assert sum(isinstance(answer, tuple) for answer in answers) == 2
    refusals = [answer for answer in answers if isinstance(answer, RateExceeded)]
    assert {(refusal.kind, refusal.limit, refusal.terms) for refusal in refusals} == {("requests", 7, limits[0])}
    assert all(refusal.retry_after is not None and 55 < refusal.retry_after <= 60.25 for refusal in refusals)


async def test_tokens_are_corrected_when_it_is_known_how_many_were_used(gateways: list[RedisLedger], key: ApiKey) -> None:
    limits = (LimitTerms(f"k{key.pk}", tokens=100),)
    wanted = demand(key, limits=limits, tokens=90)
    held = await gateways[0].reserve(wanted)
    with pytest.raises(RateExceeded):
        await gateways[1].reserve(demand(key, limits=limits, tokens=20))
    await settle(gateways[0], wanted, held, cost=1)
    standing = (await gateways[1].reserve(demand(key, limits=limits, tokens=20))).standing
    assert standing.tokens is not None and standing.tokens.left == 80
    with pytest.raises(RateExceeded) as refusal:
        await gateways[1].reserve(demand(key, limits=limits, tokens=101))
    assert refusal.value.retry_after is None


async def test_a_budget_made_in_the_middle_of_the_day_counts_earlier_records_and_requests_in_flight(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    drained, waiting, flying = demand(key), demand(key), demand(key)
    await settle(gateways[0], drained, await gateways[0].reserve(drained), cost=1)
    await gateways[0].drainer.drain()
    await settle(gateways[0], waiting, await gateways[0].reserve(waiting), cost=20)
    held = await gateways[0].reserve(flying)
    terms = await sync_to_async(budget)(key, 9)
    await gateways[1].reserve(demand(key, terms))
    assert await taken(key, terms) == Spending(21, 2 * PRICE)
    unaware = demand(key)
    await settle(gateways[2], unaware, await gateways[2].reserve(unaware), cost=300)
    await settle(gateways[0], flying, held, cost=4000)
    await assert_books_agree(gateways, key, terms, reserved=PRICE)
    assert await recorded() == 4321


async def test_a_window_does_not_begin_from_a_sum_that_is_older_than_the_outbox(
    gateways: list[RedisLedger], key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the sum in SQL and the script in Redis, a record may go the other way."""
    earlier = await reserve(gateways[0], demand(key))
    assert isinstance(earlier, tuple)
    await settle(gateways[0], *earlier, cost=PRICE)
    await write_all(gateways)
    books, older = gateways[0].opener.books, [(0, NEVER_DRAINED)]
    spent = books.spent

    async def lagging(*asked: Any) -> tuple[int, str]:
        return older.pop() if older else await spent(*asked)

    monkeypatch.setattr(books, "spent", lagging)
    terms = await sync_to_async(budget)(key, 10)
    assert isinstance(await reserve(gateways[0], demand(key, terms)), tuple)
    assert not older and await taken(key, terms) == Spending(PRICE, PRICE)


async def test_a_settlement_that_is_repeated_counts_once(gateways: list[RedisLedger], key: ApiKey) -> None:
    terms = await sync_to_async(budget)(key, 9)
    wanted = demand(key, terms)
    held = await gateways[0].reserve(wanted)
    for ledger in (gateways[0], gateways[0], gateways[1]):
        await settle(ledger, wanted, held, cost=7)
    assert await taken(key, terms) == Spending(7, 0)
    await assert_books_agree(gateways, key, terms)


async def test_a_record_of_which_redis_knows_nothing_is_posted_once(gateways: list[RedisLedger], key: ApiKey, server: Server) -> None:
    """Only the outbox tells, and later SQL: no reservation is left of it, and no mark."""
    terms = await sync_to_async(budget)(key, 10)
    held = await reserve(gateways[0], demand(key, terms))
    assert isinstance(held, tuple)
    entry = demand(key, terms).draft
    entry.cost_nano, entry.estimated = 7, False
    for ledger in gateways:
        await ledger.postman.post(Posting(entry, fresh=False))
        forget_mark(server, entry)
    assert await taken(key, terms) == Spending(7, PRICE)
    await settle(gateways[0], *held, cost=PRICE)
    await write_all(gateways)
    await gateways[1].postman.post(Posting(entry, fresh=False))
    await assert_books_agree(gateways, key, terms)
    assert await UsageRecord.objects.acount() == 2


async def test_a_request_that_is_settled_again_when_redis_has_forgotten_it_is_charged_once(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    terms = await sync_to_async(budget)(key, 10)
    wanted = demand(key, terms)
    held = await gateways[0].reserve(wanted)
    for _ in range(2):
        await settle(gateways[0], wanted, held, cost=7)
        forget_mark(server, wanted.draft)
        assert await taken(key, terms) == Spending(7, 0)
    await assert_books_agree(gateways, key, terms)


@pytest.mark.parametrize("spent", ["abc", str(2**63 - 1)])
async def test_a_damaged_or_full_counter_keeps_no_record_back_and_concerns_no_other_project(
    gateways: list[RedisLedger], key: ApiKey, server: Server, spent: str
) -> None:
    terms = await sync_to_async(budget)(key, 10)
    wanted = demand(key, terms)
    held = await gateways[0].reserve(wanted)
    with redis.Redis.from_url(server.url) as store:
        (window,) = store.keys(f"{prefix(key.project_id)}w:*")
        store.hset(window, "spent", spent)
    await settle(gateways[0], wanted, held, cost=7)
    await write_all(gateways)
    assert await recorded() == 7
    answers = [await reserve(gateways[0], demand(key, terms)) for _ in range(2 * FAILURES)]
    assert all(isinstance(answer, LedgerUnavailable | BudgetExceeded) for answer in answers)
    assert not gateways[0].store.breaker.failures


def forget_mark(server: Server, entry: Entry) -> None:
    with redis.Redis.from_url(server.url) as store:
        assert store.delete(f"{prefix(entry.project_id)}done:{entry.id.hex}") == 1


async def test_a_reservation_that_is_undone_counts_no_more(gateways: list[RedisLedger], key: ApiKey) -> None:
    limits = (LimitTerms(f"k{key.pk}", requests=1, tokens=1000, concurrent=1),)
    for _ in range(3):
        held = await gateways[0].reserve(wanted := demand(key, limits=limits))
        assert held.standing.requests is not None and held.standing.requests.left == 0
        gateways[0].memory.holds.clear()
        gateways[0].void(wanted)
        await gateways[0].pay_debts()
    standing = await gateways[1].standing(key.project_id, limits)
    assert standing.requests is not None and standing.tokens is not None
    assert (standing.requests.left, standing.tokens.left) == (1, 1000)


async def test_what_a_dead_process_held_is_posted_as_an_estimate_and_corrected_once_if_it_lives_after_all(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    terms = await sync_to_async(budget)(key, 9)
    limits = (LimitTerms(f"k{key.pk}", concurrent=1),)
    wanted = demand(key, terms, limits=limits)
    frozen, heir = gateways[:2]
    held = await frozen.reserve(wanted)
    for task in frozen.upkeep.tasks:
        task.cancel()
    assert await heir.reaper.reap() == 0
    await frozen.store.call("DEL", f"gw:alive:{frozen.process}")
    assert await heir.reaper.reap() == 1
    assert await taken(key, terms) == Spending(PRICE, 0)
    await write_all(gateways[1:])
    assert await UsageRecord.objects.filter(pk=wanted.id, cost_nano=PRICE, estimated=True).aexists()
    await heir.release(await heir.reserve(another := demand(key, terms, limits=limits)), another.draft)
    for _ in range(2):
        await settle(frozen, wanted, held, cost=PRICE // 4)
    await assert_books_agree(gateways, key, terms)
    correction = await UsageRecord.objects.aget(corrects=wanted.id)
    assert (correction.cost_nano, correction.correction) == (PRICE // 4 - PRICE, Correction.LATE)
    assert await recorded() == PRICE // 4


async def test_a_warm_request_costs_two_scripts_and_no_sql(
    gateways: list[RedisLedger], key: ApiKey, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = await sync_to_async(budget)(key, 100)
    await settle(gateways[0], (first := demand(key, terms)), await gateways[0].reserve(first), cost=1)
    for ledger in gateways:
        for task in ledger.upkeep.tasks:
            task.cancel()
    await asyncio.sleep(0)
    monkeypatch.setattr(gateways[0].books, "connection", None)
    with redis.Redis.from_url(server.url) as client:
        client.config_resetstat()
        for _ in range(10):
            wanted = demand(key, terms)
            await settle(gateways[0], wanted, await gateways[0].reserve(wanted), cost=1)
        calls = {name: each["calls"] for name, each in client.info("commandstats").items() if "|" not in name}
    monkeypatch.undo()
    assert calls.pop("cmdstat_evalsha") == 20
    assert not calls.keys() & {"cmdstat_eval", "cmdstat_smembers", "cmdstat_ping"}


def test_clearing_djangos_cache_leaves_the_ledger_alone(db: None) -> None:
    with redis.Redis.from_url(settings.ENV.redis_url) as client:
        client.set("gw:probe", 1)
        cache.set("greeting", "hello")
        cache.clear()
        assert cache.get("greeting") is None
        assert client.delete("gw:probe") == 1
