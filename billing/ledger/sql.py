"""The ledger on SQL: steps that arrive together are committed together."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import structlog

from billing.ledger import steps
from billing.ledger.entry import Entry, sql_time
from billing.ledger.session import Connection, DatabaseErrors
from billing.ledger.steps import Session
from billing.ledger.terms import Demand, LedgerUnavailable, Refused, Reservation
from billing.models import Outcome
from projects.ids import uuid7

BEAT_S = 5
SILENCE_S = 30
"""A process that has not been seen for this long has died: its reservations are resolved within SILENCE_S + 2 * BEAT_S."""

T = TypeVar("T")
Step = Callable[[Session], Awaitable[Any]]
log = structlog.get_logger()


class SqlLedger:
    """One per process, in one event loop.

    `alone`: no other process uses this database, so that steps may share a transaction without a risk of deadlock, and
    whatever another process left open at the start is an orphan.
    """

    def __init__(self, connection: Connection, *, alone: bool) -> None:
        self.connection = connection
        self.alone = alone
        self.process_id = uuid7()
        self.waiting: list[tuple[Step, asyncio.Future[Any]]] = []
        self.dirty: set[tuple[int, date]] = set()
        self.owed: list[tuple[Entry, Step]] = []
        self.flushing: asyncio.Task[None] | None = None
        self.heart: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Resolves what earlier processes left, then lives; returns how many reservations that were."""
        await self.beat()
        resolved = await self.resolve_orphans(everything=self.alone)
        self.heart = asyncio.create_task(self.live())
        return resolved

    async def stop(self) -> None:
        """Commits all that was submitted, then closes the connection."""
        if self.heart is not None:
            self.heart.cancel()
        await self.write_owed()
        while self.flushing is not None:
            await self.flushing
        await self.connection.close()

    async def reserve(self, demand: Demand) -> Reservation:
        """Admits a request and holds its money, or raises BudgetExceeded, RateExceeded or LedgerUnavailable."""
        future = self.submit(lambda session: steps.reserve(session, demand, self.process_id))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(lambda done: self.give_back(done, demand))
            raise

    def give_back(self, reserved: asyncio.Future[Reservation], demand: Demand) -> None:
        """Whoever asked was cancelled while the step ran: nobody else would release what it holds."""
        if not reserved.cancelled() and reserved.exception() is None:
            demand.draft.outcome, demand.draft.cost_nano, demand.draft.estimated = Outcome.CLIENT_CLOSED.value, 0, False
            self.dirty.add((demand.project_id, demand.draft.day))
            self.submit(lambda session: steps.settle(session, demand.draft))

    async def settle(self, reservation: Reservation, entry: Entry) -> None:
        """Charges `entry.cost_nano` in place of what was held, and keeps the record."""
        if await self.keep(entry, partial(steps.settle, entry=entry)) is False:
            log.error(
                "reservation was resolved before it was settled",
                request_id=entry.request_id,
                cost_nano=entry.cost_nano,
                held=reservation.amount,
            )

    async def release(self, reservation: Reservation, entry: Entry) -> None:
        """Gives back what was held: nothing was spent. The record says why."""
        entry.cost_nano = 0
        await self.settle(reservation, entry)

    async def record(self, entry: Entry) -> None:
        """Keeps the record of a request that was never admitted."""
        await self.keep(entry, partial(steps.record, entry=entry))

    async def keep(self, entry: Entry, step: Step) -> Any:
        """Writes a record, now or as soon as the database answers again: what was spent is never given up."""
        self.dirty.add((entry.project_id, entry.day))
        try:
            return await self.submit(step)
        except LedgerUnavailable as error:
            log.error("a record waits for the database", request_id=entry.request_id, reason=str(error))
            self.owed.append((entry, step))
            return None

    async def write_owed(self) -> None:
        owed, self.owed = self.owed, []
        for entry, step in owed:
            await self.keep(entry, step)

    async def resolve_orphans(self, *, everything: bool) -> int:
        silent_since = None if everything else sql_time(datetime.now(UTC) - timedelta(seconds=SILENCE_S))
        orphans = await self.submit(lambda session: steps.find_orphans(session, silent_since, self.process_id))
        resolved = await asyncio.gather(
            *(self.submit(partial(steps.resolve, draft=draft, amount=amount)) for draft, amount in orphans), return_exceptions=True
        )
        for outcome in resolved:
            match outcome:
                case Entry():
                    log.warning(
                        "reservation of a dead process posted as an estimate", request_id=outcome.request_id, cost_nano=outcome.cost_nano
                    )
                case BaseException():
                    # One that cannot be resolved must not keep the others, or the start, from going on.
                    log.error("reservation of a dead process could not be resolved", exc_info=outcome)
                case None:
                    pass
        return sum(isinstance(outcome, Entry) for outcome in resolved)

    async def beat(self) -> None:
        await self.submit(lambda session: steps.beat(session, self.process_id, sql_time(datetime.now(UTC))))

    async def live(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                await self.beat()
                await self.write_owed()
                await self.resolve_orphans(everything=False)
            except LedgerUnavailable as error:
                log.warning("ledger unavailable", error=str(error))

    def submit(self, step: Callable[[Session], Awaitable[T]]) -> asyncio.Future[T]:
        """The outcome of a step that will be committed together with those that wait with it."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.waiting.append((step, future))
        if self.flushing is None:
            self.flushing = asyncio.create_task(self.flush())
        return future

    async def flush(self) -> None:
        while self.waiting:
            size = len(self.waiting) if self.alone else 1
            batch, self.waiting = self.waiting[:size], self.waiting[size:]
            if not await self.commit(batch) and len(batch) > 1:
                for single in batch:
                    await self.commit([single])
        self.flushing = None

    async def commit(self, batch: list[tuple[Step, asyncio.Future[Any]]]) -> bool:
        """One transaction. If it fails, none of the batch is done: a batch of one then fails for its caller."""
        dirty, self.dirty = self.dirty, set()
        try:
            await self.connection.begin()
            results = [await outcome(step, self.connection) for step, _ in batch]
            if dirty:
                await steps.mark_days(self.connection, dirty)
            await self.connection.commit()
        except Exception as error:
            self.dirty |= dirty
            await self.connection.rollback()
            if len(batch) == 1:
                deliver(batch[0][1], LedgerUnavailable(str(error)) if isinstance(error, DatabaseErrors) else error)
            return False
        for (_, future), result in zip(batch, results, strict=True):
            deliver(future, result)
        return True


async def outcome(step: Step, session: Session) -> Any:
    """A refusal is a result like any other: it has written nothing, and its neighbours in the batch go on."""
    try:
        return await step(session)
    except Refused as refusal:
        return refusal


def deliver(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)
