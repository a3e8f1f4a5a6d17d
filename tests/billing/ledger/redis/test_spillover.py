"""While Redis is away, PostgreSQL keeps what a process alone knows; when Redis is back, each request is counted once."""

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
from billing.ledger.redis.client.scripts import heartbeat_key
from billing.ledger.redis.record_store import RecordStore, Waiting
from billing.models import UnsentRecord, UsageRecord
from keys.models import ApiKey
from tests.billing.ledger.redis.test_ledger import (  # fmt: skip
    PRICE,
    assert_ledger_consistent,
    budget,
    drain_all,
    gateways,
    pytestmark,
    recorded_cost,
    reserve,
    reserve_request,
    server,
    settle,
    window_total,
)
from tests.billing.ledger.redis.test_outages import run_in_thread
from tests.support.databases import Server
from tests.support.ledger_harness import eventually

__all__ = ["gateways", "pytestmark", "server"]

OPEN = OutagePolicy(timeout_s=0.3, allow_budgeted=True)
BATCHED_S = 0.25


@asynccontextmanager
async def away(server: Server, *, empty: bool = False) -> AsyncIterator[None]:
    """Redis is killed for the length of the block. `empty`: it comes back without its data."""
    await run_in_thread(partial(server.kill))
    try:
        yield
    finally:
        await run_in_thread(partial(server.start))
        if empty:
            with redis.Redis.from_url(server.url) as store:
                store.flushall()


async def kill(ledger: RedisLedger) -> None:
    """End it as SIGKILL does: the kernel closes its connections."""
    await ledger.background_tasks.stop()
    for closing in (ledger.client.close, ledger.record_store.close, ledger.drain_store.close):
        await closing()


async def give_up_on(dead: RedisLedger, heir: RedisLedger, server: Server) -> None:
    """Let the time pass after which a process counts as dead."""
    with redis.Redis.from_url(server.url) as store:
        store.delete(heartbeat_key(dead.process_id))
    await eventually(partial(reaped, heir))


async def reaped(ledger: RedisLedger) -> bool:
    try:
        await ledger.reaper.reap()
    except Exception:  # Redis has just been started.
        return False
    return await nothing_waits()


async def waiting() -> int:
    return await UnsentRecord.objects.acount()


async def nothing_waits() -> bool:
    return not await UnsentRecord.objects.aexists()


async def start_open(server: Server) -> RedisLedger:
    """Start a process that admits requests under a hard budget while Redis is away."""
    ledger = RedisLedger(server.url, OPEN)
    await ledger.start()
    return ledger


async def admitted(
    ledger: RedisLedger, key: ApiKey, *terms: BudgetLimit
) -> tuple[ReserveRequest, ReservationGrant]:
    answer = await reserve(ledger, reserve_request(key, *terms))
    assert isinstance(answer, tuple), answer
    return answer


