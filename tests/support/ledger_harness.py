"""Test harness for the ledger on each store, with processes that start, serve and crash."""

import asyncio
import os
import time
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from unittest.mock import patch
from uuid import UUID
from zoneinfo import ZoneInfo

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db.models import Sum

from billing.ledger import AdmissionDenied, Ledger, ReservationGrant, ReserveRequest, SqlLedger, UsageEntry
from billing.ledger.balances import window_balances
from billing.ledger.interface import BudgetLimit, RateLimit
from billing.ledger.redis import OutagePolicy, RedisLedger, epochs, queries
from billing.ledger.redis.client.blocking_client import blocking_client
from billing.ledger.redis.client.keys import heartbeat_key
from billing.ledger.sql.connection import connect
from billing.models import Budget, Mode, Period, UsageRecord
from billing.models import Reservation as StoredReservation
from keys.models import ApiKey
from projects.ids import uuid7
from projects.models import Project
from tests.support.environment import ON_SERVERS

PRICE = 1_000
UTC_ZONE = ZoneInfo("UTC")
TODAY = date(2026, 11, 20)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
REBUILD_TIMEOUT_S = 0.01
BACKENDS = ("postgresql", "redis") if ON_SERVERS else ("sqlite",)


@dataclass
class LedgerHarness:
    """The ledger on SQL. `processes` is the number of processes that may use it at the same time."""

    processes: int = 1
    running: list[Ledger] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self.environment = settings.ENV
        settings.ENV = settings.ENV.model_copy(update={"redis_url": self.url})

    def make(self) -> Ledger:
        return SqlLedger(connect())

    async def start(self) -> Ledger:
        ledger = self.make()
        await ledger.start()
        self.running.append(ledger)
        return ledger

    async def stop(self, ledger: Ledger) -> None:
        self.running.remove(ledger)
        await ledger.stop()

    async def kill(self, ledger: Ledger) -> None:
        """Kill a process, which cannot settle its requests. Only its connections are closed."""
        assert isinstance(ledger, SqlLedger) and ledger.background_task is not None
        self.running.remove(ledger)
        ledger.background_task.cancel()
        await ledger.connection.close()

    async def recover_dead(self) -> None:
        """Settle the reservations of dead processes. On SQL, the next process does so when it starts."""
        for ledger in list(self.running):
            await self.stop(ledger)
        await self.start()

    async def close(self) -> None:
        for ledger in list(self.running):
            await self.stop(ledger)
        settings.ENV = self.environment

    async def wait_until_written(self) -> None:
        """Wait until all records are in the database."""

    async def window_total(self, budget_limit: BudgetLimit, day: date = TODAY) -> tuple[int, int]:
        """Return the sum of the spent and reserved amounts in a budget's window."""
        budget = await Budget.objects.select_related("project").aget(pk=budget_limit.id)
        found = await sync_to_async(window_balances)(budget.project, [budget], day)
        return found[budget.pk].spent, found[budget.pk].reserved

    def adopt(self, frozen: Ledger, ledger: Ledger, id: UUID) -> None:
        """Move a reservation from the memory of a killed process to another process.

        The other process then settles it, as if the killed process had only been suspended.
        """

    async def wipe(self) -> None:
        """Delete all counters, unless they are in the database."""

    async def open_reservations(self) -> int:
        """Return the number of open reservations."""
        return await StoredReservation.objects.acount()


