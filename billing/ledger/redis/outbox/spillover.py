"""Writes what only this process knows to PostgreSQL while Redis is away, so that nothing is lost with the process."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from uuid import UUID

from msgspec import structs

from billing.ledger.redis.outbox.pending import OpenReservation, PendingRecord, PendingState
from billing.ledger.redis.record_store import RecordStore, Waiting

BATCH = 500
TRUSTED_S = 240
"""For this long after a row was first written, Redis knows if any process has brought it there: its mark lasts longer (MARK_S)."""


@dataclass(frozen=True, slots=True)
class Row:
    """What the table has, or may have, of a request: its record, or an estimate. `epoch`: the life of Redis that was known when it was
    first written, empty if none was; `since`: when that was.
    """

    is_record: bool
    epoch: str
    since: float


class Spillover:
    """The rows of this process in the table of records that wait for Redis.

    A row is a record, or the estimate for a request that is still under way. Any process may bring a record to Redis, and if its process
    has died, an estimate. So from the first attempt to write a row on, nothing of that request may be taken for unknown to Redis.
    """

    def __init__(
        self, books: RecordStore, memory: PendingState, process: str, epoch_of: Callable[[int], str]
    ) -> None:
        self.books = books
        self.memory = memory
        self.process = process
        self.epoch_of = epoch_of
        self.pending: dict[UUID, Waiting] = {}
        """What is to be written."""
        self.rows: dict[UUID, Row] = {}
        self.finished: set[UUID] = set()
        """Rows to be deleted: Redis or the table of records has what they say."""
        self.lock = asyncio.Lock()
        self.writing: asyncio.Task[None] | None = None

    async def keep(self, posting: PendingRecord) -> None:
        """Write a record with the next batch. Wait until PostgreSQL has it, or has failed, if the request must not end before that."""
        id = posting.entry.id
        if not self.has_record(id):
            self.pending[id] = Waiting(posting.entry, posting.owner)
        if posting.must_be_written:
            await self.written(id)

    def has_record(self, id: UUID) -> bool:
        return (row := self.rows.get(id)) is not None and row.is_record

    def only_known_in(self, id: UUID, epoch: str) -> str | None:
        """Return the epoch in which a record that this process has not sent yet cannot be known to Redis without a mark; empty if in any.
        None if it can: then the table of records and the record stream must be asked.
        """
        row = self.rows.get(id)
        if row is None:
            return epoch
        is_trusted = row.epoch and time.monotonic() - row.since < TRUSTED_S
        return epoch or row.epoch if is_trusted else None

    def note(self, id: UUID, *, is_record: bool, epoch: str = "") -> None:
        """Note that the table has a row, or may have it."""
        row = self.rows.get(id)
        self.rows[id] = (
            Row(is_record, epoch, time.monotonic())
            if row is None
            else replace(row, is_record=is_record or row.is_record)
        )

    async def keep_hold(self, hold: OpenReservation) -> None:
        """Write the estimate for a request that was admitted without Redis. Wait for it if a budget applies."""
        self.pending[hold.request.id] = self.estimate(hold)
        if hold.request.budgets:
            await self.written(hold.request.id)

    async def written(self, id: UUID) -> None:
        """Wait until a row is written, or PostgreSQL has failed."""
        while id in self.pending:
            writing = self.begin_to_write()
            # The batch is written to its end, also if this request is cancelled.
            await asyncio.wait({writing})
            if writing.exception() is not None:
                return

    def estimate(self, hold: OpenReservation) -> Waiting:
        draft = structs.replace(
            hold.request.estimate, cost_nano=hold.amount, reserved_nano=hold.amount, estimated=True
        )
        return Waiting(draft, self.process)

    def remember_all(self) -> None:
        """Add what only Redis and this process know: Redis may come back without it."""
        for id, hold in self.memory.reservations.items():
            if id not in self.rows and id not in self.pending:
                self.pending[id] = self.estimate(hold)
        for id, posting in self.memory.records.items():
            if not self.has_record(id) and id not in self.pending:
                self.pending[id] = Waiting(posting.entry, posting.owner)

    def finish(self, ids: Iterable[UUID]) -> None:
        """Delete the rows of records that Redis or the table of records has."""
        for id in ids:
            self.pending.pop(id, None)
            if id in self.rows:
                self.finished.add(id)

    def begin_to_write(self) -> asyncio.Task[None]:
        """Return the task that writes a batch: what is added meanwhile belongs to the next one."""
        if self.writing is None or self.writing.done():
            self.writing = asyncio.create_task(self.write())
            self.writing.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self.writing

    async def flush(self) -> None:
        """Write a batch and delete one; raise one of DatabaseErrors if PostgreSQL does not answer."""
        if self.pending:
            await asyncio.shield(self.begin_to_write())
        if self.finished:
            await self.delete()

    async def write(self) -> None:
        async with self.lock:
            batch = dict(islice(self.pending.items(), BATCH))
            if not batch:
                return
            for id, waiting in batch.items():
                self.note(id, is_record=not waiting.owner, epoch=self.epoch_of(waiting.entry.project_id))
            await self.books.save_unsent(batch.values())
            for id, waiting in batch.items():
                # The request may have ended meanwhile: then its record is pending.
                if self.pending.get(id) is waiting:
                    del self.pending[id]

    async def delete(self) -> None:
        async with self.lock:
            ids = set(islice(self.finished, BATCH))
            await self.books.delete_unsent(ids)
            self.finished -= ids
            for id in ids:
                self.rows.pop(id, None)

    async def close(self) -> None:
        """Wait for what is being written."""
        if self.writing is not None:
            await asyncio.wait({self.writing})
