"""The ledger on Redis loses and doubles nothing while servers are killed, emptied, paused or cut off."""

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

from billing.ledger import AdmissionDenied, LedgerUnavailable, RateLimitExceeded
from billing.ledger.interface import BudgetLimit, RateLimit, WindowBalance
from billing.ledger.rate_limiter import BUCKET_S
from billing.ledger.redis import RedisLedger, queries
from billing.ledger.redis.background import run_every
from billing.ledger.redis.client.keys import key_prefix
from billing.ledger.sql.postgresql import PostgresConnection
from billing.models import StaleDay, UsageRecord
from keys.models import ApiKey
from tests.support.databases import Server
from tests.support.ledger_harness import eventually
from tests.support.redis_gateways import (
    LONG_TIMEOUT,
    PRICE,
    PROCESSES,
    WINDOW,
    assert_ledger_consistent,
    budget,
    drain_all,
    has_unsent_records,
    needs_servers,
    recorded_cost,
    reserve,
    reserve_request,
    run_in_thread,
    settle,
    window_total,
)

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True), needs_servers]
PAUSE_S = 4
"""How long Redis is paused. A request that is served sooner has not waited for it."""


@dataclass
class Load:
    """Requests through all gateways. Each request reserves PRICE, and costs at most this amount."""

    gateways: list[RedisLedger]
    key: ApiKey
    budget_limit: tuple[BudgetLimit, ...] = ()
    part: int = 1
    admitted: int = 0
    spent: int = 0
    denied: int = 0
    unavailable: int = 0
    is_over: bool = False
    slowest_s: float = 0.0
    ids: set[object] = field(default_factory=set)
    reasons: set[str] = field(default_factory=set)
    exhausted: asyncio.Event = field(default_factory=asyncio.Event)

    async def worker(self, ledger: RedisLedger) -> None:
        loop = asyncio.get_running_loop()
        while not self.is_over:
            started_at = loop.time()
            result = await reserve(ledger, reserve_request(self.key, *self.budget_limit))
            self.slowest_s = max(self.slowest_s, loop.time() - started_at)
            match result:
                case AdmissionDenied():
                    self.denied += 1
                    self.exhausted.set()
                    await asyncio.sleep(0.02)
                case LedgerUnavailable():
                    self.unavailable += 1
                    self.reasons.add(str(result))
                    await asyncio.sleep(0.02)
                case request, grant:
                    self.admitted += 1
                    self.ids.add(request.id)
                    await asyncio.sleep(random.random() * 0.03)
                    await settle(ledger, request, grant, cost=PRICE // self.part)
                    self.spent += PRICE // self.part

    @asynccontextmanager
    async def running(self, workers: int = 8) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.worker(ledger)) for ledger in self.gateways for _ in range(workers)]
        try:
            yield
        finally:
            self.is_over = True
            await asyncio.gather(*tasks)

    async def assert_no_loss(self) -> None:
        await drain_all(self.gateways)
        assert await recorded_cost() == self.spent
        assert {id async for id in UsageRecord.objects.values_list("id", flat=True)} == self.ids


