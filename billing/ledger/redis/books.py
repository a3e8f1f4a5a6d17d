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

from billing.ledger import steps
from billing.ledger.entry import COLUMNS, Entry
from billing.ledger.failpoints import failpoint
from billing.ledger.session import Connection, DatabaseErrors
from billing.ledger.steps import decode_draft, encode_draft
from billing.models import UsageRecord
from billing.prices import Tokens

log = structlog.get_logger()

NEVER_DRAINED = "0-0"

SUM = (
    "SELECT COALESCE((SELECT SUM(cost_nano) FROM billing_usagerecord WHERE {scope} = %s AND day BETWEEN %s AND %s), 0), "
    "(SELECT drained_ms FROM billing_outbox WHERE project_id = %s), (SELECT drained_seq FROM billing_outbox WHERE project_id = %s)"
)
REGISTER = (
    "INSERT INTO billing_outbox (project_id, entered, drained_ms, drained_seq) VALUES (%s, true, 0, 0) "
    "ON CONFLICT (project_id) DO UPDATE SET entered = true WHERE NOT billing_outbox.entered RETURNING project_id"
)
DRAINED = "SELECT drained_ms, drained_seq FROM billing_outbox WHERE project_id = %s"
ADVANCE = (
    "INSERT INTO billing_outbox (project_id, entered, drained_ms, drained_seq) VALUES (%s, false, %s, %s) "
    "ON CONFLICT (project_id) DO UPDATE SET drained_ms = excluded.drained_ms, drained_seq = excluded.drained_seq "
    "WHERE (excluded.drained_ms, excluded.drained_seq) > (billing_outbox.drained_ms, billing_outbox.drained_seq)"
)
OWE = (
    "INSERT INTO billing_owedrecord (id, entry, owner) SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[]) ON CONFLICT (id) "
    "DO UPDATE SET entry = excluded.entry, owner = excluded.owner WHERE excluded.owner = ''"
)
"""An estimate replaces no record."""
OWED = "SELECT id, entry, owner FROM billing_owedrecord WHERE id > %s ORDER BY id LIMIT %s"
PAID = "DELETE FROM billing_owedrecord WHERE id IN (SELECT id FROM billing_owedrecord WHERE id = ANY(%s) ORDER BY id FOR UPDATE)"
"""Locked in the order of their ids, so that two processes that delete the same rows do not wait for each other."""
TOKEN_COLUMNS = ", ".join(f"{field.name}_tokens" for field in fields(Tokens))
FIND = (
    f"SELECT o.drained_ms, o.drained_seq, r.cost_nano, r.estimated, {TOKEN_COLUMNS} "
    "FROM unnest(%s::bigint[], %s::uuid[]) WITH ORDINALITY AS sought (project_id, id, n) "
    "LEFT JOIN billing_outbox o ON o.project_id = sought.project_id LEFT JOIN billing_usagerecord r ON r.id = sought.id ORDER BY n"
)


@dataclass(frozen=True, slots=True)
class Kept:
    """What the record of a request says in SQL."""

    cost_nano: int
    estimated: bool
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Waiting:
    """A record that waits in SQL for Redis. With an `owner`, it is the estimate for a request of that process that was under way."""

    entry: Entry
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Drained:
    """Events of one project's outbox, up to a stream id."""

    project_id: int
    through: str
    entries: list[Entry]


Found = tuple[Kept | None, str]


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
            self.found.set_exception(error if isinstance(error, Exception) else OSError("the look-up was ended"))


