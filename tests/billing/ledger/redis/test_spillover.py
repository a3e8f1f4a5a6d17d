"""PostgreSQL keeps records and estimates while Redis is down. Afterwards, each request counts once."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import redis
from asgiref.sync import sync_to_async

from billing.ledger import LedgerUnavailable, ReservationGrant, ReserveRequest
from billing.ledger.interface import BudgetLimit, WindowBalance
from billing.ledger.redis import OutagePolicy, RedisLedger, epochs
from billing.ledger.redis.client.keys import heartbeat_key
from billing.ledger.redis.record_store import RecordStore, UnsentRow
from billing.models import UnsentRecord, UsageRecord
from keys.models import ApiKey
from tests.support.databases import Server
from tests.support.ledger_harness import eventually
from tests.support.redis_gateways import (
    PRICE,
    assert_ledger_consistent,
    budget,
    drain_all,
    needs_servers,
    recorded_cost,
    reserve,
    reserve_request,
    run_in_thread,
    settle,
    window_total,
)

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True), needs_servers]

ALLOW_BUDGETED = OutagePolicy(timeout_s=0.3, allow_budgeted=True)
BATCH_DELAY_S = 0.25


@asynccontextmanager
async def redis_down(server: Server, *, empty: bool = False) -> AsyncIterator[None]:
    """Kill Redis, and start it again after the block. If `empty` is true, Redis has lost its data."""
    await run_in_thread(partial(server.kill))
    try:
        yield
    finally:
        await run_in_thread(partial(server.start))
        if empty:
            with redis.Redis.from_url(server.url) as store:
                store.flushall()


async def kill(ledger: RedisLedger) -> None:
    """End a process like SIGKILL, after which the kernel closes its connections."""
    await ledger.background_tasks.stop()
    for close in (ledger.client.close, ledger.record_store.close, ledger.drain_store.close):
        await close()


async def expire_heartbeat(dead: RedisLedger, survivor: RedisLedger, server: Server) -> None:
    """Make a process count as dead, as if its last heartbeat were too long ago."""
    with redis.Redis.from_url(server.url) as store:
        store.delete(heartbeat_key(dead.process_id))
    await eventually(partial(has_reaped, survivor))


async def has_reaped(ledger: RedisLedger) -> bool:
    try:
        await ledger.reaper.reap()
    except Exception:  # Redis has just been started.
        return False
    return await no_unsent_records()


async def count_unsent() -> int:
    return await UnsentRecord.objects.acount()


async def no_unsent_records() -> bool:
    return not await UnsentRecord.objects.aexists()


async def start_allowing_budgeted(server: Server) -> RedisLedger:
    """Start a process that admits requests under a hard budget while Redis is down."""
    ledger = RedisLedger(server.url, ALLOW_BUDGETED)
    await ledger.start()
    return ledger


async def admit(
    ledger: RedisLedger, key: ApiKey, *budget_limit: BudgetLimit
) -> tuple[ReserveRequest, ReservationGrant]:
    result = await reserve(ledger, reserve_request(key, *budget_limit))
    assert isinstance(result, tuple), result
    return result


async def test_budgeted_request_ends_only_after_its_record_is_stored(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    budget_limit = await sync_to_async(budget)(key, 9)
    grant = await admit(gateways[0], key, budget_limit)
    async with redis_down(server):
        await settle(gateways[0], *grant, cost=4)
        assert await UnsentRecord.objects.filter(pk=grant[0].id, owner="").aexists()
        refused = reserve_request(key, budget_limit)
        with pytest.raises(LedgerUnavailable):
            await gateways[0].reserve(refused)
        refused.estimate.cost_nano = 0
        await gateways[0].record(refused.estimate)
        assert await UnsentRecord.objects.filter(pk=refused.id, owner="").aexists()
    await eventually(no_unsent_records)
    await assert_ledger_consistent(gateways, key, budget_limit)
    assert await recorded_cost() == 4 and await UsageRecord.objects.acount() == 2


async def test_records_without_budget_are_written_in_batches(
    gateways: list[RedisLedger], key: ApiKey, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    save_unsent = RecordStore.save_unsent

    async def count_batches(self: RecordStore, rows: list[object]) -> None:
        batches.append(len(rows))
        await save_unsent(self, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(RecordStore, "save_unsent", count_batches)
    grants = [await admit(gateways[0], key) for _ in range(30)]
    async with redis_down(server):
        for each in grants:
            await settle(gateways[0], *each, cost=1)
        await asyncio.sleep(BATCH_DELAY_S)
        assert await UnsentRecord.objects.filter(owner="").acount() == 30
        assert len(batches) < 10
    await eventually(no_unsent_records)
    await drain_all(gateways)
    assert await recorded_cost() == 30 and await UsageRecord.objects.acount() == 30


@pytest.mark.parametrize("empty", [False, True])
async def test_records_of_a_killed_process_count_once(
    gateways: list[RedisLedger], key: ApiKey, server: Server, monkeypatch: pytest.MonkeyPatch, empty: bool
) -> None:
    monkeypatch.setattr(epochs, "REBUILD_GRACE_S", 0.5)
    budget_limit, killed = await sync_to_async(budget)(key, 9), gateways.pop(0)
    grant = await admit(killed, key, budget_limit)
    async with redis_down(server, empty=empty):
        await settle(killed, *grant, cost=4)
        await kill(killed)
    await eventually(partial(all_collected, gateways))
    await eventually(partial(is_admitted, gateways[0], key, budget_limit))
    await expire_heartbeat(killed, gateways[0], server)
    await assert_ledger_consistent(gateways, key, budget_limit)
    assert (
        await recorded_cost() == 4
        and await UsageRecord.objects.filter(corrects=None, cost_nano=4).acount() == 1
    )


async def all_collected(gateways: list[RedisLedger]) -> bool:
    """Collect unsent records in all processes at once, as if all had detected the end of an outage."""
    await asyncio.gather(*(ledger.client.probe_if_open() for ledger in gateways), return_exceptions=True)
    # A process that read a row but did not reach Redis retries that record on its own.
    await asyncio.gather(
        *(ledger.background_tasks.retry_pending() for ledger in gateways), return_exceptions=True
    )
    collected = await asyncio.gather(
        *(ledger.reaper.settle_unsent() for ledger in gateways), return_exceptions=True
    )
    return collected == [None] * len(gateways) and await no_unsent_records()


async def is_admitted(ledger: RedisLedger, key: ApiKey, budget_limit: BudgetLimit) -> bool:
    result = await reserve(ledger, request := reserve_request(key, budget_limit))
    if isinstance(result, tuple):
        await ledger.release(result[1], request.estimate)
    return isinstance(result, tuple)


@pytest.mark.parametrize("dies", [False, True])
async def test_settlement_executed_after_its_timeout_counts_once(
    gateways: list[RedisLedger], key: ApiKey, server: Server, dies: bool
) -> None:
    budget_limit, ledger = await sync_to_async(budget)(key, 9), gateways.pop(0)
    grant = await admit(ledger, key, budget_limit)
    server.pause()
    await settle(ledger, *grant, cost=4)
    assert await UnsentRecord.objects.filter(pk=grant[0].id, owner="").aexists()
    if dies:
        await kill(ledger)
    server.resume()
    await eventually(partial(all_collected, gateways))
    if dies:
        await expire_heartbeat(ledger, gateways[0], server)
    else:
        await drain_all([ledger])
        await ledger.stop()
    await assert_ledger_consistent(gateways, key, budget_limit)
    assert await recorded_cost() == 4 and await UsageRecord.objects.acount() == 1


async def test_records_sent_by_several_processes_count_once(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    """The process is alive, and sends its records to Redis while other processes send them too."""
    budget_limit = await sync_to_async(budget)(key, 900)
    for ledger in gateways:
        await ledger.background_tasks.stop()
    grants = [await admit(gateways[0], key) for _ in range(40)]
    async with redis_down(server, empty=True):
        for each in grants:
            await settle(gateways[0], *each, cost=3)
        await gateways[0].spill()
        assert await UnsentRecord.objects.filter(owner="").acount() == 40
    await eventually(partial(is_admitted, gateways[1], key, budget_limit), seconds=20)
    while gateways[0].pending.unsent_records():
        await asyncio.gather(
            *(ledger.reaper.settle_unsent() for ledger in gateways),
            gateways[0].retry_pending(),
            return_exceptions=True,
        )
        await asyncio.sleep(0.05)
    await gateways[0].spill()
    assert await no_unsent_records()
    await assert_ledger_consistent(gateways, key, budget_limit)
    assert await recorded_cost() == 120 and await UsageRecord.objects.filter(cost_nano=3).acount() == 40


@pytest.mark.parametrize("empty", [False, True])
async def test_reservation_of_a_process_killed_in_an_outage_is_estimated(
    gateways: list[RedisLedger], key: ApiKey, server: Server, monkeypatch: pytest.MonkeyPatch, empty: bool
) -> None:
    """Redis may return without the reservation. If the process only seemed dead, it corrects the estimate."""
    monkeypatch.setattr(epochs, "REBUILD_GRACE_S", 0.5)
    budget_limit, frozen = await sync_to_async(budget)(key, 9), gateways[0]
    grant = await admit(frozen, key, budget_limit)
    async with redis_down(server, empty=empty):
        await eventually(partial(is_written, grant[0]))
        await frozen.background_tasks.stop()
    await eventually(partial(is_admitted, gateways[1], key, budget_limit), seconds=20)
    await expire_heartbeat(frozen, gateways[1], server)
    await assert_ledger_consistent(gateways[1:], key, budget_limit)
    assert await UsageRecord.objects.filter(pk=grant[0].id, estimated=True, cost_nano=PRICE).aexists()
    assert await no_unsent_records()
    for _ in range(2):
        await settle(frozen, *grant, cost=4)
    await assert_ledger_consistent(gateways, key, budget_limit)
    assert await recorded_cost() == 4 and await UsageRecord.objects.filter(corrects=grant[0].id).acount() == 1


async def is_spilled(ledger: RedisLedger, request: ReserveRequest) -> bool:
    await ledger.spill()
    return await is_written(request)


async def is_written(request: ReserveRequest) -> bool:
    return await UnsentRecord.objects.filter(pk=request.id).aexists()


async def test_request_admitted_without_redis_survives_its_process(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    """PostgreSQL has an estimate of its cost before the provider is called."""
    budget_limit = await sync_to_async(budget)(key, 9)
    ledger = await start_allowing_budgeted(server)
    async with redis_down(server):
        grant = await admit(ledger, key, budget_limit)
        assert await UnsentRecord.objects.filter(pk=grant[0].id, owner=ledger.process_id).aexists()
        await kill(ledger)
    await eventually(partial(is_admitted, gateways[0], key, budget_limit))
    assert await count_unsent() == 1
    await expire_heartbeat(ledger, gateways[0], server)
    await assert_ledger_consistent(gateways, key, budget_limit)
    record = await UsageRecord.objects.aget(pk=grant[0].id)
    assert (record.cost_nano, record.estimated, record.unchecked) == (PRICE, True, True)


async def test_request_that_ends_after_redis_returns_leaves_no_row(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    budget_limit = await sync_to_async(budget)(key, 9)
    ledger = await start_allowing_budgeted(server)
    async with redis_down(server):
        grant = await admit(ledger, key, budget_limit)
    await eventually(partial(is_admitted, gateways[0], key, budget_limit))
    await settle(ledger, *grant, cost=4)
    await eventually(no_unsent_records)
    await drain_all([ledger])
    await ledger.stop()
    assert (await UsageRecord.objects.aget(pk=grant[0].id)).unchecked
    await assert_ledger_consistent(gateways, key, budget_limit)
    assert await recorded_cost() == 4


async def test_record_only_in_redis_survives_its_process_and_redis(
    gateways: list[RedisLedger], key: ApiKey, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "REBUILD_GRACE_S", 0.5)
    budget_limit = await sync_to_async(budget)(key, 9)
    for ledger in gateways:
        await ledger.background_tasks.stop()
    killed = gateways.pop(0)
    grant = await admit(killed, key, budget_limit)
    await settle(killed, *grant, cost=4)
    async with redis_down(server, empty=True):
        await eventually(partial(is_spilled, killed, grant[0]))
        await kill(killed)
    await eventually(partial(all_collected, gateways))
    await eventually(partial(is_admitted, gateways[0], key, budget_limit))
    await assert_ledger_consistent(gateways, key, budget_limit)
    assert await recorded_cost() == 4


async def test_spend_from_an_outage_counts_before_a_new_process_admits(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    budget_limit = await sync_to_async(budget)(key, 2)
    for ledger in gateways:
        await ledger.background_tasks.stop()
    ledger = await start_allowing_budgeted(server)
    async with redis_down(server):
        for _ in range(3):
            await settle(ledger, *await admit(ledger, key, budget_limit), cost=PRICE)
        await kill(ledger)
    ledger = await start_allowing_budgeted(server)
    assert not isinstance(await reserve(ledger, reserve_request(key, budget_limit)), tuple)
    assert await window_total(key, budget_limit) == WindowBalance(3 * PRICE, 0)
    await ledger.stop()


async def test_request_without_budget_does_not_wait_for_postgresql(
    gateways: list[RedisLedger], key: ApiKey, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = asyncio.Event()
    monkeypatch.setattr(gateways[0].record_store, "save_unsent", lambda _: blocked.wait())
    grant = await admit(gateways[0], key)
    async with redis_down(server):
        async with asyncio.timeout(1):
            await settle(gateways[0], *grant, cost=1)
    blocked.set()
    await drain_all(gateways)
    assert await recorded_cost() == 1


async def test_request_cancelled_before_local_admission_costs_nothing(
    gateways: list[RedisLedger], key: ApiKey, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget_limit, proceed, save_unsent = (
        await sync_to_async(budget)(key, 9),
        asyncio.Event(),
        RecordStore.save_unsent,
    )

    async def save_slowly(self: RecordStore, rows: Iterable[UnsentRow]) -> None:
        await proceed.wait()
        await save_unsent(self, rows)

    ledger, request = await start_allowing_budgeted(server), reserve_request(key, budget_limit)
    async with redis_down(server):
        monkeypatch.setattr(RecordStore, "save_unsent", save_slowly)
        reserving = asyncio.create_task(ledger.reserve(request))
        await asyncio.sleep(0.2)
        reserving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reserving
        proceed.set()
    await eventually(no_unsent_records)
    await drain_all([ledger])
    await ledger.stop()
    assert not ledger.pending.reservations
    assert (await UsageRecord.objects.aget(pk=request.id)).cost_nano == 0
