"""The ledger on Redis: budgets hold across processes, and nothing is lost or counted twice."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.cache import cache

from billing.ledger import (
    AdmissionDenied,
    BudgetExceeded,
    LedgerUnavailable,
    RateLimitExceeded,
    UsageEntry,
)
from billing.ledger.interface import BudgetLimit, RateLimit, WindowBalance
from billing.ledger.redis import RedisLedger, queries
from billing.ledger.redis.client.circuit_breaker import FAILURE_THRESHOLD
from billing.ledger.redis.client.keys import key_prefix
from billing.ledger.redis.outbox.pending_state import PendingRecord
from billing.ledger.redis.record_store import START_ID
from billing.models import Budget, CorrectionReason, Period, UsageRecord
from keys.models import ApiKey
from tests.support.databases import Server
from tests.support.redis_gateways import (
    PRICE,
    PROCESSES,
    assert_ledger_consistent,
    budget,
    drain_all,
    needs_servers,
    recorded_cost,
    reserve,
    reserve_request,
    settle,
    window_total,
)

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True), needs_servers]


async def test_budget_for_50_admits_exactly_50_across_4_processes(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    budget_limit = await sync_to_async(budget)(key, 50)
    results = await asyncio.gather(
        *(
            reserve(gateways[n % PROCESSES], reserve_request(key, budget_limit))
            for n in range(200 * PROCESSES)
        )
    )
    denials = [result for result in results if isinstance(result, AdmissionDenied)]
    assert len(results) - len(denials) == 50
    assert all(isinstance(denial, BudgetExceeded) and denial.remaining == 0 for denial in denials)
    grants = [result for result in results if isinstance(result, tuple)]
    await asyncio.gather(*(settle(gateways[n % PROCESSES], *pair, cost=n) for n, pair in enumerate(grants)))
    await gateways[0].drainer.drain()
    assert await UsageRecord.objects.acount() == 50
    await assert_ledger_consistent(gateways, key, budget_limit)


async def test_denial_writes_nothing(gateways: list[RedisLedger], key: ApiKey) -> None:
    enough, spent = (
        await sync_to_async(budget)(key, 9),
        await sync_to_async(budget)(key, 0, period=Period.MONTH),
    )
    limits = (RateLimit(f"k{key.pk}", requests=5, tokens=100, concurrent=3),)
    with pytest.raises(BudgetExceeded) as denial:
        await gateways[0].reserve(reserve_request(key, enough, spent, limits=limits))
    assert denial.value.budget == spent
    assert (denial.value.remaining, denial.value.needed, denial.value.resets_at) == (
        0,
        PRICE,
        datetime(2026, 12, 1, tzinfo=UTC),
    )
    assert await window_total(key, enough) == WindowBalance()
    assert not await sync_to_async(queries.reservations)(key.project_id)
    grant = await gateways[1].reserve(reserve_request(key, enough, limits=limits))
    assert grant.rate_limit_status.requests is not None and grant.rate_limit_status.tokens is not None
    assert (grant.rate_limit_status.requests.remaining, grant.rate_limit_status.tokens.remaining) == (4, 90)


async def test_only_hard_budgets_deny_and_shadow_budgets_report(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    soft = await sync_to_async(budget)(key, 0, mode="soft")
    shadow = await sync_to_async(budget)(key, 1, mode="shadow")
    grants = [await ledger.reserve(reserve_request(key, soft, shadow)) for ledger in gateways[:2]]
    assert [each.shadow_budget_id for each in grants] == [None, shadow.id]
    assert await window_total(key, shadow) == WindowBalance(0, 2 * PRICE)


async def test_remaining_budget_between_minimum_and_maximum_is_granted(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    budget_limit = await sync_to_async(budget)(key, 10)
    grants = [
        (
            await ledger.reserve(
                replace(reserve_request(key, budget_limit), min_nano=2 * PRICE, max_nano=7 * PRICE)
            )
        ).amount
        for ledger in gateways[:2]
    ]
    assert grants == [7 * PRICE, 3 * PRICE]


@pytest.mark.parametrize("left", [0, 1, 999_999_999, 10**15 + 7])
async def test_amounts_beyond_53_bits_are_exact(gateways: list[RedisLedger], key: ApiKey, left: int) -> None:
    limit = 9 * 10**18 + 1
    row = await Budget.objects.acreate(project=key.project, key=key, period=Period.DAY, limit_nano=limit)
    budget_limit = BudgetLimit(row.pk, row.period, limit, is_project_wide=False)
    await settle(
        gateways[0], (request := reserve_request(key)), await gateways[0].reserve(request), cost=limit - left
    )
    if left:
        grant = await gateways[1].reserve(
            replace(reserve_request(key, budget_limit), min_nano=left, max_nano=2**60)
        )
        assert grant.amount == left
    with pytest.raises(BudgetExceeded) as denial:
        await gateways[1].reserve(replace(reserve_request(key, budget_limit), min_nano=1))
    assert denial.value.remaining == 0
    assert await window_total(key, budget_limit) == WindowBalance(limit - left, left)


async def test_key_and_project_limits_apply_across_processes(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    limits = (RateLimit(f"k{key.pk}", requests=7), RateLimit(f"p{key.project_id}", concurrent=5))
    results = await asyncio.gather(
        *(reserve(gateways[n % PROCESSES], reserve_request(key, limits=limits)) for n in range(40))
    )
    grants = [result for result in results if isinstance(result, tuple)]
    assert len(grants) == 5
    assert {result.kind for result in results if isinstance(result, RateLimitExceeded)} == {"concurrent"}
    await asyncio.gather(*(settle(gateways[0], *pair, cost=1) for pair in grants))
    results = await asyncio.gather(
        *(reserve(gateways[n % PROCESSES], reserve_request(key, limits=limits)) for n in range(40))
    )
    assert sum(isinstance(result, tuple) for result in results) == 2
    denials = [result for result in results if isinstance(result, RateLimitExceeded)]
    assert {(denial.kind, denial.limit, denial.rate_limit) for denial in denials} == {
        ("requests", 7, limits[0])
    }
    assert all(denial.retry_after is not None and 55 < denial.retry_after <= 60.25 for denial in denials)


async def test_tokens_are_adjusted_to_actual_use(gateways: list[RedisLedger], key: ApiKey) -> None:
    limits = (RateLimit(f"k{key.pk}", tokens=100),)
    request = reserve_request(key, limits=limits, tokens=90)
    grant = await gateways[0].reserve(request)
    with pytest.raises(RateLimitExceeded):
        await gateways[1].reserve(reserve_request(key, limits=limits, tokens=20))
    await settle(gateways[0], request, grant, cost=1)
    status = (await gateways[1].reserve(reserve_request(key, limits=limits, tokens=20))).rate_limit_status
    assert status.tokens is not None and status.tokens.remaining == 80
    with pytest.raises(RateLimitExceeded) as denial:
        await gateways[1].reserve(reserve_request(key, limits=limits, tokens=101))
    assert denial.value.retry_after is None


async def test_new_budget_counts_earlier_records_and_open_requests(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    drained, waiting, in_flight = reserve_request(key), reserve_request(key), reserve_request(key)
    await settle(gateways[0], drained, await gateways[0].reserve(drained), cost=1)
    await gateways[0].drainer.drain()
    await settle(gateways[0], waiting, await gateways[0].reserve(waiting), cost=20)
    grant = await gateways[0].reserve(in_flight)
    budget_limit = await sync_to_async(budget)(key, 9)
    await gateways[1].reserve(reserve_request(key, budget_limit))
    assert await window_total(key, budget_limit) == WindowBalance(21, 2 * PRICE)
    unaware_request = reserve_request(key)
    await settle(gateways[2], unaware_request, await gateways[2].reserve(unaware_request), cost=300)
    await settle(gateways[0], in_flight, grant, cost=4000)
    await assert_ledger_consistent(gateways, key, budget_limit, reserved=PRICE)
    assert await recorded_cost() == 4321


async def test_window_is_not_opened_from_an_outdated_sum(
    gateways: list[RedisLedger], key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record may be drained and trimmed between the sum in SQL and the script in Redis."""
    earlier = await reserve(gateways[0], reserve_request(key))
    assert isinstance(earlier, tuple)
    await settle(gateways[0], *earlier, cost=PRICE)
    await drain_all(gateways)
    record_store, stale_sums = gateways[0].window_opener.record_store, [(0, START_ID)]
    spent = record_store.sum_spent

    async def sum_with_lag(*arguments: Any) -> tuple[int, str]:
        return stale_sums.pop() if stale_sums else await spent(*arguments)

    monkeypatch.setattr(record_store, "sum_spent", sum_with_lag)
    budget_limit = await sync_to_async(budget)(key, 10)
    assert isinstance(await reserve(gateways[0], reserve_request(key, budget_limit)), tuple)
    assert not stale_sums and await window_total(key, budget_limit) == WindowBalance(PRICE, PRICE)


