"""What a process does beside its requests: it shows that it lives, notices a loss, retries, and takes its turn at the chores."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from billing.ledger.redis.connection import StoreUnavailable
from billing.ledger.redis.drainer import Drainer
from billing.ledger.redis.reaper import Reaper
from billing.ledger.redis.scripts import LEASE, PROJECTS, alive
from billing.ledger.redis.store import Store
from billing.ledger.session import DatabaseErrors

BEAT_S = 1.0
SILENCE_S = 30
"""A process that has not shown itself for this long has died; it is found within REAP_S more, so within 45 s."""
REAP_S = 5.0
FLUSH_S = 0.1
"""How long the record of a request without a budget may wait to be written to PostgreSQL, while Redis is away."""
COLLECT_S = 1.0
OWN_FIRST_S = 2.0
STEADY_S = 10.0
"""Redis must have answered for this long before silence means death: after a pause of Redis all are silent."""
LEASE_S = 10
DRAIN_S = 0.2
REGISTER_S = 15.0

log = structlog.get_logger()


class Upkeep:
    def __init__(
        self,
        process: str,
        store: Store,
        drainer: Drainer,
        reaper: Reaper,
        beat: Callable[[], Awaitable[None]],
        pay_debts: Callable[[], Awaitable[None]],
        flush: Callable[[], Awaitable[None]],
    ) -> None:
        self.process = process
        self.store = store
        self.drainer = drainer
        self.reaper = reaper
        self.on_beat = beat
        self.pay_debts = pay_debts
        self.flush = flush
        self.tasks: list[asyncio.Task[None]] = []
        self.steady_since: float | None = None

    def start(self) -> None:
        loops = (
            (BEAT_S, self.show_life),
            (BEAT_S, self.beat),
            (BEAT_S, self.pay_debts),
            (FLUSH_S, self.flush),
            (COLLECT_S, self.collect),
            (DRAIN_S, self.drain),
            (REAP_S, self.reap),
            (REGISTER_S, self.register),
        )
        self.tasks = [asyncio.create_task(repeat(pause_s, step)) for pause_s, step in loops]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    @property
    def redis_is_away(self) -> bool:
        """Whether Redis answers neither requests nor the last beat."""
        return self.steady_since is None or self.store.quick.wire is None or self.store.breaker.is_open

    def has_answered_for(self, seconds: float) -> bool:
        return self.steady_since is not None and time.monotonic() - self.steady_since > seconds

    async def give_lease_back(self) -> None:
        if await self.store.call("GET", LEASE) == self.process.encode():
            await self.store.call("DEL", LEASE)

    async def show_life(self) -> None:
        """Waits for nothing else that a process does: however much that is, it is not taken for dead."""
        try:
            await self.store.call("SET", alive(self.process), 1, "EX", SILENCE_S)
        except StoreUnavailable:
            self.steady_since = None
            raise
        self.steady_since = self.steady_since or time.monotonic()

    async def beat(self) -> None:
        await self.store.probe()
        await self.store.set_clock()
        await self.on_beat()

    async def has_lease(self) -> bool:
        """Whether the chores are this process's. Two that both think so do no harm."""
        if await self.store.call("SET", LEASE, self.process, "NX", "EX", LEASE_S):
            return True
        if await self.store.call("GET", LEASE) != self.process.encode():
            return False
        await self.store.call("EXPIRE", LEASE, LEASE_S)
        return True

    async def drain(self) -> None:
        if await self.has_lease():
            while await self.drainer.drain():
                await self.has_lease()

    async def register(self) -> None:
        """Puts projects back among those that are drained and reaped: Redis may have lost one alone, and its processes ask no more."""
        if await self.has_lease():
            async with self.drainer.books.transaction() as session:
                rows = await session.run("SELECT project_id FROM billing_outbox")
            if rows:
                await self.store.call("SADD", PROJECTS, *(project_id for (project_id,) in rows))

    async def collect(self) -> None:
        """Also of processes that live: one of them may not reach Redis. Those that do bring their own records there first."""
        if self.has_answered_for(OWN_FIRST_S) and await self.has_lease():
            await self.reaper.collect()

    async def reap(self) -> None:
        if self.has_answered_for(STEADY_S) and await self.has_lease():
            await self.reaper.reap()


async def repeat(pause_s: float, step: Callable[[], Awaitable[None]]) -> None:
    """Does it for ever; what fails is tried again, and told once. Whatever it is: a chore that ended would leave records lying, or
    a process that lives without a sign of life."""
    failing = False
    while True:
        try:
            await step()
            failing = False
        except (StoreUnavailable, *DatabaseErrors) as error:
            if not failing:
                log.warning("the ledger waits", step=step.__name__, error=str(error) or type(error).__name__)
            failing = True
        except Exception as error:
            if not failing:
                log.error("a chore of the ledger fails", step=step.__name__, exc_info=error)
            failing = True
        await asyncio.sleep(pause_s * (5 if failing else 1))
