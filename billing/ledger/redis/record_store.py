"""What the ledger on Redis asks of SQL: sums to begin windows from, and the records to keep."""

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
from msgspec.structs import fields

from billing.ledger.failpoints import failpoint
from billing.ledger.sql import transactions
from billing.ledger.sql.connection import DatabaseErrors, LedgerConnection
from billing.ledger.usage_entry import COLUMNS, UsageEntry, decode_entry, encode_entry
from billing.models import UsageRecord
from billing.pricing import Tokens

log = structlog.get_logger()

START_ID = "0-0"

SUM_SPENT_SQL = (
    "SELECT COALESCE((SELECT SUM(cost_nano) FROM billing_usagerecord WHERE {scope} = %s AND day BETWEEN %s AND %s), 0), "
    "(SELECT last_id_ms FROM billing_streamcursor WHERE project_id = %s), (SELECT last_id_seq FROM billing_streamcursor WHERE project_id = %s)"
)
REGISTER_PROJECT_SQL = (
    "INSERT INTO billing_streamcursor (project_id, is_registered, last_id_ms, last_id_seq) VALUES (%s, true, 0, 0) "
    "ON CONFLICT (project_id) DO UPDATE SET is_registered = true WHERE NOT billing_streamcursor.is_registered RETURNING project_id"
)
CURSOR_SQL = "SELECT last_id_ms, last_id_seq FROM billing_streamcursor WHERE project_id = %s"
ADVANCE_CURSOR_SQL = (
    "INSERT INTO billing_streamcursor (project_id, is_registered, last_id_ms, last_id_seq) VALUES (%s, false, %s, %s) "
    "ON CONFLICT (project_id) DO UPDATE SET last_id_ms = excluded.last_id_ms, last_id_seq = excluded.last_id_seq "
    "WHERE (excluded.last_id_ms, excluded.last_id_seq) > (billing_streamcursor.last_id_ms, billing_streamcursor.last_id_seq)"
)
INSERT_UNSENT_SQL = (
    "INSERT INTO billing_unsentrecord (id, entry, owner) SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[]) ON CONFLICT (id) "
    "DO UPDATE SET entry = excluded.entry, owner = excluded.owner WHERE excluded.owner = ''"
)
"""An estimate replaces no record."""
OWED = "SELECT id, entry, owner FROM billing_unsentrecord WHERE id > %s ORDER BY id LIMIT %s"
PAID = "DELETE FROM billing_unsentrecord WHERE id IN (SELECT id FROM billing_unsentrecord WHERE id = ANY(%s) ORDER BY id FOR UPDATE)"
"""Locked in the order of their ids, so that two processes that delete the same rows do not wait for each other."""
TOKEN_COLUMN_LIST = ", ".join(f"{field.name}_tokens" for field in fields(Tokens))
FIND_RECORD_SQL = (
    f"SELECT o.last_id_ms, o.last_id_seq, r.cost_nano, r.estimated, {TOKEN_COLUMN_LIST} "
    "FROM unnest(%s::bigint[], %s::uuid[]) WITH ORDINALITY AS sought (project_id, id, n) "
    "LEFT JOIN billing_streamcursor o ON o.project_id = sought.project_id LEFT JOIN billing_usagerecord r ON r.id = sought.id ORDER BY n"
)


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """What the record of a request says in SQL."""

    cost_nano: int
    estimated: bool
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Waiting:
    """A record that waits in SQL for Redis. With an `owner`, it is the estimate for a request of that process that was under way."""

    entry: UsageEntry
    owner: str = ""


@dataclass(frozen=True, slots=True)
class DrainedBatch:
    """Events of one project's outbox, up to a stream id."""

    project_id: int
    last_id: str
    entries: list[UsageEntry]


Found = tuple[StoredRecord | None, str]


@dataclass(frozen=True, slots=True)
class Sought:
    """A record that a task waits for."""

    project_id: int
    id: UUID
    found: asyncio.Future[Found]

    def deliver(self, found: Found) -> None:
        if not self.found.done():
            self.found.set_result(found)

    def fail(self, error: BaseException) -> None:
        """Not with a cancellation, which would look like one of the task that waits."""
        if not self.found.done():
            self.found.set_exception(
                error if isinstance(error, Exception) else OSError("the look-up was ended")
            )