class Books:
    """One connection, one transaction at a time."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.lock = asyncio.Lock()
        self.sought: list[Sought] = []
        self.finding: asyncio.Task[None] | None = None

    async def close(self) -> None:
        await self.connection.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
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

    async def register(self, project_id: int) -> tuple[bool, str]:
        """Whether reservations of the project were made in Redis before, and up to where its outbox is drained."""
        async with self.transaction() as session:
            is_new = await session.run(REGISTER, (project_id,))
            rows = await session.run(DRAINED, (project_id,))
        return not is_new, stream_id(*rows[0])

    async def projects(self) -> list[int]:
        async with self.transaction() as session:
            return [project_id for (project_id,) in await session.run("SELECT project_id FROM billing_outbox WHERE entered")]

    async def spent(self, project_id: int, scope: str, owner: int, days: tuple[date, date]) -> tuple[int, str]:
        """The cost of a project's or key's records (`scope` is the column), and which events of the outbox are among them."""
        first, last = days
        parameters = (owner, first.isoformat(), last.isoformat(), project_id, project_id)
        async with self.transaction() as session:
            ((spent, milliseconds, number),) = await session.run(SUM.format(scope=scope), parameters)
        return int(spent), stream_id(milliseconds, number)

    async def find(self, project_id: int, id: UUID) -> Found:
        """A record, if SQL has it, and up to where the outbox was drained at that moment. Those that are asked for together are read
        together: after an outage there are thousands."""
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
                rows = await session.run(FIND, ([each.project_id for each in wanted], [each.id.hex for each in wanted]))
        except BaseException as error:
            for each in wanted:
                each.fail(error)
            raise
        for each, (milliseconds, number, cost, estimated, *tokens) in zip(wanted, rows, strict=True):
            each.deliver((None if cost is None else Kept(cost, estimated, Tokens(*tokens)), stream_id(milliseconds, number)))

    async def owe(self, waiting: Iterable[Waiting]) -> None:
        """Write records that wait for Redis, no two of which have the same id."""
        rows = sorted((each.entry.id.hex, encode_draft(each.entry).decode(), each.owner) for each in waiting)
        async with self.transaction() as session:
            await session.run(OWE, [list(column) for column in zip(*rows, strict=True)])

    async def owed(self, after: UUID, count: int) -> list[tuple[UUID, str, str]]:
        """Return up to `count` records that wait for Redis, as id, text and owner, in the order of their ids."""
        async with self.transaction() as session:
            return [(id, text, owner) for id, text, owner in await session.run(OWED, (after, count))]

    async def pay(self, ids: Iterable[UUID]) -> None:
        """Delete records that wait for Redis no longer."""
        async with self.transaction() as session:
            await session.run(PAID, (sorted(ids),))

    async def keep(self, drained: Sequence[Drained]) -> None:
        """Keeps the records of several outboxes, and up to where each is drained, in one transaction."""
        entries = [entry for each in drained for entry in each.entries]
        async with self.transaction() as session:
            failpoint("drain.before_insert")
            if entries:
                await session.run(insert_many(), columns_of(entries))
            await steps.mark_days(session, {(entry.project_id, entry.day) for entry in entries})
            for each in sorted(drained, key=lambda each: each.project_id):
                await session.run(ADVANCE, (each.project_id, *map(int, each.through.split("-"))))
            failpoint("drain.before_commit")
        failpoint("drain.after_commit")


def legible(texts: Iterable[str | bytes]) -> Iterator[Entry]:
    """A text that is no record must not keep back the others: it goes to the log, whole."""
    for text in texts:
        try:
            yield decode_draft(text)
        except (ValueError, msgspec.MsgspecError) as error:
            log.error("a record cannot be read", error=str(error), record=text)


def stream_id(milliseconds: int | None, number: int | None) -> str:
    return f"{milliseconds or 0}-{number or 0}"


def insert_many() -> str:
    """One statement for any number of rows, an array for each column. The casts cut text that is longer than its column."""
    types = [UsageRecord._meta.get_field(name).db_type(django_connection) for name in COLUMNS]
    arrays = ", ".join(f"%s::{type}[]" for type in types)
    return f"INSERT INTO billing_usagerecord ({', '.join(COLUMNS)}) SELECT * FROM unnest({arrays}) ON CONFLICT (id) DO NOTHING"


def columns_of(entries: Iterable[Entry]) -> list[list[Any]]:
    return [list(column) for column in zip(*(entry.row() for entry in entries), strict=True)]
