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

from billing.ledger import (
    AdmissionDenied,
    BudgetExceeded,
    LedgerUnavailable,
    RateLimitExceeded,
    ReservationGrant,
    ReserveRequest,
    UsageEntry,
)
from billing.ledger.interface import BudgetLimit, RateLimit, WindowBalance
from billing.ledger.redis import OutagePolicy, RedisLedger, queries
from billing.ledger.redis.client import blocking_client
from billing.ledger.redis.client.circuit_breaker import FAILURE_THRESHOLD
from billing.ledger.redis.client.keys import key_prefix
from billing.ledger.redis.client.protocol import RedisUnavailable
from billing.ledger.redis.outbox.pending import PendingRecord
from billing.ledger.redis.record_store import START_ID
from billing.ledger.sql.connection import DatabaseErrors
from billing.models import Budget, CorrectionReason, Period, UsageRecord
from keys.models import ApiKey
from projects.ids import uuid7
from tests.support.databases import Server, valkey_server
from tests.support.environment import ON_SERVERS

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
LONG_TIMEOUT = OutagePolicy(timeout_s=0.3)
"""Redis shares its two cores with the tests."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A Valkey of its own, with an append-only file: tests kill it."""
    with valkey_server(append_only=True) as server:
        yield server


@pytest.fixture
async def gateways(
    transactional_db: None, server: Server, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[RedisLedger]]:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        monkeypatch.setattr(blocking_client, "blocking_client", lambda: client)
        ledgers = [RedisLedger(server.url, LONG_TIMEOUT) for _ in range(PROCESSES)]
        for ledger in ledgers:
            await ledger.start()
        yield ledgers
        for ledger in ledgers:
            await ledger.stop()


def budget(
    key: ApiKey,
    requests: int,
    *,
    period: Period = Period.DAY,
    whole_project: bool = False,
    mode: str = "hard",
) -> BudgetLimit:
    """A budget that pays for so many requests."""
    owner = None if whole_project else key
    row = Budget.objects.create(
        project=key.project, key=owner, period=period, limit_nano=requests * PRICE, mode=mode
    )
    return BudgetLimit(row.pk, row.period, row.limit_nano, is_project_wide=whole_project, mode=mode)


def reserve_request(
    key: ApiKey,
    *budgets: BudgetLimit,
    limits: tuple[RateLimit, ...] = (),
    tokens: int = 10,
    day: date = TODAY,
) -> ReserveRequest:
    draft = UsageEntry(
        id=uuid7(), project_id=key.project_id, key_id=key.pk, day=day, created_at=NOON, request_id="request", operation="chat",
        format="openai", cost_nano=PRICE, estimated=True,
    )  # fmt: skip
    return ReserveRequest(
        draft.id, key.project_id, key.pk, ZoneInfo("UTC"), PRICE, PRICE, budgets, limits, tokens, draft
    )


async def reserve(
    ledger: RedisLedger, request: ReserveRequest
) -> tuple[ReserveRequest, ReservationGrant] | AdmissionDenied | LedgerUnavailable:
    try:
        return request, await ledger.reserve(request)
    except (AdmissionDenied, LedgerUnavailable) as refusal:
        return refusal


async def settle(
    ledger: RedisLedger, request: ReserveRequest, reservation: ReservationGrant, cost: int
) -> None:
    request.estimate.cost_nano, request.estimate.estimated = cost, False
    await ledger.settle(reservation, request.estimate)


async def window_total(key: ApiKey, budget_limit: BudgetLimit, window: str = WINDOW) -> WindowBalance | None:
    """What is spent and reserved in a budget's window."""
    windows = {budget_limit.id: window}
    return (await sync_to_async(queries.window_balances)(key.project_id, windows)).get(budget_limit.id)


async def recorded_cost() -> int:
    total: int = (await UsageRecord.objects.aaggregate(total=Sum("cost_nano", default=0)))["total"]
    return total


async def drain_all(gateways: list[RedisLedger]) -> None:
    """Brings every record to SQL, whatever it takes."""
    async with asyncio.timeout(30):
        while True:
            with suppress(RedisUnavailable, *DatabaseErrors):
                for ledger in gateways:
                    await ledger.retry_pending()
                if (
                    not any(
                        ledger.pending.unsent_records() or ledger.pending.pending_cancellations
                        for ledger in gateways
                    )
                    and not await gateways[0].drainer.drain()
                ):
                    return
            await asyncio.sleep(0.05)


async def assert_ledger_consistent(
    gateways: list[RedisLedger], key: ApiKey, budget_limit: BudgetLimit, reserved: int = 0
) -> None:
    await drain_all(gateways)
    spent = await recorded_cost()
    assert await window_total(key, budget_limit) == WindowBalance(spent, reserved)


