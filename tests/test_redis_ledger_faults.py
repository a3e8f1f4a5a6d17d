"""The ledger on Redis while its servers are killed, emptied, stopped and cut off: no overspend, nothing lost, nothing twice."""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import psycopg
import pytest
import redis
from asgiref.sync import sync_to_async
from django.db import connection as django_connection

from billing.ledger import Demand, LedgerUnavailable, RateExceeded, Refused
from billing.ledger.limiter import BUCKET_S
from billing.ledger.redis import RedisLedger, reader, reaper
from billing.ledger.redis.breaker import EPISODE_S, FAILURES
from billing.ledger.redis.scripts import alive, prefix
from billing.ledger.redis.upkeep import repeat
from billing.ledger.session import PostgresConnection
from billing.ledger.terms import BudgetTerms, LimitTerms, Spending
from billing.models import DirtyDay, Outcome, OwedRecord, UsageRecord
from keys.models import ApiKey
from projects.ids import uuid7
from projects.models import Project, User
from tests.ledgers import eventually
from tests.services import Server
from tests.test_redis_ledger import (
    PATIENT,
    PRICE,
    PROCESSES,
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

__all__ = ["gateways", "pytestmark", "server"]


@dataclass
class Load:
    """Requests that hold PRICE each and cost a part of it or all, through all gateways, for as long as it runs."""

    gateways: list[RedisLedger]
    key: ApiKey
    terms: tuple[BudgetTerms, ...] = ()
    part: int = 1
    admitted: int = 0
    spent: int = 0
    refused: int = 0
    unavailable: int = 0
    ended: bool = False
    slowest_s: float = 0.0
    ids: set[object] = field(default_factory=set)
    reasons: set[str] = field(default_factory=set)
    exhausted: asyncio.Event = field(default_factory=asyncio.Event)

    async def worker(self, ledger: RedisLedger) -> None:
        loop = asyncio.get_running_loop()
        while not self.ended:
            begun = loop.time()
            answer = await reserve(ledger, demand(self.key, *self.terms))
            self.slowest_s = max(self.slowest_s, loop.time() - begun)
            match answer:
                case Refused():
                    self.refused += 1
                    self.exhausted.set()
                    await asyncio.sleep(0.02)
                case LedgerUnavailable():
                    self.unavailable += 1
                    self.reasons.add(str(answer))
                    await asyncio.sleep(0.02)
                case wanted, held:
                    self.admitted += 1
                    self.ids.add(wanted.id)
                    await asyncio.sleep(random.random() * 0.03)
                    await settle(ledger, wanted, held, cost=PRICE // self.part)
                    self.spent += PRICE // self.part

    @asynccontextmanager
    async def running(self, workers: int = 8) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.worker(ledger)) for ledger in self.gateways for _ in range(workers)]
        try:
            yield
        finally:
            self.ended = True
            await asyncio.gather(*tasks)

    async def assert_nothing_lost(self) -> None:
        await write_all(self.gateways)
        assert await recorded() == self.spent
        assert {id async for id in UsageRecord.objects.values_list("id", flat=True)} == self.ids


def off_loop(call: partial[None]) -> asyncio.Future[None]:
    return asyncio.get_running_loop().run_in_executor(None, call)


async def test_redis_is_killed_under_load_and_finds_its_data_again(gateways: list[RedisLedger], key: ApiKey, server: Server) -> None:
    terms = await sync_to_async(budget)(key, 600)
    load = Load(gateways, key, (terms,), part=2)
    async with load.running():
        for _ in range(5):
            await asyncio.sleep(0.3)
            await off_loop(partial(server.kill))
            await asyncio.sleep(0.1)
            await off_loop(partial(server.start))
        await asyncio.sleep(1)
    await load.assert_nothing_lost()
    await assert_books_agree(gateways, key, terms)
    assert load.unavailable
    assert load.spent <= terms.limit_nano


