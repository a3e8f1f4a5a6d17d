"""Takes records from the outboxes in Redis to SQL: inserted in bulk, and dropped from Redis when they are committed."""

from collections.abc import Iterator

import msgspec
import structlog
from psycopg import DataError

from billing.ledger.entry import Entry
from billing.ledger.failpoints import failpoint
from billing.ledger.redis.books import NEVER_DRAINED, Books, Drained
from billing.ledger.redis.connection import Command
from billing.ledger.redis.scripts import PROJECTS, TRIM, prefix
from billing.ledger.redis.store import Store
from billing.ledger.steps import decode_draft

PAGE = 500
log = structlog.get_logger()


class Drainer:
    """Two at once do no harm: what one inserts, the other does not insert again."""

    def __init__(self, store: Store, books: Books) -> None:
        self.store = store
        self.books = books

    async def drain(self) -> int:
        """One page of each outbox; returns how many records that were. Raises StoreUnavailable, or one of DatabaseErrors."""
        pages = await self.read()
        if not pages:
            return 0
        try:
            await self.books.keep(pages)
        except DataError:
            await self.keep_one_by_one(pages)
        for page in pages:
            milliseconds, _, number = page.through.partition("-")
            await self.store.run_patiently(TRIM, page.project_id, page.through, f"{milliseconds}-{int(number) + 1}")
        failpoint("drain.after_trim")
        return sum(len(page.entries) for page in pages)

    async def read(self) -> list[Drained]:
        project_ids = [int(project_id) for project_id in await self.store.call("SMEMBERS", PROJECTS)]
        commands: list[Command] = [("XRANGE", outbox(project_id), "-", "+", "COUNT", PAGE) for project_id in project_ids]
        pages = zip(project_ids, await self.store.call_all(commands), strict=True)
        return [Drained(project_id, page[-1][0].decode(), list(legible(page))) for project_id, page in pages if page]

    async def keep_one_by_one(self, pages: list[Drained]) -> None:
        """One record that SQL does not take must not keep back the others: it goes to the log, whole."""
        for page in pages:
            for entry in page.entries:
                try:
                    await self.books.keep([Drained(page.project_id, NEVER_DRAINED, [entry])])
                except DataError as error:
                    log.error("SQL refuses a record", error=str(error), entry=entry)
            await self.books.keep([Drained(page.project_id, page.through, [])])


def legible(page: list[tuple[bytes, list[bytes]]]) -> Iterator[Entry]:
    """An event that is no record must not keep back the others, of all projects: it goes to the log, whole."""
    for id, fields in page:
        try:
            yield entry_of(fields)
        except (IndexError, ValueError, msgspec.MsgspecError) as error:
            log.error("an event cannot be read", error=str(error), id=id, fields=fields)


def outbox(project_id: int) -> str:
    return f"{prefix(project_id)}out"


def entry_of(fields: list[bytes]) -> Entry:
    """From the fields of an event, of which the entry is the last."""
    return decode_draft(fields[-1])
