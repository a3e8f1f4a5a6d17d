"""The ledger on SQL, for a single process. Concurrent transactions are committed together."""

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
    MAX_RESERVATION_NANO,
    AdmissionDenied,
    BudgetLimit,
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
    """The ledger of the only gateway process that uses a database.

    Reservations and windows are in the database. Reservations that exist when the process starts belong to a
    dead process. Rate limits are in memory, and are reset when the process starts.
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
        """Settle the open reservations of the previous process. Return their number."""
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
                "ledger_transactions_lost",
                message="Settlements could not be written before the process stopped. "
                "When it starts again, it settles their reservations by estimates.",
                count=len(self.retry_queue),
            )
        await self.connection.close()

    def now(self) -> float:
        return time.time()

    def unsent_records(self) -> int:
        return len(self.retry_queue)

    def degraded(self) -> tuple[str, ...]:
        """Return an empty tuple, because this ledger does not work without its database."""
        return ()

    async def reserve(self, request: ReserveRequest) -> ReservationGrant:
        failpoint("reserve.before")
        rate_limit_status = self.rate_limiter.acquire(request)
        future = self.submit(lambda executor: transactions.reserve(executor, request))
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

    async def extend(
        self, reservation: ReservationGrant, amount: int, budgets: tuple[BudgetLimit, ...]
    ) -> ReservationGrant | None:
        if reservation.amount + amount > MAX_RESERVATION_NANO:
            return None
        failpoint("extend.before")
        transaction = partial(transactions.extend, id=reservation.id, amount_nano=amount, budgets=budgets)
        try:
            is_extended = await asyncio.shield(self.submit(transaction))
        except LedgerUnavailable:
            # The extension may have been committed nevertheless. The settlement releases the stored amount.
            return None
        failpoint("extend.after")
        return replace(reservation, amount=reservation.amount + amount) if is_extended else None

    def cancel(self, request: ReserveRequest) -> None:
        """Settle a reservation whose caller was cancelled and therefore cannot release it.

        Transactions run in order, so the settlement runs after the reservation.
        """
        self.rate_limiter.release(request.id, 0)
        self.stale_days.add((request.project_id, request.estimate.day))
        self.submit_with_retry(partial(transactions.settle, entry=request.cancelled_record()))

    def cancel_unconfirmed(self, request: ReserveRequest) -> None:
        """Release a reservation that may have been committed before the database failed."""
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

    async def defer(self, reservation: ReservationGrant) -> None:
        self.rate_limiter.release(reservation.id, None)
        failpoint("defer.before")
        release = partial(transactions.release, id=reservation.id, cost_nano=0)
        with suppress(LedgerUnavailable):
            await asyncio.shield(self.submit_with_retry(release))

    async def acquire_lease(self) -> bool:
        """Return True, because there is only one process."""
        return True

    async def record(self, entry: UsageEntry) -> None:
        await self.write_record(partial(transactions.insert_record, entry=entry), entry)

    async def write_record(self, transaction: Transaction, entry: UsageEntry) -> None:
        """Write a record. If the database fails, the record is written when the database answers again."""
        self.stale_days.add((entry.project_id, entry.day))
        try:
            await asyncio.shield(self.submit_with_retry(transaction))
        except Exception as error:
            log.error(
                "record_write_delayed",
                message="A record could not be written. It waits in memory and is tried again.",
                request_id=entry.request_id,
                reason=str(error),
            )

    def submit_with_retry(self, transaction: Transaction) -> asyncio.Future[Any]:
        """Submit a transaction. If it fails, it is retried later, even if the caller was cancelled."""

        def enqueue_retry(done: asyncio.Future[Any]) -> None:
            if done.exception() is not None:
                self.retry_queue.append(transaction)

        future = self.submit(transaction)
        future.add_done_callback(enqueue_retry)
        return future

    async def flush_retries(self) -> None:
        """Run failed transactions again, in order. Raises the first error.

        A transaction that fails again is appended to the queue, so that it does not block the others.
        """
        retries, self.retry_queue = self.retry_queue, []
        if futures := list(map(self.submit_with_retry, retries)):
            await asyncio.wait(futures)
        for future in futures:
            future.result()

    async def settle_orphans(self) -> int:
        orphans = await self.submit(transactions.list_open_reservations)
        futures = (
            self.submit(partial(transactions.settle_orphan, estimate=estimate, amount=amount))
            for estimate, amount in orphans
        )
        results = await asyncio.gather(*futures, return_exceptions=True)
        for result in results:
            if isinstance(result, UsageEntry):
                log.warning(
                    "orphan_settled",
                    message="A reservation of a dead process was settled by an estimate: its whole amount.",
                    request_id=result.request_id,
                    cost_nano=result.cost_nano,
                )
            else:
                # A reservation that cannot be settled must not block the others, or the start.
                log.error(
                    "orphan_settlement_failed",
                    message="A reservation of a dead process cannot be settled. The next start tries again.",
                    exc_info=result,
                )
        return sum(isinstance(result, UsageEntry) for result in results)

    async def run_background(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.rate_limiter.drop_idle()
            try:
                await self.flush_retries()
            except Exception as error:
                log.warning(
                    "ledger_unavailable",
                    message="The ledger's database does not answer. Settlements wait in memory.",
                    pending=len(self.retry_queue),
                    error=str(error),
                )

    def submit(self, transaction: Callable[[Executor], Awaitable[T]]) -> asyncio.Future[T]:
        """Return the future result of a transaction. It is committed together with all waiting ones."""
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
        """Run a batch in one database transaction. Return whether all futures of the batch are resolved.

        If the result is False, the batch was rolled back, and the caller must run each transaction alone.
        """
        try:
            await self.connection.begin()
        except Exception as error:
            # The connection itself failed. If the transactions ran one by one, each of them would time out.
            await self.roll_back()
            for _, future in batch:
                resolve_future(future, as_ledger_error(error))
            return True
        stale_days, self.stale_days = self.stale_days, set()
        try:
            results = [await result_or_denial(transaction, self.connection) for transaction, _ in batch]
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
        """Roll back. A failure is logged and not raised, because callers still wait for their results."""
        try:
            await self.connection.rollback()
        except DatabaseErrors as error:
            log.error(
                "ledger_rollback_failed",
                message="A transaction could not be rolled back. If this repeats, restart the process.",
                error=str(error),
            )


async def result_or_denial(transaction: Transaction, executor: Executor) -> Any:
    """Run a transaction. Return a denial like any other result, so that the batch is still committed."""
    try:
        return await transaction(executor)
    except AdmissionDenied as denial:
        return denial


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
