"""The ledger on Redis while its servers are killed, emptied, stopped and cut off: no overspend, nothing lost, nothing twice."""

import asyncio
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

from billing.ledger import LedgerUnavailable, RateExceeded, Refused
from billing.ledger.limiter import BUCKET_S
from billing.ledger.redis import RedisLedger, reader
from billing.ledger.redis.scripts import prefix
from billing.ledger.redis.upkeep import repeat
from billing.ledger.session import PostgresConnection
from billing.ledger.terms import BudgetTerms, LimitTerms, Spending
from billing.models import DirtyDay, UsageRecord
from keys.models import ApiKey
from tests.ledgers import eventually
from tests.services import Server
from tests.test_redis_ledger import (
    PATIENT,
    PRICE,
    PROCESSES,
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
