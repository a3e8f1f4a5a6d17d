"""Saves in PostgreSQL what only this process knows while Redis is down."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from uuid import UUID

import structlog
from msgspec import structs

from billing.ledger.redis.outbox.pending_state import OpenReservation, PendingRecord, PendingState
from billing.ledger.redis.record_store import RecordStore, UnsentRow
from billing.ledger.sql.connection import DatabaseErrors

BATCH_SIZE = 500
TRUSTED_S = 240
"""How long after a row was first written Redis can tell whether another process has sent it.

The marker that Redis keeps of a sent record lasts longer (`writer.DEDUP_TTL_S`).
"""


log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Row:
    """A row that the table of unsent records has, or may have: a record or an estimate of a request.

    `epoch` is the epoch of Redis that was known when the row was first written, empty if none was. `since` is
    when that was, by the monotonic clock.
    """

    is_record: bool
    epoch: str
    since: float


class Spillover:
    """The rows of this process in the table of unsent records.

    A row is a record, or an estimate of a request that is still in flight. Any process may send a record to
    Redis, and an estimate if its process has died. So as soon as a row may have been written, this process
    can no longer assume that Redis does not know the request.
    """

    def __init__(
        self,
        record_store: RecordStore,
        process_state: PendingState,
        process_id: str,
        epoch_of: Callable[[int], str],
    ) -> None:
        """`epoch_of` returns the known epoch of a project, empty if none is known."""
        self.record_store = record_store
        self.process_state = process_state
        self.process_id = process_id
        self.epoch_of = epoch_of
        self.pending: dict[UUID, UnsentRow] = {}
        """Rows to write."""
        self.rows: dict[UUID, Row] = {}
        """Rows that were written, or may have been."""
        self.finished: set[UUID] = set()
        """Rows to delete: Redis or the table of records has what they say."""
        self.lock = asyncio.Lock()
        self.write_task: asyncio.Task[None] | None = None

    async def save_record(self, record: PendingRecord) -> None:
        """Write a record with the next batch; if its request must not end before, wait for the batch.

        The wait also ends if PostgreSQL fails.
        """
        id = record.entry.id
        if not self.has_record(id):
            self.pending[id] = UnsentRow(record.entry, record.process_id)
        if record.must_be_written:
            await self.wait_until_written(id)

    def has_record(self, id: UUID) -> bool:
        return (row := self.rows.get(id)) is not None and row.is_record

    def epoch_without_marker(self, id: UUID, epoch: str) -> str | None:
        """Return the epoch in which Redis has no record of a request unless it has a marker of it.

        This is for a record that this process has not sent. Empty means in every epoch: no other process can
        have sent it either. None means that the marker may have expired, or was lost with an epoch that is
        not known; then SQL and the record stream must be searched.
        """
        row = self.rows.get(id)
        if row is None:
            return epoch
        is_trusted = row.epoch and time.monotonic() - row.since < TRUSTED_S
        return epoch or row.epoch if is_trusted else None

    def note_row(self, id: UUID, *, is_record: bool, epoch: str = "") -> None:
        """Note that the table has a row, or may have it."""
        row = self.rows.get(id)
        self.rows[id] = (
            Row(is_record, epoch, time.monotonic())
            if row is None
            else replace(row, is_record=is_record or row.is_record)
        )

    async def save_estimate(self, reservation: OpenReservation) -> None:
        """Write the estimate of a request that was admitted without Redis.

        Waits for it if a budget applies.
        """
        self.pending[reservation.request.id] = self.estimate_row(reservation)
        if reservation.request.budgets:
            await self.wait_until_written(reservation.request.id)

    async def wait_until_written(self, id: UUID) -> None:
        """Wait until a row is written, or PostgreSQL has failed."""
        while id in self.pending:
            write_task = self.start_writing()
            # If this request is cancelled, the batch is still written to its end.
            await asyncio.wait({write_task})
            if write_task.exception() is not None:
                return

    def estimate_row(self, reservation: OpenReservation) -> UnsentRow:
        estimate = structs.replace(
            reservation.request.estimate,
            cost_nano=reservation.amount,
            reserved_nano=reservation.amount,
            estimated=True,
        )
        return UnsentRow(estimate, self.process_id)

    def add_process_state(self) -> None:
        """Write all that only Redis and this process know: Redis may come back without it."""
        for id, reservation in self.process_state.reservations.items():
            if id not in self.rows and id not in self.pending:
                self.pending[id] = self.estimate_row(reservation)
        for id, record in self.process_state.records.items():
            if not self.has_record(id) and id not in self.pending:
                self.pending[id] = UnsentRow(record.entry, record.process_id)

    def finish(self, ids: Iterable[UUID]) -> None:
        """Delete the rows of records that Redis or the table of records has."""
        for id in ids:
            self.pending.pop(id, None)
            if id in self.rows:
                self.finished.add(id)

    def start_writing(self) -> asyncio.Task[None]:
        """Return the task that writes a batch. What is added meanwhile belongs to the next batch."""
        if self.write_task is None or self.write_task.done():
            self.write_task = asyncio.create_task(self.write())
            self.write_task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self.write_task

    async def flush(self) -> None:
        """Write a batch and delete one; raise one of DatabaseErrors if PostgreSQL does not answer."""
        if self.pending:
            await asyncio.shield(self.start_writing())
        if self.finished:
            await self.delete()

    async def write(self) -> None:
        async with self.lock:
            batch = dict(islice(self.pending.items(), BATCH_SIZE))
            if not batch:
                return
            for id, row in batch.items():
                self.note_row(id, is_record=not row.process_id, epoch=self.epoch_of(row.entry.project_id))
            await self.record_store.save_unsent(batch.values())
            for id, row in batch.items():
                # The request may have ended meanwhile: then its record has replaced the estimate here.
                if self.pending.get(id) is row:
                    del self.pending[id]

    async def delete(self) -> None:
        async with self.lock:
            ids = set(islice(self.finished, BATCH_SIZE))
            await self.record_store.delete_unsent(ids)
            self.finished -= ids
            for id in ids:
                self.rows.pop(id, None)

    async def save_at_exit(self, timeout_s: float) -> None:
        """Save the records that Redis has not accepted, so that another process can send them."""
        if self.write_task is not None:
            await asyncio.wait({self.write_task})
        records = self.process_state.unsent_records()
        if not records:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self.record_store.save_unsent(
                    UnsentRow(record.entry, record.process_id) for record in records
                )
        except DatabaseErrors as error:
            log.error(
                "records_lost",
                message="Records could be written neither to Redis nor to the database. "
                "They are only in this line of the log.",
                error=str(error) or type(error).__name__,
                entries=[record.entry for record in records],
            )