class RecordStore:
    """One connection, one transaction at a time."""

    def __init__(self, connection: LedgerConnection) -> None:
        self.connection = connection
        self.lock = asyncio.Lock()
        self.sought: list[Sought] = []
        self.finding: asyncio.Task[None] | None = None

    async def close(self) -> None:
        await self.connection.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[LedgerConnection]:
        """Raises one of DatabaseErrors."""
        async with self.lock:
            try:
                await self.connection.begin()
                yield self.connection
                await self.connection.commit()
            except DatabaseErrors:
                await self.connection.rollback()
                raise
            except BaseException:
                # It may be in the middle of a statement.
                await self.connection.close()
                raise

    async def register_project(self, project_id: int) -> tuple[bool, str]:
        """Whether reservations of the project were made in Redis before, and up to where its outbox is drained."""
        async with self.transaction() as executor:
            is_new = await executor.run(REGISTER_PROJECT_SQL, (project_id,))
            rows = await executor.run(CURSOR_SQL, (project_id,))
        return not is_new, format_stream_id(*rows[0])

    async def registered_projects(self) -> list[int]:
        async with self.transaction() as executor:
            return [
                project_id
                for (project_id,) in await executor.run(
                    "SELECT project_id FROM billing_streamcursor WHERE is_registered"
                )
            ]

    async def sum_spent(
        self, project_id: int, owner_column: str, owner_id: int, days: tuple[date, date]
    ) -> tuple[int, str]:
        """The cost of a project's or key's records (`owner_column` is the column), and which events of the outbox are among them."""
        first, last = days
        parameters = (owner_id, first.isoformat(), last.isoformat(), project_id, project_id)
        async with self.transaction() as executor:
            ((spent, milliseconds, number),) = await executor.run(
                SUM_SPENT_SQL.format(scope=owner_column), parameters
            )
        return int(spent), format_stream_id(milliseconds, number)

    async def find_record(self, project_id: int, id: UUID) -> Found:
        """A record, if SQL has it, and up to where the outbox was drained at that moment. Those that are asked for together are read
        together: after an outage there are thousands.
        """
        sought = Sought(project_id, id, asyncio.get_running_loop().create_future())
        self.sought.append(sought)
        if len(self.sought) == 1:
            self.finding = asyncio.create_task(self.find_together())
        return await sought.found

    async def find_together(self) -> None:
        await asyncio.sleep(0)
        wanted, self.sought = self.sought, []
        try:
            async with self.transaction() as session:
                rows = await session.run(
                    FIND_RECORD_SQL, ([each.project_id for each in wanted], [each.id.hex for each in wanted])
                )
        except BaseException as error:
            for each in wanted:
                each.fail(error)
            raise
        for each, (milliseconds, number, cost, estimated, *tokens) in zip(wanted, rows, strict=True):
            each.deliver(
                (
                    None if cost is None else StoredRecord(cost, estimated, Tokens(*tokens)),
                    format_stream_id(milliseconds, number),
                )
            )

    async def save_unsent(self, waiting: Iterable[Waiting]) -> None:
        """Write records that wait for Redis, no two of which have the same id."""
        rows = sorted((each.entry.id.hex, encode_entry(each.entry).decode(), each.owner) for each in waiting)
        async with self.transaction() as executor:
            await executor.run(INSERT_UNSENT_SQL, [list(column) for column in zip(*rows, strict=True)])

    async def list_unsent(self, after: UUID, count: int) -> list[tuple[UUID, str, str]]:
        """Return up to `count` records that wait for Redis, as id, text and owner, in the order of their ids."""
        async with self.transaction() as executor:
            return [(id, text, owner) for id, text, owner in await executor.run(OWED, (after, count))]

    async def delete_unsent(self, ids: Iterable[UUID]) -> None:
        """Delete records that wait for Redis no longer."""
        async with self.transaction() as executor:
            await executor.run(PAID, (sorted(ids),))

    async def insert_batches(self, batches: Sequence[DrainedBatch]) -> None:
        """Keeps the records of several outboxes, and up to where each is drained, in one transaction."""
        entries = [entry for each in batches for entry in each.entries]
        async with self.transaction() as executor:
            failpoint("drain.before_insert")
            if entries:
                await executor.run(insert_records_sql(), as_columns(entries))
            await transactions.mark_days_stale(executor, {(entry.project_id, entry.day) for entry in entries})
            for each in sorted(batches, key=lambda each: each.project_id):
                await executor.run(ADVANCE_CURSOR_SQL, (each.project_id, *map(int, each.last_id.split("-"))))
            failpoint("drain.before_commit")
        failpoint("drain.after_commit")


def decode_entries(texts: Iterable[str | bytes]) -> Iterator[UsageEntry]:
    """A text that is no record must not keep back the others: it goes to the log, whole."""
    for text in texts:
        try:
            yield decode_entry(text)
        except (ValueError, msgspec.MsgspecError) as error:
            log.error("a record cannot be read", error=str(error), record=text)


def format_stream_id(milliseconds: int | None, number: int | None) -> str:
    return f"{milliseconds or 0}-{number or 0}"


def insert_records_sql() -> str:
    """One statement for any number of rows, an array for each column. The casts cut text that is longer than its column."""
    types = [UsageRecord._meta.get_field(name).db_type(django_connection) for name in COLUMNS]
    arrays = ", ".join(f"%s::{type}[]" for type in types)
    return f"INSERT INTO billing_usagerecord ({', '.join(COLUMNS)}) SELECT * FROM unnest({arrays}) ON CONFLICT (id) DO NOTHING"


def as_columns(entries: Iterable[UsageEntry]) -> list[list[Any]]:
    return [list(column) for column in zip(*(entry.as_row() for entry in entries), strict=True)]
