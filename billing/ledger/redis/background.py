"""Background tasks of the Redis ledger.

Each process sends heartbeats, synchronizes its clock with that of Redis, and retries writes. One process at a
time has the lease and also drains record streams, collects unsent records and reaps reservations.
"""

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
"""A process that sends no heartbeat for this long counts as dead. The reaper checks every REAP_INTERVAL_S."""
REAP_INTERVAL_S = 5.0
SPILL_INTERVAL_S = 0.1
"""How often records are written to PostgreSQL while Redis is down."""
COLLECT_INTERVAL_S = 1.0
OWN_RECORDS_FIRST_S = 2.0
"""How long Redis must have been up before this process sends unsent records of other processes.

In this time, most processes send their own records.
"""
STABLE_FOR_S = 10.0
"""How long Redis must have been up before a missing heartbeat means that a process is dead.

After an outage of Redis, the heartbeats of all processes are missing at first.
"""
LEASE_TTL_S = 10
DRAIN_INTERVAL_S = 0.2
REGISTER_INTERVAL_S = 15.0
FAILURE_BACKOFF = 5
"""The factor by which the interval of a task grows while the task fails."""

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
        spill: Callable[[], Awaitable[None]],
    ) -> None:
        self.process_id = process_id
        self.client = client
        self.drainer = drainer
        self.reaper = reaper
        self.on_tick = on_tick
        self.retry_pending = retry_pending
        self.spill = spill
        self.tasks: list[asyncio.Task[None]] = []
        self.stable_since: float | None = None
        """The time since which Redis has answered every heartbeat, on the monotonic clock.

        None if Redis did not answer the last heartbeat.
        """

    def start(self) -> None:
        loops = (
            (TICK_S, self.send_heartbeat),
            (TICK_S, self.tick),
            (TICK_S, self.retry_pending),
            (SPILL_INTERVAL_S, self.spill),
            (COLLECT_INTERVAL_S, self.collect),
            (DRAIN_INTERVAL_S, self.drain),
            (REAP_INTERVAL_S, self.reap),
            (REGISTER_INTERVAL_S, self.register_projects),
        )
        self.tasks = [asyncio.create_task(run_every(interval_s, task)) for interval_s, task in loops]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    @property
    def is_redis_down(self) -> bool:
        """Return whether Redis did not answer the last heartbeat, or cannot serve requests."""
        return self.stable_since is None or self.client.fast.protocol is None or self.client.breaker.is_open

    def has_answered_for(self, seconds: float) -> bool:
        return self.stable_since is not None and time.monotonic() - self.stable_since > seconds

    async def release_lease(self) -> None:
        if await self.client.command_slow("GET", LEASE_KEY) == self.process_id.encode():
            await self.client.command_slow("DEL", LEASE_KEY)

    async def send_heartbeat(self) -> None:
        """Renew the heartbeat key of this process.

        This is a separate task, because a process whose heartbeat is delayed by other work counts as dead.
        """
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
        """Acquire or renew the lease; return whether this process has it.

        For a short time, two processes may have the lease. This does no harm.
        """
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
        """Add all projects to the set of projects that are drained and reaped.

        A process registers a project only once. If Redis loses the set, but not its other data, this task
        restores the set.
        """
        if await self.acquire_lease():
            async with self.drainer.record_store.transaction() as executor:
                rows = await executor.run("SELECT project_id FROM billing_streamcursor")
            if rows:
                await self.client.command_slow("SADD", PROJECTS_KEY, *(project_id for (project_id,) in rows))

    async def collect(self) -> None:
        """Send all unsent records from PostgreSQL to Redis, including those of live processes."""
        if self.has_answered_for(OWN_RECORDS_FIRST_S) and await self.acquire_lease():
            await self.reaper.settle_unsent()

    async def reap(self) -> None:
        if self.has_answered_for(STABLE_FOR_S) and await self.acquire_lease():
            await self.reaper.reap()


async def run_every(interval_s: float, task: Callable[[], Awaitable[None]]) -> None:
    """Run `task` every `interval_s` seconds until cancelled. Log only the first of consecutive failures.

    All exceptions are caught, because without this loop records would accumulate, or heartbeats would stop.
    """
    is_failing = False
    while True:
        try:
            await task()
            is_failing = False
        except Exception as error:
            if not is_failing:
                log_failure(task.__name__, error)
            is_failing = True
        await asyncio.sleep(interval_s * (FAILURE_BACKOFF if is_failing else 1))


def log_failure(task: str, error: Exception) -> None:
    if isinstance(error, (RedisUnavailable, *DatabaseErrors)):
        log.warning(
            "ledger_background_task_delayed",
            message="A background task failed because Redis or the database is down. It is tried again.",
            task=task,
            error=str(error) or type(error).__name__,
        )
    else:
        log.error(
            "ledger_background_task_failed",
            message="A background task of the ledger failed. It is tried again.",
            task=task,
            exc_info=error,
        )
