"""Saves records and estimates of this process in PostgreSQL while Redis is down."""

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
"""Time after a row's first write in which a missing dedup marker shows that no other process sent it.

It is shorter than the lifetime of dedup markers in Redis (`writer.DEDUP_TTL_S`).
"""


log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Row:
    """A row that the table of unsent records has or may have: a record, or an estimate of a request.

    `since` is the time when the row was first written, on the monotonic clock. `epoch` is the epoch that was
    known at this time; empty if none was known.
    """

    is_record: bool
    epoch: str
    since: float


class Spillover:
    """Writes and deletes the rows of this process in the table of unsent records.

    A row is a record, or an estimate of a request that is still in flight. Any other process may send a
    record to Redis. It may send an estimate too, if this process counts as dead. Therefore, as soon as a row
    may have been written, this process can no longer assume that Redis does not know the request.
    """

    def __init__(
        self,
        record_store: RecordStore,
        process_state: PendingState,
        process_id: str,
        epoch_of: Callable[[int], str],
    ) -> None:
        """`epoch_of` returns the epoch of a project; empty if it is not known."""
        self.record_store = record_store
        self.process_state = process_state
        self.process_id = process_id
        self.epoch_of = epoch_of
        self.pending: dict[UUID, UnsentRow] = {}
        """Rows to write."""
        self.rows: dict[UUID, Row] = {}
        """Rows that were written or may have been written."""
        self.finished: set[UUID] = set()
        """Rows to delete, because Redis or the table of usage records has their record."""
        self.lock = asyncio.Lock()
        self.write_task: asyncio.Task[None] | None = None

    async def save_record(self, record: PendingRecord) -> None:
        """Write a record with the next batch. If `must_be_written` is set, wait until the batch is written.

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
        """Return the epoch in which a missing dedup marker shows that Redis has no record of a request.

        This is for a record that this process has not sent. `epoch` is the epoch of its reservation. An empty
        result means that a missing marker shows this in every epoch. None means that it shows nothing,
        because the marker of another process may have expired, or may have been lost together with an unknown
        epoch. SQL and the record stream must then be searched.
        """
        row = self.rows.get(id)
        if row is None:
            return epoch
        is_trusted = row.epoch and time.monotonic() - row.since < TRUSTED_S
        return epoch or row.epoch if is_trusted else None

    def note_row(self, id: UUID, *, is_record: bool, epoch: str = "") -> None:
        """Note that the table has a row or may have it."""
        row = self.rows.get(id)
        self.rows[id] = (
            Row(is_record, epoch, time.monotonic())
            if row is None
            else replace(row, is_record=is_record or row.is_record)
        )

    async def save_estimate(self, reservation: OpenReservation) -> None:
        """Write the estimate of a request that was admitted without Redis.

        If a budget applies, wait until it is written.
        """
        self.pending[reservation.request.id] = self.estimate_row(reservation)
        if reservation.request.budgets:
            await self.wait_until_written(reservation.request.id)

    async def wait_until_written(self, id: UUID) -> None:
        """Wait until a row is written or PostgreSQL has failed."""
        while id in self.pending:
            write_task = self.start_writing()
            # `asyncio.wait` does not cancel the task, so a cancelled request does not stop the batch.
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
        """Schedule rows for all reservations and records that only Redis and this process have.

        Redis may have lost them when it is up again.
        """
        for id, reservation in self.process_state.reservations.items():
            if id not in self.rows and id not in self.pending:
                self.pending[id] = self.estimate_row(reservation)
        for id, record in self.process_state.records.items():
            if not self.has_record(id) and id not in self.pending:
                self.pending[id] = UnsentRow(record.entry, record.process_id)

    def finish(self, ids: Iterable[UUID]) -> None:
        """Schedule rows for deletion, because Redis or the table of usage records has their records."""
        for id in ids:
            self.pending.pop(id, None)
            if id in self.rows:
                self.finished.add(id)

    def start_writing(self) -> asyncio.Task[None]:
        """Return the task that writes a batch. Rows that are added while it runs belong to the next batch."""
        if self.write_task is None or self.write_task.done():
            self.write_task = asyncio.create_task(self.write())
            self.write_task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self.write_task

    async def flush(self) -> None:
        """Write one batch and delete one batch. Raises one of DatabaseErrors."""
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
                # If the request has ended meanwhile, its record has replaced the estimate and must stay.
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
        """Save all records that Redis has not accepted, so that another process can send them."""
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