async def test_a_request_under_a_budget_does_not_end_before_a_store_has_its_record(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    terms = await sync_to_async(budget)(key, 9)
    held = await admitted(gateways[0], key, terms)
    async with away(server):
        await settle(gateways[0], *held, cost=4)
        assert await UnsentRecord.objects.filter(pk=held[0].id, owner="").aexists()
        refused = reserve_request(key, terms)
        with pytest.raises(LedgerUnavailable):
            await gateways[0].reserve(refused)
        refused.estimate.cost_nano = 0
        await gateways[0].record(refused.estimate)
        assert await UnsentRecord.objects.filter(pk=refused.id, owner="").aexists()
    await eventually(nothing_waits)
    await assert_ledger_consistent(gateways, key, terms)
    assert await recorded_cost() == 4 and await UsageRecord.objects.acount() == 2


async def test_records_of_requests_without_a_budget_are_written_in_batches(
    gateways: list[RedisLedger], key: ApiKey, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    owe = RecordStore.save_unsent

    async def counted(self: RecordStore, rows: list[object]) -> None:
        batches.append(len(rows))
        await owe(self, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(RecordStore, "save_unsent", counted)
    held = [await admitted(gateways[0], key) for _ in range(30)]
    async with away(server):
        for each in held:
            await settle(gateways[0], *each, cost=1)
        await asyncio.sleep(BATCHED_S)
        assert await UnsentRecord.objects.filter(owner="").acount() == 30
        assert len(batches) < 10
    await eventually(nothing_waits)
    await drain_all(gateways)
    assert await recorded_cost() == 30 and await UsageRecord.objects.acount() == 30


@pytest.mark.parametrize("empty", [False, True])
async def test_records_of_a_process_that_was_killed_are_counted_once_by_those_that_adopt_them(
    gateways: list[RedisLedger], key: ApiKey, server: Server, monkeypatch: pytest.MonkeyPatch, empty: bool
) -> None:
    monkeypatch.setattr(epochs, "REBUILD_GRACE_S", 0.5)
    terms, doomed = await sync_to_async(budget)(key, 9), gateways.pop(0)
    held = await admitted(doomed, key, terms)
    async with away(server, empty=empty):
        await settle(doomed, *held, cost=4)
        await kill(doomed)
    await eventually(partial(all_collected, gateways))
    await eventually(partial(is_admitted, gateways[0], key, terms))
    await give_up_on(doomed, gateways[0], server)
    await assert_ledger_consistent(gateways, key, terms)
    assert (
        await recorded_cost() == 4
        and await UsageRecord.objects.filter(corrects=None, cost_nano=4).acount() == 1
    )


async def all_collected(gateways: list[RedisLedger]) -> bool:
    """Collect in all processes at once, as they do when they notice the end of an outage together."""
    await asyncio.gather(*(ledger.client.probe_if_open() for ledger in gateways), return_exceptions=True)
    # A process that read a row but did not reach Redis retries that record on its own.
    await asyncio.gather(
        *(ledger.background_tasks.retry_pending() for ledger in gateways), return_exceptions=True
    )
    collected = await asyncio.gather(
        *(ledger.reaper.settle_unsent() for ledger in gateways), return_exceptions=True
    )
    return collected == [None] * len(gateways) and await nothing_waits()


async def is_admitted(ledger: RedisLedger, key: ApiKey, terms: BudgetLimit) -> bool:
    answer = await reserve(ledger, wanted := reserve_request(key, terms))
    if isinstance(answer, tuple):
        await ledger.release(answer[1], wanted.estimate)
    return isinstance(answer, tuple)


@pytest.mark.parametrize("dies", [False, True])
async def test_a_settlement_that_redis_executes_without_an_answer_counts_once(
    gateways: list[RedisLedger], key: ApiKey, server: Server, dies: bool
) -> None:
    terms, ledger = await sync_to_async(budget)(key, 9), gateways.pop(0)
    held = await admitted(ledger, key, terms)
    server.pause()
    await settle(ledger, *held, cost=4)
    assert await UnsentRecord.objects.filter(pk=held[0].id, owner="").aexists()
    if dies:
        await kill(ledger)
    server.resume()
    await eventually(partial(all_collected, gateways))
    if dies:
        await give_up_on(ledger, gateways[0], server)
    else:
        await drain_all([ledger])
        await ledger.stop()
    await assert_ledger_consistent(gateways, key, terms)
    assert await recorded_cost() == 4 and await UsageRecord.objects.acount() == 1


async def test_a_process_and_those_that_adopt_its_records_post_them_once(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    """The process lives and brings its own records to Redis while others do."""
    terms = await sync_to_async(budget)(key, 900)
    for ledger in gateways:
        await ledger.background_tasks.stop()
    held = [await admitted(gateways[0], key) for _ in range(40)]
    async with away(server, empty=True):
        for each in held:
            await settle(gateways[0], *each, cost=3)
        await gateways[0].spill()
        assert await UnsentRecord.objects.filter(owner="").acount() == 40
    await eventually(partial(is_admitted, gateways[1], key, terms), seconds=20)
    while gateways[0].pending.unsent_records():
        await asyncio.gather(
            *(ledger.reaper.settle_unsent() for ledger in gateways),
            gateways[0].retry_pending(),
            return_exceptions=True,
        )
        await asyncio.sleep(0.05)
    await gateways[0].spill()
    assert await nothing_waits()
    await assert_ledger_consistent(gateways, key, terms)
    assert await recorded_cost() == 120 and await UsageRecord.objects.filter(cost_nano=3).acount() == 40


@pytest.mark.parametrize("empty", [False, True])
async def test_what_a_process_held_that_was_killed_while_redis_was_away_counts_once_as_an_estimate(
    gateways: list[RedisLedger], key: ApiKey, server: Server, monkeypatch: pytest.MonkeyPatch, empty: bool
) -> None:
    """Also if Redis comes back without the reservation; and its process corrects it if it only seemed to be dead."""
    monkeypatch.setattr(epochs, "REBUILD_GRACE_S", 0.5)
    terms, frozen = await sync_to_async(budget)(key, 9), gateways[0]
    held = await admitted(frozen, key, terms)
    async with away(server, empty=empty):
        await eventually(partial(is_written, held[0]))
        await frozen.background_tasks.stop()
    await eventually(partial(is_admitted, gateways[1], key, terms), seconds=20)
    await give_up_on(frozen, gateways[1], server)
    await assert_ledger_consistent(gateways[1:], key, terms)
    assert await UsageRecord.objects.filter(pk=held[0].id, estimated=True, cost_nano=PRICE).aexists()
    assert await nothing_waits()
    for _ in range(2):
        await settle(frozen, *held, cost=4)
    await assert_ledger_consistent(gateways, key, terms)
    assert await recorded_cost() == 4 and await UsageRecord.objects.filter(corrects=held[0].id).acount() == 1


async def is_spilled(ledger: RedisLedger, wanted: ReserveRequest) -> bool:
    await ledger.spill()
    return await is_written(wanted)


async def is_written(wanted: ReserveRequest) -> bool:
    return await UnsentRecord.objects.filter(pk=wanted.id).aexists()


async def test_a_request_that_was_admitted_without_redis_outlives_its_process(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    """Before the provider is called, PostgreSQL has the most that it may cost."""
    terms = await sync_to_async(budget)(key, 9)
    ledger = await start_open(server)
    async with away(server):
        held = await admitted(ledger, key, terms)
        assert await UnsentRecord.objects.filter(pk=held[0].id, owner=ledger.process_id).aexists()
        await kill(ledger)
    await eventually(partial(is_admitted, gateways[0], key, terms))
    assert await waiting() == 1
    await give_up_on(ledger, gateways[0], server)
    await assert_ledger_consistent(gateways, key, terms)
    record = await UsageRecord.objects.aget(pk=held[0].id)
    assert (record.cost_nano, record.estimated, record.unchecked) == (PRICE, True, True)


async def test_a_request_that_ends_when_redis_is_back_leaves_no_row(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    terms = await sync_to_async(budget)(key, 9)
    ledger = await start_open(server)
    async with away(server):
        held = await admitted(ledger, key, terms)
    await eventually(partial(is_admitted, gateways[0], key, terms))
    await settle(ledger, *held, cost=4)
    await eventually(nothing_waits)
    await drain_all([ledger])
    await ledger.stop()
    assert (await UsageRecord.objects.aget(pk=held[0].id)).unchecked
    await assert_ledger_consistent(gateways, key, terms)
    assert await recorded_cost() == 4


async def test_a_record_that_redis_alone_had_outlives_its_process_and_redis(
    gateways: list[RedisLedger], key: ApiKey, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "REBUILD_GRACE_S", 0.5)
    terms = await sync_to_async(budget)(key, 9)
    for ledger in gateways:
        await ledger.background_tasks.stop()
    doomed = gateways.pop(0)
    held = await admitted(doomed, key, terms)
    await settle(doomed, *held, cost=4)
    async with away(server, empty=True):
        await eventually(partial(is_spilled, doomed, held[0]))
        await kill(doomed)
    await eventually(partial(all_collected, gateways))
    await eventually(partial(is_admitted, gateways[0], key, terms))
    await assert_ledger_consistent(gateways, key, terms)
    assert await recorded_cost() == 4


async def test_what_was_spent_without_redis_counts_before_a_new_process_admits_anything(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    terms = await sync_to_async(budget)(key, 2)
    for ledger in gateways:
        await ledger.background_tasks.stop()
    ledger = await start_open(server)
    async with away(server):
        for _ in range(3):
            await settle(ledger, *await admitted(ledger, key, terms), cost=PRICE)
        await kill(ledger)
    ledger = await start_open(server)
    assert not isinstance(await reserve(ledger, reserve_request(key, terms)), tuple)
    assert await window_total(key, terms) == WindowBalance(3 * PRICE, 0)
    await ledger.stop()


async def test_a_request_without_a_budget_does_not_wait_for_postgresql(
    gateways: list[RedisLedger], key: ApiKey, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = asyncio.Event()
    monkeypatch.setattr(gateways[0].record_store, "save_unsent", lambda _: never.wait())
    held = await admitted(gateways[0], key)
    async with away(server):
        async with asyncio.timeout(1):
            await settle(gateways[0], *held, cost=1)
    never.set()
    await drain_all(gateways)
    assert await recorded_cost() == 1


async def test_a_request_that_is_cancelled_before_it_is_admitted_without_redis_costs_nothing(
    gateways: list[RedisLedger], key: ApiKey, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms, go_on, owe = await sync_to_async(budget)(key, 9), asyncio.Event(), RecordStore.save_unsent

    async def slowly(self: RecordStore, rows: Iterable[Waiting]) -> None:
        await go_on.wait()
        await owe(self, rows)

    ledger, wanted = await start_open(server), reserve_request(key, terms)
    async with away(server):
        monkeypatch.setattr(RecordStore, "save_unsent", slowly)
        asking = asyncio.create_task(ledger.reserve(wanted))
        await asyncio.sleep(0.2)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        go_on.set()
    await eventually(nothing_waits)
    await drain_all([ledger])
    await ledger.stop()
    assert not ledger.pending.reservations
    assert (await UsageRecord.objects.aget(pk=wanted.id)).cost_nano == 0