async def test_redis_is_emptied_under_load_and_is_rebuilt_from_sql(gateways: list[RedisLedger], key: ApiKey, server: Server) -> None:
    terms = await sync_to_async(budget)(key, 1200)
    load = Load(gateways, key, (terms,))
    async with load.running():
        with redis.Redis.from_url(server.url) as client:
            for _ in range(2):
                await asyncio.sleep(0.2)
                client.flushall()
                await asyncio.sleep(4)
        async with asyncio.timeout(30):
            await load.exhausted.wait()
    await load.assert_nothing_lost()
    await assert_books_agree(gateways, key, terms)
    assert load.unavailable
    assert load.admitted == 1200
    assert load.spent == terms.limit_nano


async def test_a_request_that_redis_forgot_is_still_charged(gateways: list[RedisLedger], key: ApiKey, server: Server) -> None:
    terms = await sync_to_async(budget)(key, 9)
    settled, flying = demand(key, terms), demand(key, terms)
    held = [await gateways[0].reserve(wanted) for wanted in (settled, flying)]
    await settle(gateways[0], settled, held[0], cost=30)
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    await settle(gateways[0], flying, held[1], cost=4)
    with pytest.raises(LedgerUnavailable):
        await gateways[1].reserve(demand(key, terms))
    await asyncio.sleep(4)
    await gateways[1].reserve(demand(key, terms))
    await assert_books_agree(gateways, key, terms, reserved=PRICE)
    assert await recorded() == 34


