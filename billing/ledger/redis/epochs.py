"""Epochs of projects: an epoch begins if Redis knows nothing of a project, new or lost.

Redis may come back empty. The process that notices first begins an epoch in which no window opens for
REBUILD_GRACE_S. In that time every living process notices the epoch too, and restores its open reservations
and the records that it has sent. A project that SQL does not know either is new, and does not have to wait.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from billing.ledger.redis.client.client import CommandRejected, RedisClient
from billing.ledger.redis.client.keys import PROJECTS_KEY
from billing.ledger.redis.client.scripts import GET_OR_CREATE_EPOCH, REGISTER_EPOCH
from billing.ledger.redis.record_store import RecordStore
from projects.ids import uuid7

REBUILD_GRACE_S = 3.0
PING_INTERVAL_S = 0.05
"""How often a request that waits for an epoch checks that Redis answers at all."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EpochInfo:
    """The state of a project in Redis.

    `epoch` is empty if Redis knows nothing. `opens_in_s`: the seconds until windows may open. `drained_id`:
    the stream id up to which the record stream is drained. `is_registered`: SQL knows the epoch.
    """

    epoch: str
    opens_in_s: float
    drained_id: str
    is_registered: bool


class EpochTracker:
    def __init__(
        self, client: RedisClient, record_store: RecordStore, restore: Callable[[int, str], Awaitable[None]]
    ) -> None:
        """`restore` writes what this process knows of a project to Redis, in a new epoch."""
        self.client = client
        self.record_store = record_store
        self.restore = restore
        self.by_project: dict[int, str] = {}
        self.locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.lookups: dict[int, asyncio.Task[EpochInfo]] = {}

    async def ensure_epoch(self, project_id: int) -> EpochInfo:
        """Look up the epoch of a project, and begin one if there is none.

        Raises RedisUnavailable, or one of DatabaseErrors.
        """
        async with self.locks[project_id]:
            return await self._lookup(project_id)

    async def epoch_for_request(self, project_id: int) -> str:
        """Return the epoch of a project, from one lookup for all requests that wait for it.

        The lookup may take long. A request stops waiting as soon as Redis does not answer; the lookup goes
        on.
        """
        lookup = self.lookups.get(project_id) or self._start_lookup(project_id)
        while not (await asyncio.wait({lookup}, timeout=PING_INTERVAL_S))[0]:
            await self.client.ping()
        return lookup.result().epoch

    def _start_lookup(self, project_id: int) -> asyncio.Task[EpochInfo]:
        def on_done(task: asyncio.Task[EpochInfo]) -> None:
            del self.lookups[project_id]
            if not task.cancelled():
                task.exception()  # Mark it as retrieved: maybe no request waits any longer.

        lookup = self.lookups[project_id] = asyncio.create_task(self.ensure_epoch(project_id))
        lookup.add_done_callback(on_done)
        return lookup

    async def _lookup(self, project_id: int) -> EpochInfo:
        await self.client.command_slow("SADD", PROJECTS_KEY, project_id)
        info = await self.fetch(project_id, uuid7().hex)
        if not info.is_registered:
            await self.register(project_id, info.epoch)
            info = await self.fetch(project_id)
        if info.epoch != self.by_project.get(project_id):
            await self.restore(project_id, info.epoch)
            self.by_project[project_id] = info.epoch
        return info

    async def register(self, project_id: int, epoch: str) -> None:
        was_known, drained_id = await self.record_store.register_project(project_id)
        if was_known:
            log.warning(
                "redis_data_lost",
                message="Redis has lost the counters of a project. Requests under hard budgets are denied "
                f"for {REBUILD_GRACE_S:g} s, until they are rebuilt.",
                project_id=project_id,
            )
        await self.client.run_slow(REGISTER_EPOCH, project_id, epoch, int(not was_known), drained_id)

    async def fetch(self, project_id: int, epoch: str = "") -> EpochInfo:
        """Fetch what Redis knows of a project; begin `epoch` if Redis knows nothing."""
        reply = await self.client.run_slow(GET_OR_CREATE_EPOCH, project_id, epoch, int(REBUILD_GRACE_S * 1e6))
        return EpochInfo(reply[0].decode(), reply[1] / 1e6, reply[2].decode(), bool(reply[3]))

    async def refresh_all(self, project_ids: set[int]) -> dict[int, str]:
        """Notice whether Redis was emptied; return up to which stream id each project is drained."""
        infos = await asyncio.gather(*map(self.refresh, project_ids))
        return {
            project_id: info.drained_id
            for project_id, info in zip(project_ids, infos, strict=True)
            if info is not None
        }

    async def refresh(self, project_id: int) -> EpochInfo | None:
        """Return None if this project's data in Redis is damaged; other projects are unaffected."""
        try:
            info = await self.fetch(project_id)
            if not info.epoch or info.epoch != self.by_project.get(project_id):
                await self.ensure_epoch(project_id)
        except CommandRejected as error:
            log.error(
                "redis_data_damaged",
                message="The data of a project in Redis is damaged. Inspect the keys with its prefix. "
                "Other projects are unaffected.",
                project_id=project_id,
                error=str(error),
            )
            return None
        return info
