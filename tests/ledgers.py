"""The ledger on each of its stores, as tests of the ledger see it: processes that start, serve, die and come back."""

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

from billing.ledger import Demand, Entry, Ledger, Refused, Reservation, SqlLedger
from billing.ledger.redis import Policy, RedisLedger, projects, reader
from billing.ledger.redis.scripts import alive
from billing.ledger.session import connect
from billing.ledger.spending import spending
from billing.ledger.terms import BudgetTerms, LimitTerms
from billing.models import Budget, Mode, Period, UsageRecord
from billing.models import Reservation as StoredReservation
from keys.models import ApiKey
from projects.ids import uuid7
from projects.models import Project
from tests.environment import ON_SERVERS

PRICE = 1_000
UTC_ZONE = ZoneInfo("UTC")
TODAY = date(2026, 11, 20)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
REBUILT_S = 0.01
BACKENDS = ("postgresql", "redis") if ON_SERVERS else ("sqlite",)


@dataclass
class Books:
    """SQL's books. `processes` is how many may serve at once."""

    processes: int = 1
    open: list[Ledger] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self.environment = settings.ENV
        settings.ENV = settings.ENV.model_copy(update={"redis_url": self.url})

    def make(self) -> Ledger:
        return SqlLedger(connect())

    async def start(self) -> Ledger:
        ledger = self.make()
        await ledger.start()
        self.open.append(ledger)
        return ledger

    async def stop(self, ledger: Ledger) -> None:
        self.open.remove(ledger)
        await ledger.stop()

    async def kill(self, ledger: Ledger) -> None:
        """Ends it without a chance to settle: only its connections are closed, as the kernel would."""
        assert isinstance(ledger, SqlLedger) and ledger.heart is not None
        self.open.remove(ledger)
        ledger.heart.cancel()
        await ledger.connection.close()

    async def bury(self) -> None:
        """Resolves what the dead left: the next process does so when it starts."""
        for ledger in list(self.open):
            await self.stop(ledger)
        await self.start()

    async def close(self) -> None:
        for ledger in list(self.open):
            await self.stop(ledger)
        settings.ENV = self.environment

    async def written(self) -> None:
        """Waits until all records are in the database."""

    async def taken(self, terms: BudgetTerms, day: date = TODAY) -> tuple[int, int]:
        """What is spent and held in a budget's window."""
        budget = await Budget.objects.select_related("project").aget(pk=terms.id)
        found = await sync_to_async(spending)(budget.project, [budget], day)
        return found[budget.pk].spent, found[budget.pk].reserved

    def thaw(self, frozen: Ledger, ledger: Ledger, id: UUID) -> None:
        """What a process that was taken for dead remembers of a request, another one remembers from now on: as if it had only been
        frozen."""

    async def forget(self) -> None:
        """The store of the counters comes back empty, where that can be."""

    async def held(self) -> int:
        """Reservations that are open."""
        return await StoredReservation.objects.acount()


class RedisBooks(Books):
    """Redis' books, in an empty database of the server that the tests run on."""

    def __init__(self) -> None:
        super().__init__(processes=4, url=os.environ["GATEWAY_TEST_REDIS_URL"].removesuffix("/0") + "/3")
        reader.client.cache_clear()
        reader.client().flushdb()

    def make(self) -> Ledger:
        return RedisLedger(self.url, Policy(timeout_s=5))

    async def kill(self, ledger: Ledger) -> None:
        """Also its sign of life goes away, as it does by itself after some seconds."""
        assert isinstance(ledger, RedisLedger)
        self.open.remove(ledger)
        await ledger.upkeep.stop()
        for closing in (ledger.store.close, ledger.books.close, ledger.drained_books.close):
            await closing()
        reader.client().delete(alive(ledger.process))

    async def bury(self) -> None:
        ledger = await self.start()
        assert isinstance(ledger, RedisLedger)
        await ledger.reaper.reap()

    async def close(self) -> None:
        await super().close()
        reader.client().close()
        reader.client.cache_clear()

    async def written(self) -> None:
        async with asyncio.timeout(20):
            ledger = self.open[0] if self.open else await self.start()
            assert isinstance(ledger, RedisLedger)
            for each in self.open:
                assert isinstance(each, RedisLedger)
                await each.pay_debts()
            while await ledger.drainer.drain():
                pass

    def thaw(self, frozen: Ledger, ledger: Ledger, id: UUID) -> None:
        assert isinstance(frozen, RedisLedger) and isinstance(ledger, RedisLedger)
        if hold := frozen.memory.holds.pop(id, None):
            ledger.memory.holds[id] = hold

    async def forget(self) -> None:
        """Every process notices at its next beat, before budgets are open again."""
        reader.client().flushdb()
        with patch.object(projects, "GRACE_S", REBUILT_S):
            for ledger in self.open:
                assert isinstance(ledger, RedisLedger)
                await ledger.upkeep.show_life()
                await ledger.upkeep.beat()
                for project_id in await ledger.books.projects():
                    await ledger.projects.enter(project_id)
        await asyncio.sleep(2 * REBUILT_S)

    async def held(self) -> int:
        return sum(len(reader.reservations(project_id)) for project_id in reader.projects())


def books_on(backend: str) -> Books:
    return RedisBooks() if backend == "redis" else Books()


async def budget(
    key: ApiKey, requests: int, period: Period = Period.DAY, mode: Mode = Mode.HARD, *, whole_project: bool = False
) -> BudgetTerms:
    """A budget that pays for so many requests."""
    row = await Budget.objects.acreate(
        project_id=key.project_id, key=None if whole_project else key, period=period, mode=mode, limit_nano=requests * PRICE
    )
    return BudgetTerms(row.pk, row.period, row.limit_nano, whole_project, row.mode)


def demand(
    key: ApiKey, *budgets: BudgetTerms, at_least: int = PRICE, at_most: int = PRICE, limits: tuple[LimitTerms, ...] = (), tokens: int = 0,
    day: date = TODAY, zone: ZoneInfo = UTC_ZONE,
) -> Demand:  # fmt: skip
    draft = Entry(
        id=uuid7(), project_id=key.project_id, key_id=key.pk, day=day, created_at=NOON, request_id="request", operation="chat",
        format="openai", cost_nano=at_most, estimated=True,
    )  # fmt: skip
    return Demand(draft.id, key.project_id, key.pk, zone, at_least, at_most, budgets, limits, tokens, draft)


async def reserve(ledger: Ledger, wanted: Demand) -> tuple[Demand, Reservation] | Refused:
    try:
        return wanted, await ledger.reserve(wanted)
    except Refused as refusal:
        return refusal


async def settle(ledger: Ledger, wanted: Demand, held: Reservation, cost: int) -> None:
    entry = wanted.draft
    entry.cost_nano, entry.estimated = cost, False
    await ledger.settle(held, entry)


async def recorded(project: Project | None = None) -> int:
    """The sum of all records' costs."""
    records = UsageRecord.objects.all() if project is None else UsageRecord.objects.for_project(project)
    total: int = (await records.aaggregate(total=Sum("cost_nano", default=0)))["total"]
    return total


async def eventually(condition: object, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.02)
