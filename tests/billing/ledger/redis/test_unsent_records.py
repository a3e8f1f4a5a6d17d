"""What a process owes to the ledger on Redis: nothing keeps it from being paid or written down, nor its process from living."""

import asyncio
import math
import time

import pytest
import redis
from asgiref.sync import sync_to_async

from billing.ledger.redis import RedisLedger, corrections
from billing.ledger.redis import ledger as redis_ledger
from billing.ledger.redis.background import STABLE_FOR_S
from billing.ledger.redis.client.keys import LEASE_KEY, heartbeat_key
from billing.ledger.redis.client.scripts import CANCEL
from billing.ledger.redis.outbox.pending import RETENTION_S, PendingRecord, PendingState
from billing.ledger.redis.record_store import RecordStore, Waiting
from billing.ledger.sql.connection import connect
from billing.models import CorrectionReason, UnsentRecord, UsageRecord
from billing.pricing import Tokens
from keys.models import ApiKey
from tests.billing.ledger.redis.test_ledger import (
    LONG_TIMEOUT,
    budget,
    drain_all,
    gateways,
    pytestmark,
    recorded_cost,
    reserve_request,
    server,
    settle,
)
from tests.support.databases import Server
from tests.support.ledger_harness import eventually

__all__ = ["gateways", "pytestmark", "server"]


async def test_process_with_a_large_backlog_still_sends_heartbeats(
    gateways: list[RedisLedger], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("billing.ledger.redis.background.TICK_S", 0.05)
    busy = RedisLedger(server.url, LONG_TIMEOUT)
    busy.background_tasks.retry_pending = busy.background_tasks.on_tick = asyncio.Event().wait  # type: ignore[assignment]
    busy.background_tasks.start()
    await busy.client.open()
    with redis.Redis.from_url(server.url) as store:
        for _ in range(3):
            store.delete(heartbeat_key(busy.process_id))
            await eventually(lambda: sync_to_async(store.exists)(heartbeat_key(busy.process_id)))
    await busy.stop()


async def test_redis_pause_does_not_mark_processes_dead(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    """All have been silent then, the living as well."""
    terms = await sync_to_async(budget)(key, 9)
    await gateways[0].reserve(wanted := reserve_request(key, terms))
    with redis.Redis.from_url(server.url) as store:
        for ledger in gateways:
            await ledger.background_tasks.stop()
            store.delete(LEASE_KEY, heartbeat_key(ledger.process_id))
    other = gateways[1]
    other.background_tasks.stable_since = time.monotonic() - STABLE_FOR_S / 2
    await other.background_tasks.reap()
    assert await UsageRecord.objects.acount() == 0 and not other.pending.records
    other.background_tasks.stable_since = time.monotonic() - 2 * STABLE_FOR_S
    await other.background_tasks.reap()
    assert wanted.id in other.pending.records


async def test_unsent_records_of_cancelled_requests_are_collected_at_once(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    owed = [reserve_request(key).estimate for _ in range(3)]
    for entry in owed:
        entry.cost_nano = 0
        await gateways[0].client.run_fast(CANCEL, key.project_id, entry.id.hex, 300)
    await gateways[0].drain_store.save_unsent(map(Waiting, owed))
    await gateways[0].reaper.settle_unsent()
    assert not await UnsentRecord.objects.aexists()
    await drain_all(gateways)
    assert await UsageRecord.objects.acount() == 3


async def test_a_correction_that_waits_to_be_written_is_made_once(
    gateways: list[RedisLedger], key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corrections, "RETRY_DELAY_S", math.nan)  # to wait for nobody is an error
    held = await gateways[0].reserve(wanted := reserve_request(key))
    await settle(gateways[0], wanted, held, cost=5)
    await drain_all(gateways)
    for ledger in gateways:
        await ledger.background_tasks.stop()
    correction = wanted.estimate.correction_to(9, Tokens(), CorrectionReason.REPRICED)
    for _ in range(2):
        await sync_to_async(corrections.save_correction)(correction)
    await drain_all(gateways)
    assert await recorded_cost() == 9 and await UsageRecord.objects.acount() == 2


async def test_records_in_transit_at_shutdown_are_saved(
    gateways: list[RedisLedger], key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_ledger, "STOP_TIMEOUT_S", 0.2)
    for each in gateways:
        await each.background_tasks.stop()  # they would bring it to Redis at once
    ledger = gateways.pop(0)
    monkeypatch.setattr(ledger.client, "run_fast", lambda *_: asyncio.sleep(60))
    ledger.cancel(wanted := reserve_request(key))
    await asyncio.sleep(0)
    await ledger.stop()
    assert [owed.pk async for owed in UnsentRecord.objects.all()] == [wanted.id]


async def test_unsent_records_are_saved_at_shutdown_despite_failures(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    async def fail() -> None:
        raise KeyError("odd")

    for each in gateways:
        await each.background_tasks.stop()  # they would bring it to Redis at once
    ledger = gateways.pop(0)
    entry = reserve_request(key).estimate
    ledger.pending.records[entry.id] = PendingRecord(entry)
    ledger._flush_and_leave = fail  # type: ignore[method-assign]
    await ledger.stop()
    assert [owed.pk async for owed in UnsentRecord.objects.all()] == [entry.id]


async def test_half_a_transaction_is_never_committed(gateways: list[RedisLedger]) -> None:
    books = RecordStore(connect())
    with pytest.raises(KeyError):
        async with books.transaction() as session:
            await session.run(
                "INSERT INTO billing_unsentrecord (id, entry) VALUES (gen_random_uuid(), 'half')"
            )
            raise KeyError("odd")
    async with books.transaction() as session:
        await session.run("SELECT 1")
    assert not await UnsentRecord.objects.aexists()
    await books.close()


async def test_permanently_rejected_record_does_not_block_others(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    """Those that are owed are tried in turn, and where Redis stops to answer the next round begins with another one."""
    ledger = gateways[0]
    first, second = reserve_request(key).estimate, reserve_request(key).estimate
    for entry in (first, second):
        ledger.pending.records[entry.id] = PendingRecord(entry)
    await ledger.background_tasks.stop()
    ledger.client.breaker.failures, ledger.client.breaker.open_until = 99, float("inf")
    await ledger.outbox_writer.retry_pending()
    assert [posting.entry.id for posting in ledger.pending.unsent_records()] == [second.id, first.id]
    ledger.client.breaker.record_success()
    await drain_all(gateways)


def test_confirmed_records_are_dropped_from_memory(monkeypatch: pytest.MonkeyPatch, key: ApiKey) -> None:
    memory = PendingState()
    for age in (RETENTION_S + 1, RETENTION_S - 1):
        entry = reserve_request(key).estimate
        memory.records[entry.id] = posting = PendingRecord(entry)
        posting.mark_written("1-0")
        posting.written_at -= age
    memory.drop_drained({})
    assert list(memory.records) == [entry.id]