async def test_redis_killed_under_load_recovers_its_data(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    budget_limit = await sync_to_async(budget)(key, 600)
    load = Load(gateways, key, (budget_limit,), part=2)
    async with load.running():
        for _ in range(5):
            await asyncio.sleep(0.3)
            await run_in_thread(partial(server.kill))
            await asyncio.sleep(0.1)
            await run_in_thread(partial(server.start))
        await asyncio.sleep(1)
    await load.assert_no_loss()
    await assert_ledger_consistent(gateways, key, budget_limit)
    assert load.unavailable
    assert load.spent <= budget_limit.limit_nano


async def test_redis_emptied_under_load_is_rebuilt_from_sql(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    budget_limit = await sync_to_async(budget)(key, 1200)
    load = Load(gateways, key, (budget_limit,))
    async with load.running():
        with redis.Redis.from_url(server.url) as client:
            for _ in range(2):
                await asyncio.sleep(0.2)
                client.flushall()
                await asyncio.sleep(4)
        async with asyncio.timeout(30):
            await load.exhausted.wait()
    await load.assert_no_loss()
    await assert_ledger_consistent(gateways, key, budget_limit)
    assert load.unavailable
    assert load.admitted == 1200
    assert load.spent == budget_limit.limit_nano


async def test_request_lost_by_redis_is_still_charged(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    budget_limit = await sync_to_async(budget)(key, 9)
    settled, in_flight = reserve_request(key, budget_limit), reserve_request(key, budget_limit)
    grants = [await gateways[0].reserve(request) for request in (settled, in_flight)]
    await settle(gateways[0], settled, grants[0], cost=30)
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    await settle(gateways[0], in_flight, grants[1], cost=4)
    with pytest.raises(LedgerUnavailable):
        await gateways[1].reserve(reserve_request(key, budget_limit))
    await asyncio.sleep(4)
    await gateways[1].reserve(reserve_request(key, budget_limit))
    await assert_ledger_consistent(gateways, key, budget_limit, reserved=PRICE)
    assert await recorded_cost() == 34


async def test_new_process_waits_until_others_restore_reservations(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    budget_limit = await sync_to_async(budget)(key, 2)
    request = reserve_request(key, budget_limit)
    grant = await gateways[0].reserve(request)
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    new_process = RedisLedger(server.url, LONG_TIMEOUT)
    await new_process.start()
    await new_process.reserve(reserve_request(key, budget_limit))
    with pytest.raises(AdmissionDenied):
        await new_process.reserve(reserve_request(key, budget_limit))
    assert await window_total(key, budget_limit) == WindowBalance(0, 2 * PRICE)
    await settle(gateways[0], request, grant, cost=5)
    assert await window_total(key, budget_limit) == WindowBalance(5, PRICE)
    await new_process.stop()


async def test_requests_without_budget_go_on_while_redis_is_paused(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    budget_limit = await sync_to_async(budget)(key, 1000)
    load = Load(gateways, key, (budget_limit,))
    free = Load(gateways, key)
    async with load.running(), free.running(workers=2):
        await asyncio.sleep(0.3)
        server.pause()
        before = free.admitted
        await asyncio.sleep(PAUSE_S)
        assert free.admitted > before + 100
        server.resume()
        await asyncio.sleep(2)
    load.spent += free.spent
    load.ids |= free.ids
    assert free.denied == free.unavailable == 0
    assert load.unavailable
    assert max(load.slowest_s, free.slowest_s) < PAUSE_S - 1
    await load.assert_no_loss()
    await assert_ledger_consistent(gateways, key, budget_limit)


async def test_each_process_applies_rate_limits_without_redis(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    limits = (RateLimit(f"k{key.pk}", requests=5),)
    await run_in_thread(partial(server.kill))
    try:
        results = await asyncio.gather(
            *(reserve(gateways[0], reserve_request(key, limits=limits)) for _ in range(9))
        )
    finally:
        await run_in_thread(partial(server.start))
    grants = [result for result in results if isinstance(result, tuple)]
    assert len(grants) == 5
    for request, reservation in grants:
        await settle(gateways[0], request, reservation, cost=1)
    await drain_all(gateways)
    assert await recorded_cost() == 5


async def test_late_reservation_is_released(gateways: list[RedisLedger], key: ApiKey, server: Server) -> None:
    budget_limit = await sync_to_async(budget)(key, 3)
    await gateways[0].reserve(reserve_request(key, budget_limit))
    server.pause()
    request = reserve_request(key, budget_limit)
    with pytest.raises(LedgerUnavailable):
        await gateways[0].reserve(request)
    request.estimate.cost_nano = 0
    await gateways[0].record(request.estimate)
    server.resume()
    await asyncio.sleep(0.2)
    await drain_all(gateways)
    assert await window_total(key, budget_limit) == WindowBalance(0, PRICE)
    assert await UsageRecord.objects.filter(pk=request.id).acount() == 1


class SimulatedCrash(Exception):
    pass


@pytest.mark.parametrize(
    "point", ["drain.before_insert", "drain.before_commit", "drain.after_commit", "drain.after_trim"]
)
async def test_crashed_drainer_neither_loses_nor_duplicates_records(
    gateways: list[RedisLedger], key: ApiKey, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(name: str) -> None:
        if name == point:
            raise SimulatedCrash

    for ledger in gateways:
        for task in ledger.background_tasks.tasks:
            task.cancel()
    load = Load(gateways, key)
    async with load.running():
        await asyncio.sleep(0.2)
    with monkeypatch.context() as patch:
        patch.setattr("billing.ledger.redis.record_store.failpoint", die)
        patch.setattr("billing.ledger.redis.outbox.drainer.failpoint", die)
        with pytest.raises(SimulatedCrash):
            await gateways[0].drainer.drain()
    budget_limit = await sync_to_async(budget)(key, 10**6)
    grant = await gateways[1].reserve(last := reserve_request(key, budget_limit))
    assert await window_total(key, budget_limit) == WindowBalance(load.spent, PRICE)
    await gateways[1].release(grant, last.estimate)
    load.ids.add(last.id)
    await load.assert_no_loss()
    await assert_ledger_consistent(gateways[1:], key, budget_limit)
    assert await StaleDay.objects.filter(project=key.project_id, day=WINDOW).aexists()


class Outage:
    """A switch that cuts connections to PostgreSQL."""

    def __init__(self) -> None:
        self.is_active = False

    def connect(self) -> PostgresConnection:
        return InterruptibleConnection(self)


class InterruptibleConnection(PostgresConnection):
    def __init__(self, outage: Outage) -> None:
        given = django_connection.settings_dict
        super().__init__(dbname=given["NAME"], user=given["USER"], host=given["HOST"], port=given["PORT"])
        self.outage = outage

    async def begin(self) -> None:
        if self.outage.is_active:
            await self.close()
            raise psycopg.OperationalError("cut off")
        await super().begin()


async def test_requests_go_on_while_postgresql_is_down(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    outage = Outage()
    for ledger in gateways:
        await ledger.stop()
    ledgers = [RedisLedger(server.url, LONG_TIMEOUT, connect=outage.connect) for _ in range(PROCESSES)]
    for ledger in ledgers:
        await ledger.start()
    try:
        budget_limit = await sync_to_async(budget)(key, 10**6)
        load = Load(ledgers, key, (budget_limit,))
        async with load.running():
            await asyncio.sleep(0.5)
            outage.is_active = True
            await asyncio.sleep(3)
            waiting = len(await sync_to_async(lambda: list(queries.undrained_records(key.project_id)))())
            outage.is_active = False
        assert load.unavailable == load.denied == 0, load.reasons
        assert waiting > 100
        await load.assert_no_loss()
        await assert_ledger_consistent(ledgers, key, budget_limit)
    finally:
        for ledger in ledgers:
            await ledger.stop()


async def test_background_tasks_survive_any_failure() -> None:
    done = asyncio.Event()
    failures = iter((KeyError("odd"), LedgerUnavailable("away"), OSError("refused")))

    async def step() -> None:
        for error in failures:
            raise error
        done.set()

    task = asyncio.create_task(run_every(0.001, step))
    async with asyncio.timeout(5):
        await done.wait()
    task.cancel()


async def test_limits_work_after_redis_clock_was_set_back(
    gateways: list[RedisLedger], key: ApiKey, server: Server
) -> None:
    """Otherwise, counts in buckets of the future would stay as long as requests arrive."""
    limits = (RateLimit(f"k{key.pk}", requests=2, tokens=100),)
    ahead = int((time.time() + 3600) / BUCKET_S)
    with redis.Redis.from_url(server.url) as store:
        for kind in "rt":
            counted = {"total": 100, "oldest": ahead, "newest": ahead, str(ahead): 100}
            store.hset(f"{key_prefix(key.project_id)}{kind}:k{key.pk}", mapping=counted)
    results = [await reserve(gateways[0], reserve_request(key, limits=limits)) for _ in range(3)]
    assert [type(result) for result in results] == [tuple, tuple, RateLimitExceeded]


@pytest.mark.parametrize("is_open", [False, True])
async def test_first_request_of_a_project_does_not_wait_for_hung_redis(
    gateways: list[RedisLedger], key: ApiKey, server: Server, is_open: bool
) -> None:
    """The test checks its record too. The lookup of the epoch continues when Redis resumes."""
    ledger = RedisLedger(server.url)
    await ledger.start()
    assert key.project_id not in ledger.epochs.by_project
    budget_limit = (await sync_to_async(budget)(key, 10),) if not is_open else ()
    server.pause()
    loop = asyncio.get_running_loop()
    request, started_at = reserve_request(key, *budget_limit), loop.time()
    result = await reserve(ledger, request)
    request.estimate.cost_nano = 0
    if isinstance(result, tuple):
        await ledger.release(result[1], request.estimate)
    else:
        await ledger.record(request.estimate)
    took_s = loop.time() - started_at
    server.resume()
    assert isinstance(result, tuple) == is_open and took_s < 1

    async def has_epoch() -> bool:
        return key.project_id in ledger.epochs.by_project and not has_unsent_records(ledger)

    await eventually(has_epoch)
    await drain_all([ledger])
    assert await UsageRecord.objects.filter(pk=request.id).acount() == 1
    await ledger.stop()
