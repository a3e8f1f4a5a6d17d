"""What a process does beside its requests: it shows that it lives, notices a loss, retries, and takes its turn at the chores."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from billing.ledger.redis.client.client import RedisClient
from billing.ledger.redis.client.keys import LEASE_KEY, PROJECTS_KEY, heartbeat_key
from billing.ledger.redis.client.protocol import RedisUnavailable
from billing.ledger.redis.outbox.drainer import Drainer
from billing.ledger.redis.reaper import Reaper
from billing.ledger.sql.connection import DatabaseErrors

TICK_S = 1.0
DEAD_AFTER_S = 30
"""A process that has not shown itself for this long has died; it is found within REAP_S more, so within 45 s."""
REAP_INTERVAL_S = 5.0
FLUSH_S = 0.1
"""How long the record of a request without a budget may wait to be written to PostgreSQL, while Redis is away."""
COLLECT_S = 1.0
OWN_FIRST_S = 2.0
STABLE_FOR_S = 10.0
"""Redis must have answered for this long before silence means death: after a pause of Redis all are silent."""
LEASE_TTL_S = 10
DRAIN_INTERVAL_S = 0.2
REGISTER_INTERVAL_S = 15.0

log = structlog.get_logger()


class BackgroundTasks:
    def __init__(
        self,
        process_id: str,
        client: RedisClient,
        drainer: Drainer,
        reaper: Reaper,
        on_tick: Callable[[], Awaitable[None]],
        retry_pending: Callable[[], Awaitable[None]],
        flush: Callable[[], Awaitable[None]],
    ) -> None:
        self.process_id = process_id
        self.client = client
        self.drainer = drainer
        self.reaper = reaper
        self.on_tick = on_tick
        self.retry_pending = retry_pending
        self.flush = flush
        self.tasks: list[asyncio.Task[None]] = []
        self.stable_since: float | None = None

    def start(self) -> None:
        loops = (
            (TICK_S, self.send_heartbeat),
            (TICK_S, self.tick),
            (TICK_S, self.retry_pending),
            (FLUSH_S, self.flush),
            (COLLECT_S, self.collect),
            (DRAIN_INTERVAL_S, self.drain),
            (REAP_INTERVAL_S, self.reap),
            (REGISTER_INTERVAL_S, self.register_projects),
        )
        self.tasks = [asyncio.create_task(run_every(pause_s, step)) for pause_s, step in loops]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    @property
    def is_redis_down(self) -> bool:
        """Whether Redis answers neither requests nor the last beat."""
        return self.stable_since is None or self.client.fast.protocol is None or self.client.breaker.is_open

    def has_answered_for(self, seconds: float) -> bool:
        return self.stable_since is not None and time.monotonic() - self.stable_since > seconds

    async def release_lease(self) -> None:
        if await self.client.command_slow("GET", LEASE_KEY) == self.process_id.encode():
            await self.client.command_slow("DEL", LEASE_KEY)

    async def send_heartbeat(self) -> None:
        """Waits for nothing else that a process does: however much that is, it is not taken for dead."""
        try:
            await self.client.command_slow("SET", heartbeat_key(self.process_id), 1, "EX", DEAD_AFTER_S)
        except RedisUnavailable:
            self.stable_since = None
            raise
        self.stable_since = self.stable_since or time.monotonic()

    async def tick(self) -> None:
        await self.client.probe_if_open()
        await self.client.sync_clock()
        await self.on_tick()

    async def acquire_lease(self) -> bool:
        """Whether the chores are this process's. Two that both think so do no harm."""
        if await self.client.command_slow("SET", LEASE_KEY, self.process_id, "NX", "EX", LEASE_TTL_S):
            return True
        if await self.client.command_slow("GET", LEASE_KEY) != self.process_id.encode():
            return False
        await self.client.command_slow("EXPIRE", LEASE_KEY, LEASE_TTL_S)
        return True

    async def drain(self) -> None:
        if await self.acquire_lease():
            while await self.drainer.drain():
                await self.acquire_lease()

    async def register_projects(self) -> None:
        """Puts projects back among those that are drained and reaped: Redis may have lost one alone, and its processes ask no more."""
        if await self.acquire_lease():
            async with self.drainer.record_store.transaction() as executor:
                rows = await executor.run("SELECT project_id FROM billing_streamcursor")
            if rows:
                await self.client.command_slow("SADD", PROJECTS_KEY, *(project_id for (project_id,) in rows))

    async def collect(self) -> None:
        """Also of processes that live: one of them may not reach Redis. Those that do bring their own records there first."""
        if self.has_answered_for(OWN_FIRST_S) and await self.acquire_lease():
            await self.reaper.settle_unsent()

    async def reap(self) -> None:
        if self.has_answered_for(STABLE_FOR_S) and await self.acquire_lease():
            await self.reaper.reap()


async def run_every(interval_s: float, task: Callable[[], Awaitable[None]]) -> None:
    """Does it for ever; what fails is tried again, and told once. Whatever it is: a chore that ended would leave records lying, or
    a process that lives without a sign of life.
    """
    is_failing = False
    while True:
        try:
            await task()
            is_failing = False
        except (RedisUnavailable, *DatabaseErrors) as error:
            if not is_failing:
                log.warning("the ledger waits", step=task.__name__, error=str(error) or type(error).__name__)
            is_failing = True
        except Exception as error:
            if not is_failing:
                log.error("a chore of the ledger fails", step=task.__name__, exc_info=error)
            is_failing = True
        await asyncio.sleep(interval_s * (5 if is_failing else 1))
