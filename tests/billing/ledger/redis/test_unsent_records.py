"""Unsent records are sent or saved, and heartbeats are sent, whatever fails."""

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
from billing.ledger.redis.outbox.pending_state import RETENTION_S, PendingRecord, PendingState
from billing.ledger.redis.record_store import RecordStore, UnsentRow
from billing.ledger.sql.connection import connect
from billing.models import CorrectionReason, UnsentRecord, UsageRecord
from billing.pricing import Tokens
from keys.models import ApiKey
from tests.support.databases import Server
from tests.support.ledger_harness import eventually
from tests.support.redis_gateways import (
    LONG_TIMEOUT,
    budget,
    drain_all,
    needs_servers,
    recorded_cost,
    reserve_request,
    settle,
)

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True), needs_servers]


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
    """Heartbeats of live processes are missing too after a pause."""
    budget_limit = await sync_to_async(budget)(key, 9)
    await gateways[0].reserve(request := reserve_request(key, budget_limit))
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
    assert request.id in other.pending.records


async def test_unsent_records_of_cancelled_requests_are_collected_at_once(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    unsent = [reserve_request(key).estimate for _ in range(3)]
    for entry in unsent:
        entry.cost_nano = 0
        await gateways[0].client.run_fast(CANCEL, key.project_id, entry.id.hex, 300)
    await gateways[0].drain_store.save_unsent(map(UnsentRow, unsent))
    await gateways[0].reaper.settle_unsent()
    assert not await UnsentRecord.objects.aexists()
    await drain_all(gateways)
    assert await UsageRecord.objects.acount() == 3


async def test_pending_correction_is_written_once(
    gateways: list[RedisLedger], key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A retry fails, because NaN is not a valid delay.
    monkeypatch.setattr(corrections, "RETRY_DELAY_S", math.nan)
    grant = await gateways[0].reserve(request := reserve_request(key))
    await settle(gateways[0], request, grant, cost=5)
    await drain_all(gateways)
    for ledger in gateways:
        await ledger.background_tasks.stop()
    correction = request.estimate.correction_to(9, Tokens(), CorrectionReason.REPRICED)
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
    ledger.cancel(request := reserve_request(key))
    await asyncio.sleep(0)
    await ledger.stop()
    assert [unsent.pk async for unsent in UnsentRecord.objects.all()] == [request.id]


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
    assert [unsent.pk async for unsent in UnsentRecord.objects.all()] == [entry.id]


async def test_failed_transaction_is_not_committed(gateways: list[RedisLedger]) -> None:
    record_store = RecordStore(connect())
    with pytest.raises(KeyError):
        async with record_store.transaction() as executor:
            await executor.run(
                "INSERT INTO billing_unsentrecord (id, entry) VALUES (gen_random_uuid(), 'half')"
            )
            raise KeyError("odd")
    async with record_store.transaction() as executor:
        await executor.run("SELECT 1")
    assert not await UnsentRecord.objects.aexists()
    await record_store.close()


async def test_permanently_rejected_record_does_not_block_others(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    """Unsent records are tried in turn. If Redis stops answering, the next round begins with another one."""
    ledger = gateways[0]
    first, second = reserve_request(key).estimate, reserve_request(key).estimate
    for entry in (first, second):
        ledger.pending.records[entry.id] = PendingRecord(entry)
    await ledger.background_tasks.stop()
    ledger.client.breaker.failures, ledger.client.breaker.open_until = 99, float("inf")
    await ledger.outbox_writer.retry_pending()
    assert [record.entry.id for record in ledger.pending.unsent_records()] == [second.id, first.id]
    ledger.client.breaker.record_success()
    await drain_all(gateways)


def test_confirmed_records_are_dropped_from_memory(monkeypatch: pytest.MonkeyPatch, key: ApiKey) -> None:
    state = PendingState()
    for age in (RETENTION_S + 1, RETENTION_S - 1):
        entry = reserve_request(key).estimate
        state.records[entry.id] = record = PendingRecord(entry)
        record.mark_written("1-0")
        record.written_at -= age
    state.drop_drained({})
    assert list(state.records) == [entry.id]
