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

from billing.ledger.failpoints import failpoint
from billing.ledger.interface import (
    DATABASE,
    AdmissionDenied,
    LedgerUnavailable,
    RateLimit,
    RateLimitStatus,
    ReservationGrant,
    ReserveRequest,
)
from billing.ledger.rate_limiter import RateLimiter
from billing.ledger.sql import transactions
from billing.ledger.sql.connection import DatabaseErrors, LedgerConnection
from billing.ledger.sql.transactions import Executor
from billing.ledger.usage_entry import UsageEntry

TICK_S = 5

T = TypeVar("T")
Transaction = Callable[[Executor], Awaitable[Any]]
log = structlog.get_logger()


class SqlLedger:
    """For one process alone, in one event loop: whatever reservations are there at the start are orphans.

    Money is in the database. The limits of the last minute are in memory: they are forgiven when the process ends.
    """

    def __init__(self, connection: LedgerConnection) -> None:
        self.connection = connection
        self.rate_limiter = RateLimiter()
        self.pending: list[tuple[Transaction, asyncio.Future[Any]]] = []
        self.stale_days: set[tuple[int, date]] = set()
        self.retry_queue: list[Transaction] = []
        self.flush_task: asyncio.Task[None] | None = None
        self.background_task: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Resolves what the process before left; returns how many reservations that were."""
        settled = await self.settle_orphans()
        self.background_task = asyncio.create_task(self.run_background())
        return settled

    async def stop(self) -> None:
        if self.background_task is not None:
            self.background_task.cancel()
        with suppress(Exception):
            await self.flush_retries()
        while self.flush_task is not None:
            await self.flush_task
        if self.retry_queue:
            log.error(
                "steps are lost: what they held is resolved as an estimate at the next start",
                count=len(self.retry_queue),
            )
        await self.connection.close()

    def now(self) -> float:
        return time.time()

    def degraded(self) -> tuple[str, ...]:
        """Nothing: without its database this ledger admits nothing."""
        return ()

    async def reserve(self, request: ReserveRequest) -> ReservationGrant:
        failpoint("reserve.before")
        rate_limit_status = self.rate_limiter.acquire(request)
        future = self.submit(lambda session: transactions.reserve(session, request))
        try:
            reservation = await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(asyncio.Future.exception)
            self.cancel(request)
            raise
        except Exception as error:
            self.rate_limiter.cancel(request.id)
            if isinstance(error, AdmissionDenied):
                error.rate_limit_status = self.rate_limiter.status(request.rate_limits)
            elif isinstance(error, LedgerUnavailable):
                self.cancel_unconfirmed(request)
            raise
        failpoint("reserve.after")
        return replace(reservation, rate_limit_status=rate_limit_status)

    def cancel(self, request: ReserveRequest) -> None:
        """Whoever asked was cancelled: nobody else would release what it may hold. Steps are taken in order."""
        self.rate_limiter.release(request.id, 0)
        self.stale_days.add((request.project_id, request.estimate.day))
        self.submit_with_retry(partial(transactions.settle, entry=request.cancelled_record()))

    def cancel_unconfirmed(self, request: ReserveRequest) -> None:
        """The database went away during a reservation: whether it was committed is not known."""
        self.retry_queue.append(partial(transactions.release, id=request.id, cost_nano=0))

    async def rate_limit_status(self, project_id: int, rate_limits: tuple[RateLimit, ...]) -> RateLimitStatus:
        return self.rate_limiter.status(rate_limits)

    async def settle(self, reservation: ReservationGrant, entry: UsageEntry) -> None:
        self.rate_limiter.release(reservation.id, entry.tokens.prompt + entry.tokens.output)
        entry.reserved_nano = reservation.amount
        failpoint("settle.before")
        await self.write_record(partial(transactions.settle, entry=entry), entry)
        failpoint("settle.after")

    async def release(self, reservation: ReservationGrant, entry: UsageEntry) -> None:
        entry.cost_nano = 0
        await self.settle(reservation, entry)

    async def record(self, entry: UsageEntry) -> None:
        await self.write_record(partial(transactions.insert_record, entry=entry), entry)

    async def write_record(self, transaction: Transaction, entry: UsageEntry) -> None:
        """Writes a record, now or as soon as the database answers again: what was spent is never given up."""
        self.stale_days.add((entry.project_id, entry.day))
        try:
            await asyncio.shield(self.submit_with_retry(transaction))
        except Exception as error:
            log.error("a record waits for the database", request_id=entry.request_id, reason=str(error))

    def submit_with_retry(self, transaction: Transaction) -> asyncio.Future[Any]:
        """Whoever waits for it may be cancelled: a step that fails is tried again all the same."""

        def enqueue_retry(done: asyncio.Future[Any]) -> None:
            if done.exception() is not None:
                self.retry_queue.append(transaction)

        future = self.submit(transaction)
        future.add_done_callback(enqueue_retry)
        return future

    async def flush_retries(self) -> None:
        """As they came. One that fails is owed again: it may be one that fails always, which keeps none of the others back."""
        retries, self.retry_queue = self.retry_queue, []
        if futures := list(map(self.submit_with_retry, retries)):
            await asyncio.wait(futures)
        for future in futures:
            future.result()

    async def settle_orphans(self) -> int:
        orphans = await self.submit(transactions.list_open_reservations)
        futures = (
            self.submit(partial(transactions.settle_orphan, estimate=draft, amount=amount))
            for draft, amount in orphans
        )
        results = await asyncio.gather(*futures, return_exceptions=True)
        for result in results:
            if isinstance(result, UsageEntry):
                log.warning(
                    "reservation of a dead process posted as an estimate",
                    request_id=result.request_id,
                    cost_nano=result.cost_nano,
                )
            else:
                # One that cannot be resolved must not keep the others, or the start, from going on.
                log.error("reservation of a dead process could not be resolved", exc_info=result)
        return sum(isinstance(outcome, UsageEntry) for outcome in results)

    async def run_background(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.rate_limiter.drop_idle()
            try:
                await self.flush_retries()
            except Exception as error:
                log.warning("ledger unavailable", owed=len(self.retry_queue), error=str(error))

    def submit(self, transaction: Callable[[Executor], Awaitable[T]]) -> asyncio.Future[T]:
        """The outcome of a step that will be committed together with those that wait with it."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.pending.append((transaction, future))
        if self.flush_task is None:
            self.flush_task = asyncio.create_task(self.flush())
        return future

    async def flush(self) -> None:
        while self.pending:
            batch, self.pending = self.pending, []
            if not await self.commit(batch):
                for single in batch:
                    await self.commit([single])
        self.flush_task = None

    async def commit(self, batch: list[tuple[Transaction, asyncio.Future[Any]]]) -> bool:
        """One transaction; returns whether every step of the batch has its outcome. Where not, none of them is done."""
        try:
            await self.connection.begin()
        except Exception as error:
            # Nobody of them would fare better alone, and each would wait as long.
            await self.roll_back()
            for _, future in batch:
                resolve_future(future, as_ledger_error(error))
            return True
        stale_days, self.stale_days = self.stale_days, set()
        try:
            results = [await result_or_denial(step, self.connection) for step, _ in batch]
            if stale_days:
                await transactions.mark_days_stale(self.connection, stale_days)
            failpoint("commit.before")
            await self.connection.commit()
            failpoint("commit.after")
        except Exception as error:
            self.stale_days |= stale_days
            await self.roll_back()
            if len(batch) == 1:
                resolve_future(batch[0][1], as_ledger_error(error))
            return len(batch) == 1
        for (_, future), result in zip(batch, results, strict=True):
            resolve_future(future, result)
        return True

    async def roll_back(self) -> None:
        """Whoever waits for a step must hear of it, also where not even this works."""
        try:
            await self.connection.rollback()
        except DatabaseErrors as error:
            log.error("a transaction could not be rolled back", error=str(error))


async def result_or_denial(transaction: Transaction, executor: Executor) -> Any:
    """A refusal is a result like any other: it has written nothing, and its neighbours in the batch go on."""
    try:
        return await transaction(executor)
    except AdmissionDenied as refusal:
        return refusal


def as_ledger_error(error: Exception) -> Exception:
    if not isinstance(error, DatabaseErrors):
        return error
    ledger_error = LedgerUnavailable(str(error), component=DATABASE)
    ledger_error.__cause__ = error
    return ledger_error


def resolve_future(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)
