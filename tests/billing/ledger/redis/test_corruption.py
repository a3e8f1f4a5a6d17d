"""What is damaged in Redis, or owed by processes that are gone: it keeps nothing else back, and is charged once."""

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
from billing.ledger.redis.record_store import Waiting
from billing.models import Outcome, UnsentRecord, UsageRecord
from keys.models import ApiKey
from projects.ids import uuid7
from projects.models import Project, User
from tests.billing.ledger.redis.test_ledger import (  # fmt: skip
    LONG_TIMEOUT,
    PRICE,
    TODAY,
    WINDOW,
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


@pytest.mark.parametrize("kept", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
async def test_unsent_records_of_a_stopped_process_are_written_by_another(
    gateways: list[RedisLedger], key: ApiKey, server: Server, monkeypatch: pytest.MonkeyPatch, kept: float
) -> None:
    """Once, in a window that was open then as in one that opens before it is found; and whatever Redis has lost of its end: what it
    answered may not have left its memory, if the disk is busy.
    """
    monkeypatch.setattr(epochs, "REBUILD_GRACE_S", 0.5)
    terms, younger = (
        await sync_to_async(budget)(key, 9),
        await sync_to_async(budget)(key, 8, whole_project=True),
    )
    wanted, refused = reserve_request(key, terms), reserve_request(key, terms)
    file = append_only_file(server)
    before = file.stat().st_size
    held = await gateways[0].reserve(wanted)
    await run_in_thread(partial(server.kill))
    os.truncate(file, before + int((file.stat().st_size - before) * kept))
    await settle(gateways[0], wanted, held, cost=4)
    refused.estimate.cost_nano, refused.estimate.outcome = 0, Outcome.UNAVAILABLE
    await gateways[0].record(refused.estimate)
    await gateways.pop(0).stop()
    assert await UnsentRecord.objects.acount() == 2
    await run_in_thread(partial(server.start))
    await eventually(lambda: can_reserve(gateways[0], reserve_request(key, terms, younger)))
    for _ in range(2):
        await gateways[0].reaper.reap()
    await drain_all(gateways)
    assert not await UnsentRecord.objects.aexists()
    records = {record.pk: (record.cost_nano, record.estimated) async for record in UsageRecord.objects.all()}
    assert records[wanted.id] == (4, False) and records[refused.estimate.id][0] == 0
    for each in (terms, younger):
        await assert_ledger_consistent(gateways, key, each)


def append_only_file(server: Server) -> Path:
    with redis.Redis.from_url(server.url) as store:
        place = store.config_get("dir", "appenddirname")
    (file,) = Path(place["dir"], place["appenddirname"]).glob("*.incr.aof")
    return file


async def test_unsent_record_ends_its_reservation(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    """Redis takes a command that was given up long before, when the process that sent it has ended."""
    terms = await sync_to_async(budget)(key, 9)
    await gateways[1].release(await gateways[1].reserve(warm := reserve_request(key, terms)), warm.estimate)
    doomed, wanted = gateways.pop(0), reserve_request(key, terms)
    await doomed.release(await doomed.reserve(warm := reserve_request(key, terms)), warm.estimate)
    server.pause()
    with pytest.raises(LedgerUnavailable):
        await doomed.reserve(wanted)
    doomed.pending.pending_cancellations.clear()  # it ends before it can undo the reservation
    while not doomed.client.breaker.is_open:
        doomed.client.breaker.record_failure()
        await asyncio.sleep(FAILURE_WINDOW_S)
    wanted.estimate.cost_nano, wanted.estimate.estimated = 0, False
    await doomed.record(wanted.estimate)
    await doomed.stop()
    assert await UnsentRecord.objects.filter(pk=wanted.id).aexists()
    for each in gateways:
        await each.background_tasks.stop()  # they would bring it to Redis at once
    server.resume()
    await eventually(lambda: can_reserve(gateways[0], reserve_request(key, terms)))
    with redis.Redis.from_url(server.url) as store:
        assert store.hexists(f"{key_prefix(key.project_id)}open", wanted.id.hex)
        store.delete(heartbeat_key(doomed.process_id))
    await gateways[0].reaper.reap()
    await assert_ledger_consistent(gateways, key, terms)
    assert await recorded_cost() == 0


async def test_unreadable_unsent_record_does_not_block_others(
    gateways: list[RedisLedger], key: ApiKey
) -> None:
    entry = reserve_request(key).estimate
    await UnsentRecord.objects.acreate(id=uuid7(), entry="{")
    await gateways[0].drain_store.save_unsent([Waiting(entry)])
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
    terms, others = await sync_to_async(budget)(key, 9), await sync_to_async(budget)(other, 9)
    await ledger.reserve(reserve_request(key, terms))
    wanted = reserve_request(other, others)
    held = await ledger.reserve(wanted)
    with redis.Redis.from_url(server.url) as store:
        store.hset(key_prefix(key.project_id) + name, damage, "abc") if damage else store.set(
            key_prefix(key.project_id) + name, "abc"
        )
    await reserve(ledger, reserve_request(key, terms))
    ledger.client.breaker.failures, ledger.client.breaker.open_until = FAILURE_THRESHOLD, math.inf
    await settle(ledger, wanted, held, cost=4)
    ledger.client.breaker.failures = 0
    await ledger.tick()
    await ledger.retry_pending()
    await ledger.reaper.reap()
    await ledger.drainer.drain()
    assert await UsageRecord.objects.filter(pk=wanted.id, cost_nano=4).aexists()
    with redis.Redis.from_url(server.url) as store:
        store.flushall()
    for each in gateways:
        each.pending.reservations.clear()


async def test_corrupt_project_does_not_open_the_breaker(
    gateways: list[RedisLedger], key: ApiKey, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("billing.ledger.redis.client.circuit_breaker.FAILURE_WINDOW_S", 0.0)
    terms = await sync_to_async(budget)(key, 9)
    with redis.Redis.from_url(server.url) as store:
        store.set(f"{key_prefix(key.project_id)}state", "damaged")
        for _ in range(2 * FAILURE_THRESHOLD):
            assert isinstance(await reserve(gateways[0], reserve_request(key, terms)), LedgerUnavailable)
        assert not gateways[0].client.breaker.is_open
        store.flushall()


async def test_corrupt_dedup_marker_fails_no_request(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    held = await gateways[0].reserve(wanted := reserve_request(key))
    with redis.Redis.from_url(server.url) as store:
        store.hdel(f"{key_prefix(key.project_id)}open", wanted.id.hex)
        store.set(f"{key_prefix(key.project_id)}done:{wanted.id.hex}", "{")
        await settle(gateways[0], wanted, held, cost=4)
        assert [posting.entry.id for posting in gateways[0].pending.unsent_records()] == [wanted.id]
        store.delete(f"{key_prefix(key.project_id)}done:{wanted.id.hex}")
    await drain_all(gateways)
    assert await recorded_cost() == 4


async def test_record_rejected_by_sql_does_not_block_others(
    gateways: list[RedisLedger], key: ApiKey, alice: User
) -> None:
    """Of whichever project: records of several are written together."""
    for ledger in gateways:
        await ledger.background_tasks.stop()
    project = await sync_to_async(Project.objects.create_with_owner)("Other", owner=alice)
    other = (await sync_to_async(ApiKey.objects.issue)(project, "app"))[0]
    damaged, sound = reserve_request(key).estimate, reserve_request(other).estimate
    damaged.status_code, damaged.cost_nano, sound.cost_nano = -1, 0, 0
    for entry in (damaged, sound):
        await gateways[0].record(entry)
    await gateways[0].drainer.drain()
    assert [record.pk async for record in UsageRecord.objects.all()] == [sound.id]
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
    """Of whichever project: all outboxes are drained together."""
    outbox = f"{key_prefix(key.project_id)}out"
    with redis.Redis.from_url(server.url) as store:
        for text in ("{", "{}", b'"\xff"'):
            store.xadd(outbox, {"id": "x", "key": key.pk, "day": TODAY.isoformat(), "cost": 0, "entry": text})
    terms = await sync_to_async(budget)(key, 10)
    answer = await reserve(gateways[0], reserve_request(key, terms))
    assert isinstance(answer, tuple)
    await settle(gateways[0], *answer, cost=PRICE)
    await assert_ledger_consistent(gateways, key, terms)
    assert await UsageRecord.objects.acount() == 1


async def test_a_window_that_redis_lost_alone_counts_each_reservation_once(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    terms = await sync_to_async(budget)(key, 10)
    held = await reserve(gateways[0], reserve_request(key, terms))
    assert isinstance(held, tuple)
    with redis.Redis.from_url(server.url) as store:
        store.delete(f"{key_prefix(key.project_id)}w:{terms.id}/{WINDOW}")
    other = await reserve(gateways[0], reserve_request(key, terms))
    assert isinstance(other, tuple) and await window_total(key, terms) == WindowBalance(0, 2 * PRICE)
    for each in (held, other):
        await settle(gateways[0], *each, cost=1)
    await assert_ledger_consistent(gateways, key, terms)


async def test_unsettleable_orphan_does_not_block_others(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    """Neither those on its own page, nor those after it."""
    terms = await sync_to_async(budget)(key, 1000)
    dying = RedisLedger(server.url, LONG_TIMEOUT)
    await dying.start()
    wanted = [reserve_request(key, terms) for _ in range(2 * reaper.PAGE_SIZE + 50)]
    for each in wanted:
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
                wanted
            ) - len(broken)
        assert set(store.hkeys(name)) == set(broken)
        store.delete(name)
    await dying.stop()
