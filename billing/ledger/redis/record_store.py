"""The SQL queries of the Redis ledger: sums for new windows, drained records, unsent records."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

import msgspec
import structlog
from django.db import connection as django_connection

from billing.ledger.failpoints import failpoint
from billing.ledger.sql import transactions
from billing.ledger.sql.connection import DatabaseErrors, LedgerConnection
from billing.ledger.sql.transactions import SUM_COSTS_SQL, TOKEN_COLUMNS
from billing.ledger.usage_entry import COLUMNS, UsageEntry, decode_entry, encode_entry
from billing.models import UsageRecord
from billing.pricing import Tokens

log = structlog.get_logger()

START_ID = "0-0"

SUM_SPENT_SQL = (
    f"SELECT ({SUM_COSTS_SQL}), "
    "(SELECT last_id_ms FROM billing_streamcursor WHERE project_id = %s), "
    "(SELECT last_id_seq FROM billing_streamcursor WHERE project_id = %s)"
)
LIST_REGISTERED_SQL = "SELECT project_id FROM billing_streamcursor WHERE is_registered"
REGISTER_PROJECT_SQL = (
    "INSERT INTO billing_streamcursor (project_id, is_registered, last_id_ms, last_id_seq) "
    "VALUES (%s, true, 0, 0) ON CONFLICT (project_id) DO UPDATE SET is_registered = true "
    "WHERE NOT billing_streamcursor.is_registered RETURNING project_id"
)
CURSOR_SQL = "SELECT last_id_ms, last_id_seq FROM billing_streamcursor WHERE project_id = %s"
ADVANCE_CURSOR_SQL = (
    "INSERT INTO billing_streamcursor (project_id, is_registered, last_id_ms, last_id_seq) "
    "VALUES (%s, false, %s, %s) ON CONFLICT (project_id) "
    "DO UPDATE SET last_id_ms = excluded.last_id_ms, last_id_seq = excluded.last_id_seq "
    "WHERE (excluded.last_id_ms, excluded.last_id_seq) "
    "> (billing_streamcursor.last_id_ms, billing_streamcursor.last_id_seq)"
)
INSERT_UNSENT_SQL = (
    "INSERT INTO billing_unsentrecord (id, entry, owner) "
    "SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[]) ON CONFLICT (id) "
    "DO UPDATE SET entry = excluded.entry, owner = excluded.owner WHERE excluded.owner = ''"
)
"""A record replaces an existing row of its request. An estimate does not."""
LIST_UNSENT_SQL = "SELECT id, entry, owner FROM billing_unsentrecord WHERE id > %s ORDER BY id LIMIT %s"
DELETE_UNSENT_SQL = (
    "DELETE FROM billing_unsentrecord WHERE id IN "
    "(SELECT id FROM billing_unsentrecord WHERE id = ANY(%s) ORDER BY id FOR UPDATE)"
)
"""Rows are locked in the order of their ids, so that processes that delete the same rows do not deadlock."""
FIND_RECORDS_SQL = (
    f"SELECT c.last_id_ms, c.last_id_seq, r.cost_nano, r.estimated, {', '.join(TOKEN_COLUMNS)} "
    "FROM unnest(%s::bigint[], %s::uuid[]) WITH ORDINALITY AS lookup (project_id, id, ordinal) "
    "LEFT JOIN billing_streamcursor c ON c.project_id = lookup.project_id "
    "LEFT JOIN billing_usagerecord r ON r.id = lookup.id ORDER BY ordinal"
)


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """The columns of a record in SQL that decide whether the record must be corrected."""

    cost_nano: int
    estimated: bool
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class UnsentRow:
    """A row of the table of unsent records.

    If `process_id` is set, the row is the estimate of a request that is in flight in that process. Otherwise
    it is a record.
    """

    entry: UsageEntry
    process_id: str = ""


@dataclass(frozen=True, slots=True)
class DrainedBatch:
    """Records of one project's stream. `last_id` is the last stream id that the batch covers."""

    project_id: int
    last_id: str
    entries: list[UsageEntry]


LookupResult = tuple[StoredRecord | None, str]


