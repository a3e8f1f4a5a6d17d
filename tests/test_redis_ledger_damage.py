"""What is damaged in Redis, or owed by processes that are gone: it keeps nothing else back, and is charged once."""

import asyncio
import math
import os
from functools import partial
from pathlib import Path

import pytest
import redis
from asgiref.sync import sync_to_async

from billing.ledger import Demand, LedgerUnavailable
from billing.ledger.redis import RedisLedger, projects, reaper
from billing.ledger.redis.books import Waiting
from billing.ledger.redis.breaker import EPISODE_S, FAILURES
from billing.ledger.redis.scripts import alive, prefix
from billing.ledger.terms import Spending
from billing.models import Outcome, OwedRecord, UsageRecord
from keys.models import ApiKey
from projects.ids import uuid7
from projects.models import Project, User
from tests.ledgers import eventually
from tests.services import Server
from tests.test_redis_ledger import (
    PATIENT,
    PRICE,
    TODAY,
    WINDOW,
    assert_books_agree,
    budget,
    demand,
    gateways,
    pytestmark,
    recorded,
    reserve,
    server,
    settle,
    taken,
    write_all,
)  # fmt: skip
from tests.test_redis_ledger_faults import off_loop

__all__ = ["gateways", "pytestmark", "server"]


@pytest.mark.parametrize("kept", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
async def test_what_a_process_owes_when_it_stops_without_redis_is_charged_by_another_one(
    gateways: list[RedisLedger], key: ApiKey, server: Server, monkeypatch: pytest.MonkeyPatch, kept: float
) -> None:
    """Once, in a window that was open then as in one that opens before it is found; and whatever Redis has lost of its end: what it
    answered may not have left its memory, if the disk is busy."""
    monkeypatch.setattr(projects, "GRACE_S", 0.5)
    terms, younger = await sync_to_async(budget)(key, 9), await sync_to_async(budget)(key, 8, whole_project=True)
    wanted, refused = demand(key, terms), demand(key, terms)
    file = append_only_file(server)
    before = file.stat().st_size
    held = await gateways[0].reserve(wanted)
    await off_loop(partial(server.kill))
    os.truncate(file, before + int((file.stat().st_size - before) * kept))
    await settle(gateways[0], wanted, held, cost=4)
    refused.draft.cost_nano, refused.draft.outcome = 0, Outcome.UNAVAILABLE
    await gateways[0].record(refused.draft)
    await gateways.pop(0).stop()
    assert await OwedRecord.objects.acount() == 2
    await off_loop(partial(server.start))
    await eventually(lambda: is_served(gateways[0], demand(key, terms, younger)))
    for _ in range(2):
        await gateways[0].reaper.reap()
    await write_all(gateways)
    assert not await OwedRecord.objects.aexists()
    records = {record.pk: (record.cost_nano, record.estimated) async for record in UsageRecord.objects.all()}
    assert records[wanted.id] == (4, False) and records[refused.draft.id][0] == 0
    for each in (terms, younger):
        await assert_books_agree(gateways, key, each)


def append_only_file(server: Server) -> Path:
    with redis.Redis.from_url(server.url) as store:
        place = store.config_get("dir", "appenddirname")
    (file,) = Path(place["dir"], place["appenddirname"]).glob("*.incr.aof")
    return file


async def test_what_a_process_owes_ends_a_reservation_that_it_never_heard_of(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    """Redis takes a command that was given up long before, when the process that sent it has ended."""
    terms = await sync_to_async(budget)(key, 9)
    await gateways[1].release(await gateways[1].reserve(warm := demand(key, terms)), warm.draft)
    doomed, wanted = gateways.pop(0), demand(key, terms)
    await doomed.release(await doomed.reserve(warm := demand(key, terms)), warm.draft)
    server.pause()
    with pytest.raises(LedgerUnavailable):
        await doomed.reserve(wanted)
    doomed.memory.voids.clear()  # it ends before it can undo the reservation
    while not doomed.store.breaker.is_open:
        doomed.store.breaker.failed()
        await asyncio.sleep(EPISODE_S)
    wanted.draft.cost_nano, wanted.draft.estimated = 0, False
    await doomed.record(wanted.draft)
    await doomed.stop()
    assert await OwedRecord.objects.filter(pk=wanted.id).aexists()
    for each in gateways:
        await each.upkeep.stop()  # they would bring it to Redis at once
    server.resume()
    await eventually(lambda: is_served(gateways[0], demand(key, terms)))
    with redis.Redis.from_url(server.url) as store:
        assert store.hexists(f"{prefix(key.project_id)}open", wanted.id.hex)
        store.delete(alive(doomed.process))
    await gateways[0].reaper.reap()
    await assert_books_agree(gateways, key, terms)
    assert await recorded() == 0


async def test_an_owed_record_that_cannot_be_read_keeps_no_other_back(gateways: list[RedisLedger], key: ApiKey) -> None:
    entry = demand(key).draft
    await OwedRecord.objects.acreate(id=uuid7(), entry="{")
    await gateways[0].drained_books.owe([Waiting(entry)])
    await gateways[0].reaper.reap()
    await write_all(gateways)
    assert await UsageRecord.objects.filter(pk=entry.id).aexists()
    assert await OwedRecord.objects.acount() == 1


@pytest.mark.parametrize(("name", "damage"), [("state", "opens"), ("open", ""), ("out", "")])
async def test_what_is_damaged_of_a_project_keeps_no_other_back(
    gateways: list[RedisLedger], key: ApiKey, alice: User, server: Server, name: str, damage: str
) -> None:
    ledger = gateways[0]
    project = await sync_to_async(Project.objects.found)("Other", owner=alice)
    other = (await sync_to_async(ApiKey.objects.mint)(project, "app"))[0]
    terms, others = await sync_to_async(budget)(key, 9), await sync_to_async(budget)(other, 9)
    await ledger.reserve(demand(key, terms))
    wanted = demand(other, others)
    held = await ledger.reserve(wanted)
    with redis.Redis.from_url(server.url) as store:
        store.hset(prefix(key.project_id) + name, damage, "abc") if damage else store.set(prefix(key.project_id) + name, "abc")
    await reserve(ledger, demand(key, terms))
    ledger.store.breaker.failures, ledger.store.breaker.shut_until = FAILURES, math.inf
    await settle(ledger, wanted, held, cost=4)
    ledger.store.breaker.failures = 0
    await ledger.beat()
    await ledger.pay_debts()
    await ledger.reaper.reap()
    await ledger.drainer.drain()
    assert await UsageRecord.objects.filter(pk=wanted.id, cost_nano=4).aexists()
    with redis.Redis.from_url(server.url) as store:
        store.flushall()
    for each in gateways:
        each.memory.holds.clear()


async def test_a_project_that_is_damaged_shuts_redis_for_no_other(
    gateways: list[RedisLedger], key: ApiKey, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("billing.ledger.redis.breaker.EPISODE_S", 0.0)
    terms = await sync_to_async(budget)(key, 9)
    with redis.Redis.from_url(server.url) as store:
        store.set(f"{prefix(key.project_id)}state", "damaged")
        for _ in range(2 * FAILURES):
            assert isinstance(await reserve(gateways[0], demand(key, terms)), LedgerUnavailable)
        assert not gateways[0].store.breaker.is_open
        store.flushall()


async def test_a_mark_that_is_damaged_fails_no_request(gateways: list[RedisLedger], key: ApiKey, server: Server) -> None:
    held = await gateways[0].reserve(wanted := demand(key))
    with redis.Redis.from_url(server.url) as store:
        store.hdel(f"{prefix(key.project_id)}open", wanted.id.hex)
        store.set(f"{prefix(key.project_id)}done:{wanted.id.hex}", "{")
        await settle(gateways[0], wanted, held, cost=4)
        assert [posting.entry.id for posting in gateways[0].memory.owed()] == [wanted.id]
        store.delete(f"{prefix(key.project_id)}done:{wanted.id.hex}")
    await write_all(gateways)
    assert await recorded() == 4


async def test_a_record_that_the_database_refuses_keeps_no_other_back(gateways: list[RedisLedger], key: ApiKey, alice: User) -> None:
    """Of whichever project: records of several are written together."""
    for ledger in gateways:
        await ledger.upkeep.stop()
    project = await sync_to_async(Project.objects.found)("Other", owner=alice)
    other = (await sync_to_async(ApiKey.objects.mint)(project, "app"))[0]
    damaged, sound = demand(key).draft, demand(other).draft
    damaged.status_code, damaged.cost_nano, sound.cost_nano = -1, 0, 0
    for entry in (damaged, sound):
        await gateways[0].record(entry)
    await gateways[0].drainer.drain()
    assert [record.pk async for record in UsageRecord.objects.all()] == [sound.id]
    assert await gateways[0].drainer.drain() == 0


async def is_served(ledger: RedisLedger, wanted: Demand) -> bool:
    try:
        await ledger.release(await ledger.reserve(wanted), wanted.draft)
    except LedgerUnavailable:
        return False
    return True


async def test_an_event_that_is_no_record_keeps_no_other_back(gateways: list[RedisLedger], key: ApiKey, server: Server) -> None:
    """Of whichever project: all outboxes are drained together."""
    outbox = f"{prefix(key.project_id)}out"
    with redis.Redis.from_url(server.url) as store:
        for text in ("{", "{}", b'"\xff"'):
            store.xadd(outbox, {"id": "x", "key": key.pk, "day": TODAY.isoformat(), "cost": 0, "entry": text})
    terms = await sync_to_async(budget)(key, 10)
    answer = await reserve(gateways[0], demand(key, terms))
    assert isinstance(answer, tuple)
    await settle(gateways[0], *answer, cost=PRICE)
    await assert_books_agree(gateways, key, terms)
    assert await UsageRecord.objects.acount() == 1


async def test_a_window_that_redis_lost_alone_counts_each_reservation_once(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    terms = await sync_to_async(budget)(key, 10)
    held = await reserve(gateways[0], demand(key, terms))
    assert isinstance(held, tuple)
    with redis.Redis.from_url(server.url) as store:
        store.delete(f"{prefix(key.project_id)}w:{terms.id}/{WINDOW}")
    other = await reserve(gateways[0], demand(key, terms))
    assert isinstance(other, tuple) and await taken(key, terms) == Spending(0, 2 * PRICE)
    for each in (held, other):
        await settle(gateways[0], *each, cost=1)
    await assert_books_agree(gateways, key, terms)


async def test_what_cannot_be_resolved_keeps_no_other_back(gateways: list[RedisLedger], key: ApiKey, server: Server) -> None:
    """Neither those on its own page, nor those after it."""
    terms = await sync_to_async(budget)(key, 1000)
    dying = RedisLedger(server.url, PATIENT)
    await dying.start()
    wanted = [demand(key, terms) for _ in range(2 * reaper.PAGE + 50)]
    for each in wanted:
        await dying.reserve(each)
    name = f"{prefix(key.project_id)}open"
    with redis.Redis.from_url(server.url) as store:
        broken = list(store.hgetall(name))[: reaper.PAGE + 20]
        for id in broken:
            head, _, _ = store.hget(name, id).partition(b"\n")
            store.hset(name, id, head + b"\n{")
        dying.memory.holds.clear()
        async with asyncio.timeout(30):
            assert await gateways[0].reaper.resolve_all(key.project_id, dying.process) == len(wanted) - len(broken)
        assert set(store.hkeys(name)) == set(broken)
        store.delete(name)
    await dying.stop()
