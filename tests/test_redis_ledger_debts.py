"""What a process owes to the ledger on Redis: nothing keeps it from being paid or written down, nor its process from living."""

import asyncio
import math
import time

import pytest
import redis
from asgiref.sync import sync_to_async

from billing.ledger.redis import RedisLedger, adjusting
from billing.ledger.redis import ledger as redis_ledger
from billing.ledger.redis.books import Books, Waiting
from billing.ledger.redis.memory import REMEMBERED_S, Memory, Posting
from billing.ledger.redis.scripts import LEASE, VOID, alive
from billing.ledger.redis.upkeep import STEADY_S
from billing.ledger.session import connect
from billing.models import Correction, OwedRecord, UsageRecord
from billing.prices import Tokens
from keys.models import ApiKey
from tests.ledgers import eventually
from tests.services import Server
from tests.test_redis_ledger import PATIENT, budget, demand, gateways, pytestmark, recorded, server, settle, write_all

__all__ = ["gateways", "pytestmark", "server"]


async def test_a_process_that_has_much_to_pay_still_shows_that_it_lives(
    gateways: list[RedisLedger], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("billing.ledger.redis.upkeep.BEAT_S", 0.05)
    busy = RedisLedger(server.url, PATIENT)
    busy.upkeep.pay_debts = busy.upkeep.on_beat = asyncio.Event().wait  # type: ignore[assignment]
    busy.upkeep.start()
    await busy.store.open()
    with redis.Redis.from_url(server.url) as store:
        for _ in range(3):
            store.delete(alive(busy.process))
            await eventually(lambda: sync_to_async(store.exists)(alive(busy.process)))
    await busy.stop()


async def test_after_a_pause_of_redis_nobody_is_taken_for_dead(gateways: list[RedisLedger], key: ApiKey, server: Server) -> None:
    """All have been silent then, the living as well."""
    terms = await sync_to_async(budget)(key, 9)
    await gateways[0].reserve(wanted := demand(key, terms))
    with redis.Redis.from_url(server.url) as store:
        for ledger in gateways:
            await ledger.upkeep.stop()
            store.delete(LEASE, alive(ledger.process))
    other = gateways[1]
    other.upkeep.steady_since = time.monotonic() - STEADY_S / 2
    await other.upkeep.reap()
    assert await UsageRecord.objects.acount() == 0 and not other.memory.postings
    other.upkeep.steady_since = time.monotonic() - 2 * STEADY_S
    await other.upkeep.reap()
    assert wanted.id in other.memory.postings


async def test_owed_records_of_requests_that_were_undone_are_collected_at_once(gateways: list[RedisLedger], key: ApiKey) -> None:
    owed = [demand(key).draft for _ in range(3)]
    for entry in owed:
        entry.cost_nano = 0
        await gateways[0].store.run(VOID, key.project_id, entry.id.hex, 300)
    await gateways[0].drained_books.owe(map(Waiting, owed))
    await gateways[0].reaper.collect()
    assert not await OwedRecord.objects.aexists()
    await write_all(gateways)
    assert await UsageRecord.objects.acount() == 3


async def test_a_correction_that_waits_to_be_written_is_made_once(
    gateways: list[RedisLedger], key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adjusting, "AGAIN_S", math.nan)  # to wait for nobody is an error
    held = await gateways[0].reserve(wanted := demand(key))
    await settle(gateways[0], wanted, held, cost=5)
    await write_all(gateways)
    for ledger in gateways:
        await ledger.upkeep.stop()
    correction = wanted.draft.corrected(9, Tokens(), Correction.REPRICED)
    for _ in range(2):
        await sync_to_async(adjusting.keep_correction)(correction)
    await write_all(gateways)
    assert await recorded() == 9 and await UsageRecord.objects.acount() == 2


async def test_what_is_still_on_its_way_at_a_stop_is_written_down(
    gateways: list[RedisLedger], key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_ledger, "STOP_S", 0.2)
    for each in gateways:
        await each.upkeep.stop()  # they would bring it to Redis at once
    ledger = gateways.pop(0)
    monkeypatch.setattr(ledger.store, "run", lambda *_: asyncio.sleep(60))
    ledger.withdraw(wanted := demand(key))
    await asyncio.sleep(0)
    await ledger.stop()
    assert [owed.pk async for owed in OwedRecord.objects.all()] == [wanted.id]


async def test_whatever_fails_at_a_stop_what_is_owed_is_written_down(gateways: list[RedisLedger], key: ApiKey) -> None:
    async def fail() -> None:
        raise KeyError("odd")

    for each in gateways:
        await each.upkeep.stop()  # they would bring it to Redis at once
    ledger = gateways.pop(0)
    entry = demand(key).draft
    ledger.memory.postings[entry.id] = Posting(entry)
    ledger.leave = fail  # type: ignore[method-assign]
    await ledger.stop()
    assert [owed.pk async for owed in OwedRecord.objects.all()] == [entry.id]


async def test_half_a_transaction_is_never_committed(gateways: list[RedisLedger]) -> None:
    books = Books(connect())
    with pytest.raises(KeyError):
        async with books.transaction() as session:
            await session.run("INSERT INTO billing_owedrecord (id, entry) VALUES (gen_random_uuid(), 'half')")
            raise KeyError("odd")
    async with books.transaction() as session:
        await session.run("SELECT 1")
    assert not await OwedRecord.objects.aexists()
    await books.close()


async def test_one_record_that_is_refused_always_does_not_keep_others_waiting(gateways: list[RedisLedger], key: ApiKey) -> None:
    """Those that are owed are tried in turn, and where Redis stops to answer the next round begins with another one."""
    ledger = gateways[0]
    first, second = demand(key).draft, demand(key).draft
    for entry in (first, second):
        ledger.memory.postings[entry.id] = Posting(entry)
    await ledger.upkeep.stop()
    ledger.store.breaker.failures, ledger.store.breaker.shut_until = 99, float("inf")
    await ledger.postman.post_owed()
    assert [posting.entry.id for posting in ledger.memory.owed()] == [second.id, first.id]
    ledger.store.breaker.worked()
    await write_all(gateways)


def test_what_redis_took_long_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch, key: ApiKey) -> None:
    memory = Memory()
    for age in (REMEMBERED_S + 1, REMEMBERED_S - 1):
        entry = demand(key).draft
        memory.postings[entry.id] = posting = Posting(entry)
        posting.arrived("1-0")
        posting.posted_at -= age
    memory.forget_drained({})
    assert list(memory.postings) == [entry.id]
