"""Epochs: a new epoch of a project begins if Redis has no data of the project.

If Redis has lost the data, the first process that notices begins an epoch. For REBUILD_GRACE_S, no window may
open in it. During this time, every live process notices the new epoch, and restores its open reservations and
the records that it has sent. If the project is not registered in SQL either, it is new, and its windows may
open at once.
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
"""How often a request that waits for an epoch checks whether Redis still answers."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EpochInfo:
    """The state of a project in Redis.

    `epoch` is empty if Redis has no data of the project. `opens_in_s` is the number of seconds until windows
    may open. `drained_id` is the stream id up to which the record stream is drained. `is_registered` means
    that the project was registered in SQL in this epoch.
    """

    epoch: str
    opens_in_s: float
    drained_id: str
    is_registered: bool


class EpochTracker:
    def __init__(
        self, client: RedisClient, record_store: RecordStore, restore: Callable[[int, str], Awaitable[None]]
    ) -> None:
        """`restore` is called in a new epoch, and writes what this process knows of the project to Redis."""
        self.client = client
        self.record_store = record_store
        self.restore = restore
        self.by_project: dict[int, str] = {}
        self.locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.lookups: dict[int, asyncio.Task[EpochInfo]] = {}

    async def ensure_epoch(self, project_id: int) -> EpochInfo:
        """Return the epoch of a project. Begin one if there is none.

        Raises RedisUnavailable, or one of DatabaseErrors.
        """
        async with self.locks[project_id]:
            return await self._lookup(project_id)

    async def epoch_for_request(self, project_id: int) -> str:
        """Return the epoch of a project. All requests that wait for it share one lookup.

        If Redis stops answering during the lookup, a request stops waiting and raises CommandNotSent. The
        lookup itself continues.
        """
        lookup = self.lookups.get(project_id) or self._start_lookup(project_id)
        while not (await asyncio.wait({lookup}, timeout=PING_INTERVAL_S))[0]:
            await self.client.ping()
        return lookup.result().epoch

    def _start_lookup(self, project_id: int) -> asyncio.Task[EpochInfo]:
        def on_done(task: asyncio.Task[EpochInfo]) -> None:
            del self.lookups[project_id]
            if not task.cancelled():
                task.exception()  # Mark the exception as retrieved.

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
        """Fetch the state of a project in Redis. If there is none, begin `epoch` (if it is not empty)."""
        reply = await self.client.run_slow(GET_OR_CREATE_EPOCH, project_id, epoch, int(REBUILD_GRACE_S * 1e6))
        return EpochInfo(reply[0].decode(), reply[1] / 1e6, reply[2].decode(), bool(reply[3]))

    async def refresh_all(self, project_ids: set[int]) -> dict[int, str]:
        """Check whether Redis has lost the data of projects. Return the drained stream id of each project."""
        infos = await asyncio.gather(*map(self.refresh, project_ids))
        return {
            project_id: info.drained_id
            for project_id, info in zip(project_ids, infos, strict=True)
            if info is not None
        }

    async def refresh(self, project_id: int) -> EpochInfo | None:
        """Check one project. Return None if its data in Redis is damaged."""
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