async def test_budget_for_50_admits_exactly_50_across_4_processes(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    terms = await sync_to_async(budget)(key, 50)
    answers = await asyncio.gather(
        *(reserve(gateways[n % PROCESSES], reserve_request(key, terms)) for n in range(200 * PROCESSES))
    )
    refusals = [answer for answer in answers if isinstance(answer, AdmissionDenied)]
    assert len(answers) - len(refusals) == 50
    assert all(isinstance(refusal, BudgetExceeded) and refusal.remaining == 0 for refusal in refusals)
    held = [answer for answer in answers if isinstance(answer, tuple)]
    await asyncio.gather(*(settle(gateways[n % PROCESSES], *pair, cost=n) for n, pair in enumerate(held)))
    await gateways[0].drainer.drain()
    assert await UsageRecord.objects.acount() == 50
    await assert_ledger_consistent(gateways, key, terms)


async def test_a_refusal_writes_nothing(gateways: list[RedisLedger], key: ApiKey) -> None:
    enough, spent = (
        await sync_to_async(budget)(key, 9),
        await sync_to_async(budget)(key, 0, period=Period.MONTH),
    )
    limits = (RateLimit(f"k{key.pk}", requests=5, tokens=100, concurrent=3),)
    with pytest.raises(BudgetExceeded) as refusal:
        await gateways[0].reserve(reserve_request(key, enough, spent, limits=limits))
    assert refusal.value.budget == spent
    assert (refusal.value.remaining, refusal.value.needed, refusal.value.resets_at) == (
        0,
        PRICE,
        datetime(2026, 12, 1, tzinfo=UTC),
    )
    assert await window_total(key, enough) == WindowBalance()
    assert not await sync_to_async(queries.reservations)(key.project_id)
    held = await gateways[1].reserve(reserve_request(key, enough, limits=limits))
    assert held.rate_limit_status.requests is not None and held.rate_limit_status.tokens is not None
    assert (held.rate_limit_status.requests.remaining, held.rate_limit_status.tokens.remaining) == (4, 90)


async def test_only_hard_budgets_refuse_and_a_shadow_one_says_that_it_would(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    soft = await sync_to_async(budget)(key, 0, mode="soft")
    shadow = await sync_to_async(budget)(key, 1, mode="shadow")
    held = [await ledger.reserve(reserve_request(key, soft, shadow)) for ledger in gateways[:2]]
    assert [each.shadow_budget_id for each in held] == [None, shadow.id]
    assert await window_total(key, shadow) == WindowBalance(0, 2 * PRICE)


async def test_what_a_budget_has_left_is_granted_between_the_least_and_the_most(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    terms = await sync_to_async(budget)(key, 10)
    grants = [
        (
            await ledger.reserve(replace(reserve_request(key, terms), min_nano=2 * PRICE, max_nano=7 * PRICE))
        ).amount
        for ledger in gateways[:2]
    ]
    assert grants == [7 * PRICE, 3 * PRICE]


@pytest.mark.parametrize("left", [0, 1, 999_999_999, 10**15 + 7])
async def test_amounts_are_exact_where_a_double_is_not(
    gateways: list[RedisLedger], key: ApiKey, left: int
) -> None:
    limit = 9 * 10**18 + 1
    row = await Budget.objects.acreate(project=key.project, key=key, period=Period.DAY, limit_nano=limit)
    terms = BudgetLimit(row.pk, row.period, limit, is_project_wide=False)
    await settle(
        gateways[0], (wanted := reserve_request(key)), await gateways[0].reserve(wanted), cost=limit - left
    )
    if left:
        held = await gateways[1].reserve(replace(reserve_request(key, terms), min_nano=left, max_nano=2**60))
        assert held.amount == left
    with pytest.raises(BudgetExceeded) as refusal:
        await gateways[1].reserve(replace(reserve_request(key, terms), min_nano=1))
    assert refusal.value.remaining == 0
    assert await window_total(key, terms) == WindowBalance(limit - left, left)


async def test_key_and_project_limits_apply_across_processes(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    limits = (RateLimit(f"k{key.pk}", requests=7), RateLimit(f"p{key.project_id}", concurrent=5))
    answers = await asyncio.gather(
        *(reserve(gateways[n % PROCESSES], reserve_request(key, limits=limits)) for n in range(40))
    )
    held = [answer for answer in answers if isinstance(answer, tuple)]
    assert len(held) == 5
    assert {answer.kind for answer in answers if isinstance(answer, RateLimitExceeded)} == {"concurrent"}
    await asyncio.gather(*(settle(gateways[0], *pair, cost=1) for pair in held))
    answers = await asyncio.gather(
        *(reserve(gateways[n % PROCESSES], reserve_request(key, limits=limits)) for n in range(40))
    )
    assert sum(isinstance(answer, tuple) for answer in answers) == 2
    refusals = [answer for answer in answers if isinstance(answer, RateLimitExceeded)]
    assert {(refusal.kind, refusal.limit, refusal.rate_limit) for refusal in refusals} == {
        ("requests", 7, limits[0])
    }
    assert all(refusal.retry_after is not None and 55 < refusal.retry_after <= 60.25 for refusal in refusals)


async def test_tokens_are_corrected_when_it_is_known_how_many_were_used(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    limits = (RateLimit(f"k{key.pk}", tokens=100),)
    wanted = reserve_request(key, limits=limits, tokens=90)
    held = await gateways[0].reserve(wanted)
    with pytest.raises(RateLimitExceeded):
        await gateways[1].reserve(reserve_request(key, limits=limits, tokens=20))
    await settle(gateways[0], wanted, held, cost=1)
    standing = (await gateways[1].reserve(reserve_request(key, limits=limits, tokens=20))).rate_limit_status
    assert standing.tokens is not None and standing.tokens.remaining == 80
    with pytest.raises(RateLimitExceeded) as refusal:
        await gateways[1].reserve(reserve_request(key, limits=limits, tokens=101))
    assert refusal.value.retry_after is None


async def test_new_budget_counts_earlier_records_and_open_requests(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    drained, waiting, flying = reserve_request(key), reserve_request(key), reserve_request(key)
    await settle(gateways[0], drained, await gateways[0].reserve(drained), cost=1)
    await gateways[0].drainer.drain()
    await settle(gateways[0], waiting, await gateways[0].reserve(waiting), cost=20)
    held = await gateways[0].reserve(flying)
    terms = await sync_to_async(budget)(key, 9)
    await gateways[1].reserve(reserve_request(key, terms))
    assert await window_total(key, terms) == WindowBalance(21, 2 * PRICE)
    unaware = reserve_request(key)
    await settle(gateways[2], unaware, await gateways[2].reserve(unaware), cost=300)
    await settle(gateways[0], flying, held, cost=4000)
    await assert_ledger_consistent(gateways, key, terms, reserved=PRICE)
    assert await recorded_cost() == 4321


async def test_a_window_does_not_begin_from_a_sum_that_is_older_than_the_outbox(
    gateways: list[RedisLedger], key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the sum in SQL and the script in Redis, a record may go the other way."""
    earlier = await reserve(gateways[0], reserve_request(key))
    assert isinstance(earlier, tuple)
    await settle(gateways[0], *earlier, cost=PRICE)
    await drain_all(gateways)
    books, older = gateways[0].window_opener.record_store, [(0, START_ID)]
    spent = books.sum_spent

    async def lagging(*asked: Any) -> tuple[int, str]:
        return older.pop() if older else await spent(*asked)

    monkeypatch.setattr(books, "sum_spent", lagging)
    terms = await sync_to_async(budget)(key, 10)
    assert isinstance(await reserve(gateways[0], reserve_request(key, terms)), tuple)
    assert not older and await window_total(key, terms) == WindowBalance(PRICE, PRICE)


async def test_a_settlement_that_is_repeated_counts_once(gateways: list[RedisLedger], key: ApiKey) -> None:
    terms = await sync_to_async(budget)(key, 9)
    wanted = reserve_request(key, terms)
    held = await gateways[0].reserve(wanted)
    for ledger in (gateways[0], gateways[0], gateways[1]):
        await settle(ledger, wanted, held, cost=7)
    assert await window_total(key, terms) == WindowBalance(7, 0)
    await assert_ledger_consistent(gateways, key, terms)


async def test_record_unknown_to_redis_is_written_once(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    """Only the outbox tells, and later SQL: no reservation is left of it, and no mark."""
    terms = await sync_to_async(budget)(key, 10)
    held = await reserve(gateways[0], reserve_request(key, terms))
    assert isinstance(held, tuple)
    entry = reserve_request(key, terms).estimate
    entry.cost_nano, entry.estimated = 7, False
    for ledger in gateways:
        await ledger.outbox_writer.write(PendingRecord(entry, never_sent=False))
        delete_dedup_marker(server, entry)
    assert await window_total(key, terms) == WindowBalance(7, PRICE)
    await settle(gateways[0], *held, cost=PRICE)
    await drain_all(gateways)
    await gateways[1].outbox_writer.write(PendingRecord(entry, never_sent=False))
    await assert_ledger_consistent(gateways, key, terms)
    assert await UsageRecord.objects.acount() == 2


async def test_resettled_request_lost_by_redis_is_charged_once(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    terms = await sync_to_async(budget)(key, 10)
    wanted = reserve_request(key, terms)
    held = await gateways[0].reserve(wanted)
    for _ in range(2):
        await settle(gateways[0], wanted, held, cost=7)
        delete_dedup_marker(server, wanted.estimate)
        assert await window_total(key, terms) == WindowBalance(7, 0)
    await assert_ledger_consistent(gateways, key, terms)


@pytest.mark.parametrize("spent", ["abc", str(2**63 - 1)])
async def test_corrupt_or_full_counter_affects_no_record_or_project(
    gateways: list[RedisLedger], key: ApiKey, server: Server, spent: str
) -> None:
    terms = await sync_to_async(budget)(key, 10)
    wanted = reserve_request(key, terms)
    held = await gateways[0].reserve(wanted)
    with redis.Redis.from_url(server.url) as store:
        (window,) = store.keys(f"{key_prefix(key.project_id)}w:*")
        store.hset(window, "spent", spent)
    await settle(gateways[0], wanted, held, cost=7)
    await drain_all(gateways)
    assert await recorded_cost() == 7
    answers = [await reserve(gateways[0], reserve_request(key, terms)) for _ in range(2 * FAILURE_THRESHOLD)]
    assert all(isinstance(answer, LedgerUnavailable | BudgetExceeded) for answer in answers)
    assert not gateways[0].client.breaker.failures


def delete_dedup_marker(server: Server, entry: UsageEntry) -> None:
    with redis.Redis.from_url(server.url) as store:
        assert store.delete(f"{key_prefix(entry.project_id)}done:{entry.id.hex}") == 1


async def test_cancelled_reservation_no_longer_counts(gateways: list[RedisLedger], key: ApiKey) -> None:
    limits = (RateLimit(f"k{key.pk}", requests=1, tokens=1000, concurrent=1),)
    for _ in range(3):
        held = await gateways[0].reserve(wanted := reserve_request(key, limits=limits))
        assert held.rate_limit_status.requests is not None and held.rate_limit_status.requests.remaining == 0
        gateways[0].pending.reservations.clear()
        gateways[0].cancel_unconfirmed(wanted)
        await gateways[0].retry_pending()
    standing = await gateways[1].rate_limit_status(key.project_id, limits)
    assert standing.requests is not None and standing.tokens is not None
    assert (standing.requests.remaining, standing.tokens.remaining) == (1, 1000)


async def test_estimate_for_a_dead_process_is_corrected_once_if_it_returns(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    terms = await sync_to_async(budget)(key, 9)
    limits = (RateLimit(f"k{key.pk}", concurrent=1),)
    wanted = reserve_request(key, terms, limits=limits)
    frozen, heir = gateways[:2]
    held = await frozen.reserve(wanted)
    for task in frozen.background_tasks.tasks:
        task.cancel()
    assert await heir.reaper.reap() == 0
    await frozen.client.command_slow("DEL", f"gw:alive:{frozen.process_id}")
    assert await heir.reaper.reap() == 1
    assert await window_total(key, terms) == WindowBalance(PRICE, 0)
    await drain_all(gateways[1:])
    assert await UsageRecord.objects.filter(pk=wanted.id, cost_nano=PRICE, estimated=True).aexists()
    await heir.release(
        await heir.reserve(another := reserve_request(key, terms, limits=limits)), another.estimate
    )
    for _ in range(2):
        await settle(frozen, wanted, held, cost=PRICE // 4)
    await assert_ledger_consistent(gateways, key, terms)
    correction = await UsageRecord.objects.aget(corrects=wanted.id)
    assert (correction.cost_nano, correction.correction_reason) == (PRICE // 4 - PRICE, CorrectionReason.LATE)
    assert await recorded_cost() == PRICE // 4


async def test_a_warm_request_costs_two_scripts_and_no_sql(
    gateways: list[RedisLedger], key: ApiKey, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = await sync_to_async(budget)(key, 100)
    await settle(
        gateways[0], (first := reserve_request(key, terms)), await gateways[0].reserve(first), cost=1
    )
    for ledger in gateways:
        for task in ledger.background_tasks.tasks:
            task.cancel()
    await asyncio.sleep(0)
    monkeypatch.setattr(gateways[0].record_store, "connection", None)
    with redis.Redis.from_url(server.url) as client:
        client.config_resetstat()
        for _ in range(10):
            wanted = reserve_request(key, terms)
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
