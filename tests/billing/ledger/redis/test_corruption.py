"""Damaged data affects only itself, and unsent records of dead processes are charged once."""

import asyncio
import math
import os
from functools import partial
from pathlib import Path

import pytest
import redis
from asgiref.sync import sync_to_async

from billing.ledger import LedgerUnavailable, ReserveRequest
from billing.ledger.interface import WindowBalance
from billing.ledger.redis import RedisLedger, epochs, reaper
from billing.ledger.redis.client.circuit_breaker import FAILURE_THRESHOLD, FAILURE_WINDOW_S
from billing.ledger.redis.client.keys import heartbeat_key, key_prefix
from billing.ledger.redis.record_store import UnsentRow
from billing.models import Outcome, UnsentRecord, UsageRecord
from keys.models import ApiKey
from projects.ids import uuid7
from projects.models import Project, User
from tests.support.databases import Server
from tests.support.ledger_harness import eventually
from tests.support.redis_gateways import (
    LONG_TIMEOUT,
    PRICE,
    TODAY,
    WINDOW,
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


@pytest.mark.parametrize("kept_share", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
async def test_unsent_records_of_a_stopped_process_are_written_by_another(
    gateways: list[RedisLedger],
    key: ApiKey,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    kept_share: float,
) -> None:
    """Each record counts once, in a window that was open then and in one that opens before it is sent.

    This is also true if Redis has lost its last writes. On a busy disk, Redis may reply before they are in
    the file.
    """
    monkeypatch.setattr(epochs, "REBUILD_GRACE_S", 0.5)
    budget_limit, younger_budget = (
        await sync_to_async(budget)(key, 9),
        await sync_to_async(budget)(key, 8, whole_project=True),
    )
    request, denied = reserve_request(key, budget_limit), reserve_request(key, budget_limit)
    file = append_only_file(server)
    before = file.stat().st_size
    grant = await gateways[0].reserve(request)
    await run_in_thread(partial(server.kill))
    os.truncate(file, before + int((file.stat().st_size - before) * kept_share))
    await settle(gateways[0], request, grant, cost=4)
    denied.estimate.cost_nano, denied.estimate.outcome = 0, Outcome.UNAVAILABLE
    await gateways[0].record(denied.estimate)
    await gateways.pop(0).stop()
    assert await UnsentRecord.objects.acount() == 2
    await run_in_thread(partial(server.start))
    await eventually(lambda: can_reserve(gateways[0], reserve_request(key, budget_limit, younger_budget)))
    for _ in range(2):
        await gateways[0].reaper.reap()
    await drain_all(gateways)
    assert not await UnsentRecord.objects.aexists()
    records = {record.pk: (record.cost_nano, record.estimated) async for record in UsageRecord.objects.all()}
    assert records[request.id] == (4, False) and records[denied.estimate.id][0] == 0
    for each in (budget_limit, younger_budget):
        await assert_ledger_consistent(gateways, key, each)


def append_only_file(server: Server) -> Path:
    with redis.Redis.from_url(server.url) as store:
        directory = store.config_get("dir", "appenddirname")
    (file,) = Path(directory["dir"], directory["appenddirname"]).glob("*.incr.aof")
    return file


async def test_unsent_record_ends_its_reservation(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    """Redis executes a command after its process has timed out and ended."""
    budget_limit = await sync_to_async(budget)(key, 9)
    await gateways[1].release(
        await gateways[1].reserve(warm := reserve_request(key, budget_limit)), warm.estimate
    )
    stopped, request = gateways.pop(0), reserve_request(key, budget_limit)
    await stopped.release(await stopped.reserve(warm := reserve_request(key, budget_limit)), warm.estimate)
    server.pause()
    with pytest.raises(LedgerUnavailable):
        await stopped.reserve(request)
    stopped.pending.pending_cancellations.clear()  # The process ends before it undoes the reservation.
    while not stopped.client.breaker.is_open:
        stopped.client.breaker.record_failure()
        await asyncio.sleep(FAILURE_WINDOW_S)
    request.estimate.cost_nano, request.estimate.estimated = 0, False
    await stopped.record(request.estimate)
    await stopped.stop()
    assert await UnsentRecord.objects.filter(pk=request.id).aexists()
    for each in gateways:
        await each.background_tasks.stop()  # These processes would send the record to Redis at once.
    server.resume()
    await eventually(lambda: can_reserve(gateways[0], reserve_request(key, budget_limit)))
    with redis.Redis.from_url(server.url) as store:
        assert store.hexists(f"{key_prefix(key.project_id)}open", request.id.hex)
        store.delete(heartbeat_key(stopped.process_id))
    await gateways[0].reaper.reap()
    await assert_ledger_consistent(gateways, key, budget_limit)
    assert await recorded_cost() == 0


async def test_unreadable_unsent_record_does_not_block_others(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    entry = reserve_request(key).estimate
    await UnsentRecord.objects.acreate(id=uuid7(), entry="{")
    await gateways[0].drain_store.save_unsent([UnsentRow(entry)])
    await gateways[0].reaper.reap()
    await drain_all(gateways)
    assert await UsageRecord.objects.filter(pk=entry.id).aexists()
    assert await UnsentRecord.objects.acount() == 1


@pytest.mark.parametrize(("name", "damage"), [("state", "opens"), ("open", ""), ("out", "")])
async def test_corrupt_project_does_not_block_others(
    gateways: list[RedisLedger], key: ApiKey, alice: User, server: Server, name: str, damage: str
) -> None:
    ledger = gateways[0]
    project = await sync_to_async(Project.objects.create_with_owner)("Other", owner=alice)
    other = (await sync_to_async(ApiKey.objects.issue)(project, "app"))[0]
    budget_limit, others = await sync_to_async(budget)(key, 9), await sync_to_async(budget)(other, 9)
    await ledger.reserve(reserve_request(key, budget_limit))
    request = reserve_request(other, others)
    grant = await ledger.reserve(request)
    with redis.Redis.from_url(server.url) as store:
        store.hset(key_prefix(key.project_id) + name, damage, "abc") if damage else store.set(
            key_prefix(key.project_id) + name, "abc"
        )
    await reserve(ledger, reserve_request(key, budget_limit))
    ledger.client.breaker.failures, ledger.client.breaker.open_until = FAILURE_THRESHOLD, math.inf
    await settle(ledger, request, grant, cost=4)
    ledger.client.breaker.failures = 0
    await ledger.tick()
    await ledger.retry_pending()
    await ledger.reaper.reap()
    await ledger.drainer.drain()
    assert await UsageRecord.objects.filter(pk=request.id, cost_nano=4).aexists()
    with redis.Redis.from_url(server.url) as store:
        store.flushall()
    for each in gateways:
        each.pending.reservations.clear()


async def test_corrupt_project_does_not_open_the_breaker(
    gateways: list[RedisLedger], key: ApiKey, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("billing.ledger.redis.client.circuit_breaker.FAILURE_WINDOW_S", 0.0)
    budget_limit = await sync_to_async(budget)(key, 9)
    with redis.Redis.from_url(server.url) as store:
        store.set(f"{key_prefix(key.project_id)}state", "damaged")
        for _ in range(2 * FAILURE_THRESHOLD):
            assert isinstance(
                await reserve(gateways[0], reserve_request(key, budget_limit)), LedgerUnavailable
            )
        assert not gateways[0].client.breaker.is_open
        store.flushall()


async def test_corrupt_dedup_marker_fails_no_request(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    grant = await gateways[0].reserve(request := reserve_request(key))
    with redis.Redis.from_url(server.url) as store:
        store.hdel(f"{key_prefix(key.project_id)}open", request.id.hex)
        store.set(f"{key_prefix(key.project_id)}done:{request.id.hex}", "{")
        await settle(gateways[0], request, grant, cost=4)
        assert [record.entry.id for record in gateways[0].pending.unsent_records()] == [request.id]
        store.delete(f"{key_prefix(key.project_id)}done:{request.id.hex}")
    await drain_all(gateways)
    assert await recorded_cost() == 4


async def test_record_rejected_by_sql_does_not_block_others(
    gateways: list[RedisLedger], key: ApiKey, alice: User
) -> None:
    """Records of other projects are written in the same transaction."""
    for ledger in gateways:
        await ledger.background_tasks.stop()
    project = await sync_to_async(Project.objects.create_with_owner)("Other", owner=alice)
    other = (await sync_to_async(ApiKey.objects.issue)(project, "app"))[0]
    damaged, valid = reserve_request(key).estimate, reserve_request(other).estimate
    damaged.status_code, damaged.cost_nano, valid.cost_nano = -1, 0, 0
    for entry in (damaged, valid):
        await gateways[0].record(entry)
    await gateways[0].drainer.drain()
    assert [record.pk async for record in UsageRecord.objects.all()] == [valid.id]
    assert await gateways[0].drainer.drain() == 0


async def can_reserve(ledger: RedisLedger, request: ReserveRequest) -> bool:
    try:
        await ledger.release(await ledger.reserve(request), request.estimate)
    except LedgerUnavailable:
        return False
    return True


async def test_invalid_stream_entry_does_not_block_others(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    """All record streams are drained together."""
    stream = f"{key_prefix(key.project_id)}out"
    with redis.Redis.from_url(server.url) as store:
        for text in ("{", "{}", b'"\xff"'):
            store.xadd(stream, {"id": "x", "key": key.pk, "day": TODAY.isoformat(), "cost": 0, "entry": text})
    budget_limit = await sync_to_async(budget)(key, 10)
    result = await reserve(gateways[0], reserve_request(key, budget_limit))
    assert isinstance(result, tuple)
    await settle(gateways[0], *result, cost=PRICE)
    await assert_ledger_consistent(gateways, key, budget_limit)
    assert await UsageRecord.objects.acount() == 1


async def test_lost_window_counts_each_reservation_once(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    budget_limit = await sync_to_async(budget)(key, 10)
    grant = await reserve(gateways[0], reserve_request(key, budget_limit))
    assert isinstance(grant, tuple)
    with redis.Redis.from_url(server.url) as store:
        store.delete(f"{key_prefix(key.project_id)}w:{budget_limit.id}/{WINDOW}")
    other = await reserve(gateways[0], reserve_request(key, budget_limit))
    assert isinstance(other, tuple) and await window_total(key, budget_limit) == WindowBalance(0, 2 * PRICE)
    for each in (grant, other):
        await settle(gateways[0], *each, cost=1)
    await assert_ledger_consistent(gateways, key, budget_limit)


async def test_unsettleable_orphan_does_not_block_others(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    """Orphans on the same page and after it are settled."""
    budget_limit = await sync_to_async(budget)(key, 1000)
    dying = RedisLedger(server.url, LONG_TIMEOUT)
    await dying.start()
    requests = [reserve_request(key, budget_limit) for _ in range(2 * reaper.PAGE_SIZE + 50)]
    for each in requests:
        await dying.reserve(each)
    name = f"{key_prefix(key.project_id)}open"
    with redis.Redis.from_url(server.url) as store:
        broken = list(store.hgetall(name))[: reaper.PAGE_SIZE + 20]
        for id in broken:
            head, _, _ = store.hget(name, id).partition(b"\n")
            store.hset(name, id, head + b"\n{")
        dying.pending.reservations.clear()
        async with asyncio.timeout(30):
            assert await gateways[0].reaper.settle_orphans_of(key.project_id, dying.process_id) == len(
                requests
            ) - len(broken)
        assert set(store.hkeys(name)) == set(broken)
        store.delete(name)
    await dying.stop()