class RedisLedgerHarness(LedgerHarness):
    """The ledger on Redis, in an empty database of the server that the tests run on."""

    def __init__(self) -> None:
        super().__init__(processes=4, url=os.environ["REDIS_URL"].removesuffix("/0") + "/3")
        blocking_client.cache_clear()
        blocking_client().flushdb()

    def make(self) -> Ledger:
        return RedisLedger(self.url, OutagePolicy(timeout_s=5))

    async def kill(self, ledger: Ledger) -> None:
        """Kill a process and delete its heartbeat, which would expire after some seconds."""
        assert isinstance(ledger, RedisLedger)
        self.running.remove(ledger)
        await ledger.background_tasks.stop()
        for close in (ledger.client.close, ledger.record_store.close, ledger.drain_store.close):
            await close()
        blocking_client().delete(heartbeat_key(ledger.process_id))

    async def recover_dead(self) -> None:
        ledger = await self.start()
        assert isinstance(ledger, RedisLedger)
        await ledger.reaper.reap()

    async def close(self) -> None:
        await super().close()
        blocking_client().close()
        blocking_client.cache_clear()

    async def wait_until_written(self) -> None:
        async with asyncio.timeout(20):
            ledger = self.running[0] if self.running else await self.start()
            assert isinstance(ledger, RedisLedger)
            for each in self.running:
                assert isinstance(each, RedisLedger)
                await each.retry_pending()
            while await ledger.drainer.drain():
                pass

    def adopt(self, frozen: Ledger, ledger: Ledger, id: UUID) -> None:
        assert isinstance(frozen, RedisLedger) and isinstance(ledger, RedisLedger)
        if reservation := frozen.pending.reservations.pop(id, None):
            ledger.pending.reservations[id] = reservation

    async def wipe(self) -> None:
        """Empty Redis. Every process notices this at its next tick, before windows may open again."""
        blocking_client().flushdb()
        with patch.object(epochs, "REBUILD_GRACE_S", REBUILD_TIMEOUT_S):
            for ledger in self.running:
                assert isinstance(ledger, RedisLedger)
                await ledger.background_tasks.send_heartbeat()
                await ledger.background_tasks.tick()
                for project_id in await ledger.record_store.registered_projects():
                    await ledger.epochs.ensure_epoch(project_id)
        await asyncio.sleep(2 * REBUILD_TIMEOUT_S)

    async def open_reservations(self) -> int:
        return sum(len(queries.reservations(project_id)) for project_id in queries.project_ids())


def ledger_harness_on(backend: str) -> LedgerHarness:
    return RedisLedgerHarness() if backend == "redis" else LedgerHarness()


async def budget(
    key: ApiKey,
    requests: int,
    period: Period = Period.DAY,
    mode: Mode = Mode.HARD,
    *,
    whole_project: bool = False,
) -> BudgetLimit:
    """Create a budget that can pay for this many requests."""
    row = await Budget.objects.acreate(
        project_id=key.project_id,
        key=None if whole_project else key,
        period=period,
        mode=mode,
        limit_nano=requests * PRICE,
    )
    return BudgetLimit(row.pk, row.period, row.limit_nano, whole_project, row.mode)


def reserve_request(
    key: ApiKey, *budgets: BudgetLimit, min_nano: int = PRICE, max_nano: int = PRICE,
    limits: tuple[RateLimit, ...] = (), tokens: int = 0, day: date = TODAY, timezone: ZoneInfo = UTC_ZONE,
) -> ReserveRequest:  # fmt: skip
    estimate = UsageEntry(
        id=uuid7(), project_id=key.project_id, key_id=key.pk, day=day, created_at=NOON,
        request_id="request", operation="chat", format="openai", cost_nano=max_nano, estimated=True,
    )  # fmt: skip
    return ReserveRequest(
        estimate.id, key.project_id, key.pk, timezone, min_nano, max_nano, budgets, limits, tokens, estimate
    )


async def reserve(
    ledger: Ledger, request: ReserveRequest
) -> tuple[ReserveRequest, ReservationGrant] | AdmissionDenied:
    try:
        return request, await ledger.reserve(request)
    except AdmissionDenied as denial:
        return denial


async def settle(ledger: Ledger, request: ReserveRequest, reservation: ReservationGrant, cost: int) -> None:
    entry = request.estimate
    entry.cost_nano, entry.estimated = cost, False
    await ledger.settle(reservation, entry)


async def recorded_cost(project: Project | None = None) -> int:
    """Return the sum of all records' costs."""
    records = UsageRecord.objects.all() if project is None else UsageRecord.objects.for_project(project)
    total: int = (await records.aaggregate(total=Sum("cost_nano", default=0)))["total"]
    return total


async def eventually(condition: object, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.02)