@dataclass(frozen=True, slots=True)
class Lookup:
    """The look-up of one record. A task waits for its result."""

    project_id: int
    id: UUID
    future: asyncio.Future[LookupResult]

    def resolve(self, result: LookupResult) -> None:
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Raise an error in the waiting task.

        A cancellation would cancel that task, so OSError is raised in place of it.
        """
        if not self.future.done():
            self.future.set_exception(
                error if isinstance(error, Exception) else OSError("the lookup was cancelled")
            )


class RecordStore:
    """Runs SQL on one connection, one transaction at a time. Every method can raise one of DatabaseErrors."""

    def __init__(self, connection: LedgerConnection) -> None:
        self.connection = connection
        self.lock = asyncio.Lock()
        self.lookups: list[Lookup] = []
        self.lookup_task: asyncio.Task[None] | None = None

    async def close(self) -> None:
        await self.connection.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[LedgerConnection]:
        async with self.lock:
            try:
                await self.connection.begin()
                yield self.connection
                await self.connection.commit()
            except DatabaseErrors:
                await self.connection.rollback()
                raise
            except BaseException:
                # A statement may still be running, so the connection cannot be used again.
                await self.connection.close()
                raise

    async def register_project(self, project_id: int) -> tuple[bool, str]:
        """Note in SQL that Redis has data of a project.

        Returns whether this was already noted, and the stream id up to which the project's stream is drained.
        """
        async with self.transaction() as executor:
            is_new = await executor.run(REGISTER_PROJECT_SQL, (project_id,))
            rows = await executor.run(CURSOR_SQL, (project_id,))
        return not is_new, format_stream_id(*rows[0])

    async def registered_projects(self) -> list[int]:
        async with self.transaction() as executor:
            return [project_id for (project_id,) in await executor.run(LIST_REGISTERED_SQL)]

    async def sum_spent(
        self, project_id: int, owner_column: str, owner_id: int, days: tuple[date, date]
    ) -> tuple[int, str]:
        """Return the cost of the records of a project or key in SQL, and the last stream id in this sum.

        `owner_column` is the column that must be equal to `owner_id`.
        """
        first, last = days
        owned_days = owner_id, first.isoformat(), last.isoformat()
        parameters = (*owned_days, *owned_days, project_id, project_id)
        async with self.transaction() as executor:
            ((spent, milliseconds, number),) = await executor.run(
                SUM_SPENT_SQL.format(owner_column=owner_column), parameters
            )
        return int(spent), format_stream_id(milliseconds, number)

    async def find_record(self, project_id: int, id: UUID) -> LookupResult:
        """Return a record if SQL has it, and the stream id up to which the stream was drained at that time.

        Concurrent look-ups share one query, because after an outage there can be thousands.
        """
        lookup = Lookup(project_id, id, asyncio.get_running_loop().create_future())
        self.lookups.append(lookup)
        if len(self.lookups) == 1:
            self.lookup_task = asyncio.create_task(self.run_lookups())
        return await lookup.future

    async def run_lookups(self) -> None:
        await asyncio.sleep(0)
        lookups, self.lookups = self.lookups, []
        parameters = [each.project_id for each in lookups], [each.id.hex for each in lookups]
        try:
            async with self.transaction() as executor:
                rows = await executor.run(FIND_RECORDS_SQL, parameters)
        except BaseException as error:
            for lookup in lookups:
                lookup.fail(error)
            raise
        for lookup, (milliseconds, number, cost, estimated, *tokens) in zip(lookups, rows, strict=True):
            stored = None if cost is None else StoredRecord(cost, estimated, Tokens(*tokens))
            lookup.resolve((stored, format_stream_id(milliseconds, number)))

    async def save_unsent(self, unsent: Iterable[UnsentRow]) -> None:
        """Write rows of the table of unsent records. Each row must have a different id."""
        rows = sorted((row.entry.id.hex, encode_entry(row.entry).decode(), row.process_id) for row in unsent)
        async with self.transaction() as executor:
            await executor.run(INSERT_UNSENT_SQL, [list(column) for column in zip(*rows, strict=True)])

    async def list_unsent(self, after: UUID, count: int) -> list[tuple[UUID, str, str]]:
        """Return up to `count` rows after the id `after`, as (id, entry, process id), ordered by id."""
        async with self.transaction() as executor:
            rows = await executor.run(LIST_UNSENT_SQL, (after, count))
            return [(id, text, process_id) for id, text, process_id in rows]

    async def delete_unsent(self, ids: Iterable[UUID]) -> None:
        """Delete rows of unsent records that Redis or the table of usage records has."""
        async with self.transaction() as executor:
            await executor.run(DELETE_UNSENT_SQL, (sorted(ids),))

    async def insert_batches(self, batches: Sequence[DrainedBatch]) -> None:
        """Insert records of several streams and advance the cursors, in one transaction."""
        entries = [entry for batch in batches for entry in batch.entries]
        async with self.transaction() as executor:
            failpoint("drain.before_insert")
            if entries:
                await executor.run(insert_records_sql(), as_columns(entries))
            await transactions.mark_days_stale(executor, {(entry.project_id, entry.day) for entry in entries})
            for batch in sorted(batches, key=lambda batch: batch.project_id):
                last_id = map(int, batch.last_id.split("-"))
                await executor.run(ADVANCE_CURSOR_SQL, (batch.project_id, *last_id))
            failpoint("drain.before_commit")
        failpoint("drain.after_commit")


def decode_entries(texts: Iterable[str | bytes]) -> Iterator[UsageEntry]:
    """Decode entries. Log entries that cannot be decoded, so that they do not block the others."""
    for text in texts:
        try:
            yield decode_entry(text)
        except (ValueError, msgspec.MsgspecError) as error:
            log.error(
                "record_unreadable",
                message="A record in Redis cannot be read. This log line has its only copy.",
                error=str(error),
                record=text,
            )


def format_stream_id(milliseconds: int | None, number: int | None) -> str:
    return f"{milliseconds or 0}-{number or 0}"


def insert_records_sql() -> str:
    """Return a statement that inserts any number of rows. Its parameters are one array for each column.

    The casts cut texts that are longer than their column.
    """
    types = [UsageRecord._meta.get_field(name).db_type(django_connection) for name in COLUMNS]
    arrays = ", ".join(f"%s::{type}[]" for type in types)
    return (
        f"INSERT INTO billing_usagerecord ({', '.join(COLUMNS)}) SELECT * FROM unnest({arrays}) "
        "ON CONFLICT (id) DO NOTHING"
    )


def as_columns(entries: Iterable[UsageEntry]) -> list[list[Any]]:
    return [list(column) for column in zip(*(entry.as_row() for entry in entries), strict=True)]