async def test_repeated_settlement_counts_once(gateways: list[RedisLedger], key: ApiKey) -> None:
    budget_limit = await sync_to_async(budget)(key, 9)
    request = reserve_request(key, budget_limit)
    grant = await gateways[0].reserve(request)
    for ledger in (gateways[0], gateways[0], gateways[1]):
        await settle(ledger, request, grant, cost=7)
    assert await window_total(key, budget_limit) == WindowBalance(7, 0)
    await assert_ledger_consistent(gateways, key, budget_limit)


async def test_record_unknown_to_redis_is_written_once(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    """Redis has neither the reservation nor a dedup marker.

    The record is only in the stream, and later in SQL.
    """
    budget_limit = await sync_to_async(budget)(key, 10)
    grant = await reserve(gateways[0], reserve_request(key, budget_limit))
    assert isinstance(grant, tuple)
    entry = reserve_request(key, budget_limit).estimate
    entry.cost_nano, entry.estimated = 7, False
    for ledger in gateways:
        await ledger.outbox_writer.write(PendingRecord(entry, never_sent=False))
        delete_dedup_marker(server, entry)
    assert await window_total(key, budget_limit) == WindowBalance(7, PRICE)
    await settle(gateways[0], *grant, cost=PRICE)
    await drain_all(gateways)
    await gateways[1].outbox_writer.write(PendingRecord(entry, never_sent=False))
    await assert_ledger_consistent(gateways, key, budget_limit)
    assert await UsageRecord.objects.acount() == 2


async def test_resettled_request_lost_by_redis_is_charged_once(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    budget_limit = await sync_to_async(budget)(key, 10)
    request = reserve_request(key, budget_limit)
    grant = await gateways[0].reserve(request)
    for _ in range(2):
        await settle(gateways[0], request, grant, cost=7)
        delete_dedup_marker(server, request.estimate)
        assert await window_total(key, budget_limit) == WindowBalance(7, 0)
    await assert_ledger_consistent(gateways, key, budget_limit)


@pytest.mark.parametrize("spent", ["abc", str(2**63 - 1)])
async def test_corrupt_or_full_counter_affects_no_record_or_project(
    gateways: list[RedisLedger], key: ApiKey, server: Server, spent: str
) -> None:
    budget_limit = await sync_to_async(budget)(key, 10)
    request = reserve_request(key, budget_limit)
    grant = await gateways[0].reserve(request)
    with redis.Redis.from_url(server.url) as store:
        (window,) = store.keys(f"{key_prefix(key.project_id)}w:*")
        store.hset(window, "spent", spent)
    await settle(gateways[0], request, grant, cost=7)
    await drain_all(gateways)
    assert await recorded_cost() == 7
    results = [
        await reserve(gateways[0], reserve_request(key, budget_limit)) for _ in range(2 * FAILURE_THRESHOLD)
    ]
    assert all(isinstance(result, LedgerUnavailable | BudgetExceeded) for result in results)
    assert not gateways[0].client.breaker.failures


async def test_cancelled_reservation_no_longer_counts(gateways: list[RedisLedger], key: ApiKey) -> None:
    limits = (RateLimit(f"k{key.pk}", requests=1, tokens=1000, concurrent=1),)
    for _ in range(3):
        grant = await gateways[0].reserve(request := reserve_request(key, limits=limits))
        assert (
            grant.rate_limit_status.requests is not None and grant.rate_limit_status.requests.remaining == 0
        )
        gateways[0].pending.reservations.clear()
        gateways[0].cancel_unconfirmed(request)
        await gateways[0].retry_pending()
    status = await gateways[1].rate_limit_status(key.project_id, limits)
    assert status.requests is not None and status.tokens is not None
    assert (status.requests.remaining, status.tokens.remaining) == (1, 1000)


async def test_estimate_for_a_dead_process_is_corrected_once_if_it_returns(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    budget_limit = await sync_to_async(budget)(key, 9)
    limits = (RateLimit(f"k{key.pk}", concurrent=1),)
    request = reserve_request(key, budget_limit, limits=limits)
    frozen, survivor = gateways[:2]
    grant = await frozen.reserve(request)
    for task in frozen.background_tasks.tasks:
        task.cancel()
    assert await survivor.reaper.reap() == 0
    await frozen.client.command_slow("DEL", f"gw:alive:{frozen.process_id}")
    assert await survivor.reaper.reap() == 1
    assert await window_total(key, budget_limit) == WindowBalance(PRICE, 0)
    await drain_all(gateways[1:])
    assert await UsageRecord.objects.filter(pk=request.id, cost_nano=PRICE, estimated=True).aexists()
    await survivor.release(
        await survivor.reserve(another := reserve_request(key, budget_limit, limits=limits)), another.estimate
    )
    for _ in range(2):
        await settle(frozen, request, grant, cost=PRICE // 4)
    await assert_ledger_consistent(gateways, key, budget_limit)
    correction = await UsageRecord.objects.aget(corrects=request.id)
    assert (correction.cost_nano, correction.correction_reason) == (PRICE // 4 - PRICE, CorrectionReason.LATE)
    assert await recorded_cost() == PRICE // 4


async def test_warm_request_costs_two_scripts_and_no_sql(
    gateways: list[RedisLedger], key: ApiKey, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget_limit = await sync_to_async(budget)(key, 100)
    await settle(
        gateways[0], (first := reserve_request(key, budget_limit)), await gateways[0].reserve(first), cost=1
    )
    for ledger in gateways:
        for task in ledger.background_tasks.tasks:
            task.cancel()
    await asyncio.sleep(0)
    monkeypatch.setattr(gateways[0].record_store, "connection", None)
    with redis.Redis.from_url(server.url) as client:
        client.config_resetstat()
        for _ in range(10):
            request = reserve_request(key, budget_limit)
            await settle(gateways[0], request, await gateways[0].reserve(request), cost=1)
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


def delete_dedup_marker(server: Server, entry: UsageEntry) -> None:
    with redis.Redis.from_url(server.url) as store:
        assert store.delete(f"{key_prefix(entry.project_id)}done:{entry.id.hex}") == 1