async def test_a_new_process_waits_until_the_others_have_put_back_what_they_hold(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    terms = await sync_to_async(budget)(key, 2)
    wanted = demand(key, terms)
    held = await gateways[0].reserve(wanted)
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    newcomer = RedisLedger(server.url, PATIENT)
    await newcomer.start()
    await newcomer.reserve(demand(key, terms))
    with pytest.raises(Refused):
        await newcomer.reserve(demand(key, terms))
    assert await taken(key, terms) == Spending(0, 2 * PRICE)
    await settle(gateways[0], wanted, held, cost=5)
    assert await taken(key, terms) == Spending(5, PRICE)
    await newcomer.stop()


async def test_redis_is_stopped_for_a_while(gateways: list[RedisLedger], key: ApiKey, server: Server) -> None:
    terms = await sync_to_async(budget)(key, 1000)
    load = Load(gateways, key, (terms,))
    free = Load(gateways, key)
    async with load.running(), free.running(workers=2):
        await asyncio.sleep(0.3)
        server.pause()
        before = free.admitted
        await asyncio.sleep(4)
        assert free.admitted > before + 100
        server.resume()
        await asyncio.sleep(2)
    load.spent += free.spent
    load.ids |= free.ids
    assert free.refused == free.unavailable == 0
    assert load.unavailable
    assert max(load.slowest_s, free.slowest_s) < 3 * PATIENT.timeout_s
    await load.assert_nothing_lost()
    await assert_books_agree(gateways, key, terms)


async def test_without_redis_each_process_keeps_to_the_limits_itself(gateways: list[RedisLedger], key: ApiKey, server: Server) -> None:
    limits = (LimitTerms(f"k{key.pk}", requests=5),)
    await off_loop(partial(server.kill))
    try:
        answers = await asyncio.gather(*(reserve(gateways[0], demand(key, limits=limits)) for _ in range(9)))
    finally:
        await off_loop(partial(server.start))
    held = [answer for answer in answers if isinstance(answer, tuple)]
    assert len(held) == 5
    for wanted, reservation in held:
        await settle(gateways[0], wanted, reservation, cost=1)
    await write_all(gateways)
    assert await recorded() == 5


async def test_what_a_process_owes_when_it_stops_without_redis_is_charged_by_another_one(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    """Once, in a window that was open then as in one that opens before it is found."""
    terms, younger = await sync_to_async(budget)(key, 9), await sync_to_async(budget)(key, 8, whole_project=True)
    wanted, refused = demand(key, terms), demand(key, terms)
    held = await gateways[0].reserve(wanted)
    await off_loop(partial(server.kill))
    await settle(gateways[0], wanted, held, cost=4)
    refused.draft.cost_nano, refused.draft.outcome = 0, Outcome.UNAVAILABLE
    await gateways[0].record(refused.draft)
    await gateways.pop(0).stop()
    assert await OwedRecord.objects.acount() == 2
    await off_loop(partial(server.start))
    await eventually(lambda: is_served(gateways[0], demand(key, younger)))
    for _ in range(2):
        await gateways[0].reaper.reap()
    await write_all(gateways)
    assert not await OwedRecord.objects.aexists()
    kept = {record.pk: (record.cost_nano, record.estimated) async for record in UsageRecord.objects.all()}
    assert kept[wanted.id] == (4, False) and kept[refused.draft.id][0] == 0
    for each in (terms, younger):
        await assert_books_agree(gateways, key, each)


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
    while not doomed.store.breaker.is_open:
        doomed.store.breaker.failed()
        await asyncio.sleep(EPISODE_S)
    wanted.draft.cost_nano, wanted.draft.estimated = 0, False
    await doomed.record(wanted.draft)
    await doomed.stop()
    assert await OwedRecord.objects.acount() == 1
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
    await gateways[0].drained_books.owe([entry])
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
    await ledger.reaper.reap()
    await ledger.drainer.drain()
    assert await UsageRecord.objects.filter(pk=wanted.id, cost_nano=4).aexists()
    with redis.Redis.from_url(server.url) as store:
        store.flushall()
    for each in gateways:
        each.memory.holds.clear()


async def is_served(ledger: RedisLedger, wanted: Demand) -> bool:
    try:
        await ledger.release(await ledger.reserve(wanted), wanted.draft)
    except LedgerUnavailable:
        return False
    return True


async def test_a_reservation_that_comes_too_late_holds_nothing(gateways: list[RedisLedger], key: ApiKey, server: Server) -> None:
    terms = await sync_to_async(budget)(key, 3)
    await gateways[0].reserve(demand(key, terms))
    server.pause()
    wanted = demand(key, terms)
    with pytest.raises(LedgerUnavailable):
        await gateways[0].reserve(wanted)
    wanted.draft.cost_nano = 0
    await gateways[0].record(wanted.draft)
    server.resume()
    await asyncio.sleep(0.2)
    await write_all(gateways)
    assert await taken(key, terms) == Spending(0, PRICE)
    assert await UsageRecord.objects.filter(pk=wanted.id).acount() == 1


class Killed(Exception):
    pass


@pytest.mark.parametrize("point", ["drain.before_insert", "drain.before_commit", "drain.after_commit", "drain.after_trim"])
async def test_a_drainer_that_dies_leaves_nothing_undone_and_nothing_twice(
    gateways: list[RedisLedger], key: ApiKey, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(name: str) -> None:
        if name == point:
            raise Killed

    for ledger in gateways:
        for task in ledger.upkeep.tasks:
            task.cancel()
    load = Load(gateways, key)
    async with load.running():
        await asyncio.sleep(0.2)
    with monkeypatch.context() as patch:
        patch.setattr("billing.ledger.redis.books.failpoint", die)
        patch.setattr("billing.ledger.redis.drainer.failpoint", die)
        with pytest.raises(Killed):
            await gateways[0].drainer.drain()
    terms = await sync_to_async(budget)(key, 10**6)
    held = await gateways[1].reserve(last := demand(key, terms))
    assert await taken(key, terms) == Spending(load.spent, PRICE)
    await gateways[1].release(held, last.draft)
    load.ids.add(last.id)
    await load.assert_nothing_lost()
    await assert_books_agree(gateways[1:], key, terms)
    assert await DirtyDay.objects.filter(project=key.project_id, day=WINDOW).aexists()


class Outage:
    """A way to PostgreSQL that can be cut."""

    def __init__(self) -> None:
        self.cut = False

    def connect(self) -> PostgresConnection:
        return Cuttable(self)


class Cuttable(PostgresConnection):
    def __init__(self, outage: Outage) -> None:
        given = django_connection.settings_dict
        super().__init__(dbname=given["NAME"], user=given["USER"], host=given["HOST"], port=given["PORT"])
        self.outage = outage

    async def begin(self) -> None:
        if self.outage.cut:
            await self.close()
            raise psycopg.OperationalError("cut off")
        await super().begin()


async def test_postgresql_is_away_while_requests_go_on(gateways: list[RedisLedger], key: ApiKey, server: Server) -> None:
    outage = Outage()
    for ledger in gateways:
        await ledger.stop()
    ledgers = [RedisLedger(server.url, PATIENT, connect=outage.connect) for _ in range(PROCESSES)]
    for ledger in ledgers:
        await ledger.start()
    try:
        terms = await sync_to_async(budget)(key, 10**6)
        load = Load(ledgers, key, (terms,))
        async with load.running():
            await asyncio.sleep(0.5)
            outage.cut = True
            await asyncio.sleep(3)
            waiting = len(await sync_to_async(lambda: list(reader.undrained(key.project_id)))())
            outage.cut = False
        assert load.unavailable == load.refused == 0, load.reasons
        assert waiting > 100
        await load.assert_nothing_lost()
        await assert_books_agree(ledgers, key, terms)
    finally:
        for ledger in ledgers:
            await ledger.stop()


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


async def test_whatever_fails_no_chore_ends() -> None:
    done = asyncio.Event()
    failures = iter((KeyError("odd"), LedgerUnavailable("away"), OSError("refused")))

    async def step() -> None:
        for error in failures:
            raise error
        done.set()

    chore = asyncio.create_task(repeat(0.001, step))
    async with asyncio.timeout(5):
        await done.wait()
    chore.cancel()


async def test_limits_work_after_redis_clock_was_set_back(gateways: list[RedisLedger], key: ApiKey, server: Server) -> None:
    """What was counted in times that are yet to come would count for as long as requests come."""
    limits = (LimitTerms(f"k{key.pk}", requests=2, tokens=100),)
    ahead = int((time.time() + 3600) / BUCKET_S)
    with redis.Redis.from_url(server.url) as store:
        for kind in "rt":
            counted = {"total": 100, "oldest": ahead, "newest": ahead, str(ahead): 100}
            store.hset(f"{prefix(key.project_id)}{kind}:k{key.pk}", mapping=counted)
    answers = [await reserve(gateways[0], demand(key, limits=limits)) for _ in range(3)]
    assert [type(answer) for answer in answers] == [tuple, tuple, RateExceeded]


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


@pytest.mark.parametrize("is_open", [False, True])
async def test_the_first_request_of_a_project_does_not_wait_for_a_redis_that_hangs(
    gateways: list[RedisLedger], key: ApiKey, server: Server, is_open: bool
) -> None:
    """Nor does its record. What was begun for it goes on when Redis does."""
    ledger = RedisLedger(server.url)
    await ledger.start()
    assert key.project_id not in ledger.projects.epochs
    terms = (await sync_to_async(budget)(key, 10),) if not is_open else ()
    server.pause()
    loop = asyncio.get_running_loop()
    wanted, begun = demand(key, *terms), loop.time()
    answer = await reserve(ledger, wanted)
    wanted.draft.cost_nano = 0
    if isinstance(answer, tuple):
        await ledger.release(answer[1], wanted.draft)
    else:
        await ledger.record(wanted.draft)
    took_s = loop.time() - begun
    server.resume()
    assert isinstance(answer, tuple) == is_open and took_s < 0.3

    async def has_learnt() -> bool:
        return key.project_id in ledger.projects.epochs and not ledger.memory.owed()

    await eventually(has_learnt)
    await write_all([ledger])
    assert await UsageRecord.objects.filter(pk=wanted.id).acount() == 1
    await ledger.stop()


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
