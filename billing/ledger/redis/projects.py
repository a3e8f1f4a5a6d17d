"""The life of Redis, project by project: an epoch begins where Redis knows nothing of a project.

Redis may come back empty. Whoever notices first begins an epoch whose windows stay closed for GRACE_S: in that time every living
process notices too, and puts back what it holds and what it has posted. A project that SQL does not know either is new.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from billing.ledger.redis.books import Books
from billing.ledger.redis.scripts import BEGIN, ENTER, PROJECTS
from billing.ledger.redis.store import Rejected, Store
from projects.ids import uuid7

GRACE_S = 3.0
LOOK_S = 0.05
"""How often a request that waits for an epoch looks whether Redis is there at all."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class State:
    """What Redis says of a project: its epoch (none: it knows nothing), when its windows may open, how far its outbox is
    drained, and whether SQL knows of the epoch."""

    epoch: str
    opens_in_s: float
    drained: str
    registered: bool


class Projects:
    def __init__(self, store: Store, books: Books, restore: Callable[[int, str], Awaitable[None]]) -> None:
        """`restore` puts back what this process has of a project, in an epoch."""
        self.store = store
        self.books = books
        self.restore = restore
        self.epochs: dict[int, str] = {}
        self.locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.learning: dict[int, asyncio.Task[State]] = {}

    async def enter(self, project_id: int) -> State:
        """Learns the epoch of a project, and begins one where there is none. Raises StoreUnavailable, or one of
        DatabaseErrors."""
        async with self.locks[project_id]:
            return await self.learn(project_id)

    async def epoch(self, project_id: int) -> str:
        """The same for requests: it is learnt once for all of them, and however long that takes, none of them waits for a Redis
        that does not answer. It is learnt to the end without them."""
        learning = self.learning.get(project_id) or self.begin_to_learn(project_id)
        while not (await asyncio.wait({learning}, timeout=LOOK_S))[0]:
            await self.store.look()
        return learning.result().epoch

    def begin_to_learn(self, project_id: int) -> asyncio.Task[State]:
        def learnt(task: asyncio.Task[State]) -> None:
            del self.learning[project_id]
            if not task.cancelled():
                task.exception()  # everybody who waited may have left

        learning = self.learning[project_id] = asyncio.create_task(self.enter(project_id))
        learning.add_done_callback(learnt)
        return learning

    async def learn(self, project_id: int) -> State:
        await self.store.call("SADD", PROJECTS, project_id)
        state = await self.ask(project_id, uuid7().hex)
        if not state.registered:
            await self.begin(project_id, state.epoch)
            state = await self.ask(project_id)
        if state.epoch != self.epochs.get(project_id):
            await self.restore(project_id, state.epoch)
            self.epochs[project_id] = state.epoch
        return state

    async def begin(self, project_id: int, epoch: str) -> None:
        was_known, drained = await self.books.register(project_id)
        if was_known:
            log.warning("redis has lost a project: its budgets are closed for a moment", project_id=project_id)
        await self.store.run_patiently(BEGIN, project_id, epoch, int(not was_known), drained)

    async def ask(self, project_id: int, epoch: str = "") -> State:
        reply = await self.store.run_patiently(ENTER, project_id, epoch, int(GRACE_S * 1e6))
        return State(reply[0].decode(), reply[1] / 1e6, reply[2].decode(), bool(reply[3]))

    async def watch(self, project_ids: set[int]) -> dict[int, str]:
        """Notices where Redis was emptied; returns how far each outbox is drained."""
        states = await asyncio.gather(*map(self.look_at, project_ids))
        return {project_id: state.drained for project_id, state in zip(project_ids, states, strict=True) if state is not None}

    async def look_at(self, project_id: int) -> State | None:
        """None for one that Redis has no sound answer about: it keeps the others back in nothing."""
        try:
            state = await self.ask(project_id)
            if not state.epoch or state.epoch != self.epochs.get(project_id):
                await self.enter(project_id)
        except Rejected as error:
            log.error("what redis knows of a project is damaged", project_id=project_id, error=str(error))
            return None
        return state
