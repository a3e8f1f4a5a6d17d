"""The ledger on SQL: steps that arrive together are committed together."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any, TypeVar

import structlog

from billing.ledger import steps
from billing.ledger.entry import Entry
from billing.ledger.failpoints import failpoint
from billing.ledger.limiter import Limiter
from billing.ledger.session import Connection, DatabaseErrors
from billing.ledger.steps import Session
from billing.ledger.terms import Demand, LedgerUnavailable, LimitTerms, Refused, Reservation, Standing

BEAT_S = 5

T = TypeVar("T")
Step = Callable[[Session], Awaitable[Any]]
log = structlog.get_logger()


class SqlLedger:
    """For one process alone, in one event loop: whatever reservations are there at the start are orphans.

    Money is in the database. The limits of the last minute are in memory: they are forgiven when the process ends.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.limiter = Limiter()
        self.waiting: list[tuple[Step, asyncio.Future[Any]]] = []
        self.dirty: set[tuple[int, date]] = set()
        self.owed: list[Step] = []
        self.flushing: asyncio.Task[None] | None = None
        self.heart: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Resolves what the process before left; returns how many reservations that were."""
        resolved = await self.resolve_orphans()
        self.heart = asyncio.create_task(self.live())
        return resolved

    async def stop(self) -> None:
        if self.heart is not None:
            self.heart.cancel()
        with suppress(Exception):
            await self.write_owed()
        while self.flushing is not None:
            await self.flushing
        if self.owed:
            log.error("steps are lost: what they held is resolved as an estimate at the next start", count=len(self.owed))
        await self.connection.close()

    def now(self) -> float:
        return time.time()

    async def reserve(self, demand: Demand) -> Reservation:
        failpoint("reserve.before")
        standing = self.limiter.enter(demand)
        future = self.submit(lambda session: steps.reserve(session, demand))
        try:
            reservation = await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(asyncio.Future.exception)
            self.withdraw(demand)
            raise
        except Exception as error:
            self.limiter.undo(demand.id)
            if isinstance(error, Refused):
                error.standing = self.limiter.standing(demand.limits)
            elif isinstance(error, LedgerUnavailable):
                self.void(demand)
            raise
        failpoint("reserve.after")
        return replace(reservation, standing=standing)

    def withdraw(self, demand: Demand) -> None:
        """Whoever asked was cancelled: nobody else would release what it may hold. Steps are taken in order."""
        self.limiter.leave(demand.id, 0)
        self.dirty.add((demand.project_id, demand.draft.day))
        self.submit_or_owe(partial(steps.settle, entry=demand.withdrawn()))

    def void(self, demand: Demand) -> None:
        """The database went away during a reservation: whether it was committed is not known."""
        self.owed.append(partial(steps.let_go, id=demand.id, cost_nano=0))

    async def standing(self, project_id: int, limits: tuple[LimitTerms, ...]) -> Standing:
        return self.limiter.standing(limits)

    async def settle(self, reservation: Reservation, entry: Entry) -> None:
        self.limiter.leave(reservation.id, entry.tokens.prompt + entry.tokens.output)
        entry.held_nano = reservation.amount
        failpoint("settle.before")
        await self.keep(partial(steps.settle, entry=entry), entry)
        failpoint("settle.after")

    async def release(self, reservation: Reservation, entry: Entry) -> None:
        entry.cost_nano = 0
        await self.settle(reservation, entry)

    async def record(self, entry: Entry) -> None:
        await self.keep(partial(steps.record, entry=entry), entry)

    async def keep(self, step: Step, entry: Entry) -> None:
        """Writes a record, now or as soon as the database answers again: what was spent is never given up."""
        self.dirty.add((entry.project_id, entry.day))
        try:
            await asyncio.shield(self.submit_or_owe(step))
        except Exception as error:
            log.error("a record waits for the database", request_id=entry.request_id, reason=str(error))

    def submit_or_owe(self, step: Step) -> asyncio.Future[Any]:
        """Whoever waits for it may be cancelled: a step that fails is tried again all the same."""

        def owe(done: asyncio.Future[Any]) -> None:
            if done.exception() is not None:
                self.owed.append(step)

        future = self.submit(step)
        future.add_done_callback(owe)
        return future

    async def write_owed(self) -> None:
        """As they came. One that fails is owed again: it may be one that fails always, which keeps none of the others back."""
        owed, self.owed = self.owed, []
        if tried := list(map(self.submit_or_owe, owed)):
            await asyncio.wait(tried)
        for future in tried:
            future.result()

    async def resolve_orphans(self) -> int:
        orphans = await self.submit(steps.find_orphans)
        resolving = (self.submit(partial(steps.resolve, draft=draft, amount=amount)) for draft, amount in orphans)
        resolved = await asyncio.gather(*resolving, return_exceptions=True)
        for outcome in resolved:
            if isinstance(outcome, Entry):
                log.warning(
                    "reservation of a dead process posted as an estimate", request_id=outcome.request_id, cost_nano=outcome.cost_nano
                )
            else:
                # One that cannot be resolved must not keep the others, or the start, from going on.
                log.error("reservation of a dead process could not be resolved", exc_info=outcome)
        return sum(isinstance(outcome, Entry) for outcome in resolved)

    async def live(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            self.limiter.forget_idle()
            try:
                await self.write_owed()
            except Exception as error:
                log.warning("ledger unavailable", owed=len(self.owed), error=str(error))

    def submit(self, step: Callable[[Session], Awaitable[T]]) -> asyncio.Future[T]:
        """The outcome of a step that will be committed together with those that wait with it."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.waiting.append((step, future))
        if self.flushing is None:
            self.flushing = asyncio.create_task(self.flush())
        return future

    async def flush(self) -> None:
        while self.waiting:
            batch, self.waiting = self.waiting, []
            if not await self.commit(batch):
                for single in batch:
                    await self.commit([single])
        self.flushing = None

    async def commit(self, batch: list[tuple[Step, asyncio.Future[Any]]]) -> bool:
        """One transaction; returns whether every step of the batch has its outcome. Where not, none of them is done."""
        try:
            await self.connection.begin()
        except Exception as error:
            # Nobody of them would fare better alone, and each would wait as long.
            await self.roll_back()
            for _, future in batch:
                deliver(future, failure_of(error))
            return True
        dirty, self.dirty = self.dirty, set()
        try:
            results = [await outcome(step, self.connection) for step, _ in batch]
            if dirty:
                await steps.mark_days(self.connection, dirty)
            failpoint("commit.before")
            await self.connection.commit()
            failpoint("commit.after")
        except Exception as error:
            self.dirty |= dirty
            await self.roll_back()
            if len(batch) == 1:
                deliver(batch[0][1], failure_of(error))
            return len(batch) == 1
        for (_, future), result in zip(batch, results, strict=True):
            deliver(future, result)
        return True

    async def roll_back(self) -> None:
        """Whoever waits for a step must hear of it, also where not even this works."""
        try:
            await self.connection.rollback()
        except DatabaseErrors as error:
            log.error("a transaction could not be rolled back", error=str(error))


async def outcome(step: Step, session: Session) -> Any:
    """A refusal is a result like any other: it has written nothing, and its neighbours in the batch go on."""
    try:
        return await step(session)
    except Refused as refusal:
        return refusal


def failure_of(error: Exception) -> Exception:
    if not isinstance(error, DatabaseErrors):
        return error
    failure = LedgerUnavailable(str(error))
    failure.__cause__ = error
    return failure


def deliver(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)
