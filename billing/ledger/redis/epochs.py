"""The life of Redis, project by project: an epoch begins where Redis knows nothing of a project.

Redis may come back empty. Whoever notices first begins an epoch whose windows stay closed for GRACE_S: in that time every living
process notices too, and puts back what it holds and what it has posted. A project that SQL does not know either is new.
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
"""How often a request that waits for an epoch looks whether Redis is there at all."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EpochInfo:
    """What Redis says of a project: its epoch (none: it knows nothing), when its windows may open, how far its outbox is
    drained, and whether SQL knows of the epoch.
    """

    epoch: str
    opens_in_s: float
    drained_id: str
    is_registered: bool


class EpochTracker:
    def __init__(
        self, client: RedisClient, record_store: RecordStore, restore: Callable[[int, str], Awaitable[None]]
    ) -> None:
        """`restore` puts back what this process has of a project, in an epoch."""
        self.client = client
        self.record_store = record_store
        self.restore = restore
        self.by_project: dict[int, str] = {}
        self.locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.lookups: dict[int, asyncio.Task[EpochInfo]] = {}

    async def ensure_epoch(self, project_id: int) -> EpochInfo:
        """Learns the epoch of a project, and begins one where there is none. Raises StoreUnavailable, or one of
        DatabaseErrors.
        """
        async with self.locks[project_id]:
            return await self._lookup(project_id)

    async def epoch_for_request(self, project_id: int) -> str:
        """The same for requests: it is learnt once for all of them, and however long that takes, none of them waits for a Redis
        that does not answer. It is learnt to the end without them.
        """
        lookup = self.lookups.get(project_id) or self._start_lookup(project_id)
        while not (await asyncio.wait({lookup}, timeout=PING_INTERVAL_S))[0]:
            await self.client.ping()
        return lookup.result().epoch

    def _start_lookup(self, project_id: int) -> asyncio.Task[EpochInfo]:
        def on_done(task: asyncio.Task[EpochInfo]) -> None:
            del self.lookups[project_id]
            if not task.cancelled():
                task.exception()  # everybody who waited may have left

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
                "redis has lost a project: its budgets are closed for a moment", project_id=project_id
            )
        await self.client.run_slow(REGISTER_EPOCH, project_id, epoch, int(not was_known), drained_id)

    async def fetch(self, project_id: int, epoch: str = "") -> EpochInfo:
        reply = await self.client.run_slow(GET_OR_CREATE_EPOCH, project_id, epoch, int(REBUILD_GRACE_S * 1e6))
        return EpochInfo(reply[0].decode(), reply[1] / 1e6, reply[2].decode(), bool(reply[3]))

    async def refresh_all(self, project_ids: set[int]) -> dict[int, str]:
        """Notices where Redis was emptied; returns how far each outbox is drained."""
        infos = await asyncio.gather(*map(self.refresh, project_ids))
        return {
            project_id: state.drained_id
            for project_id, state in zip(project_ids, infos, strict=True)
            if state is not None
        }

    async def refresh(self, project_id: int) -> EpochInfo | None:
        """None for one that Redis has no sound answer about: it keeps the others back in nothing."""
        try:
            info = await self.fetch(project_id)
            if not info.epoch or info.epoch != self.by_project.get(project_id):
                await self.ensure_epoch(project_id)
        except CommandRejected as error:
            log.error("what redis knows of a project is damaged", project_id=project_id, error=str(error))
            return None
        return info
