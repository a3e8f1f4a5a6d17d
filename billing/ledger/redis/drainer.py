"""Takes records from the outboxes in Redis to SQL: inserted in bulk, and dropped from Redis when they are committed."""

import asyncio
from collections.abc import Iterator

import structlog
from psycopg import DataError, IntegrityError

from billing.ledger.entry import Entry
from billing.ledger.failpoints import failpoint
from billing.ledger.redis.books import NEVER_DRAINED, Books, Drained, legible
from billing.ledger.redis.scripts import PROJECTS, TRIM, prefix
from billing.ledger.redis.store import Rejected, Store
from billing.ledger.steps import decode_draft

PAGE = 500
MOST_TOGETHER = 2000
"""Records of one transaction: those of many projects at once would hold their locks, and the connection, for seconds."""
Event = tuple[bytes, list[bytes]]
log = structlog.get_logger()


class Drainer:
    """Two at once do no harm: what one inserts, the other does not insert again."""

    def __init__(self, store: Store, books: Books) -> None:
        self.store = store
        self.books = books

    async def drain(self) -> int:
        """One page of each outbox; returns how many records that were. Raises StoreUnavailable, or one of DatabaseErrors."""
        pages = await self.read()
        for some in together(pages):
            await self.take(some)
        return sum(len(page.entries) for page in pages)

    async def take(self, pages: list[Drained]) -> None:
        try:
            await self.books.keep(pages)
        except (DataError, IntegrityError):
            await self.keep_one_by_one(pages)
        for page in pages:
            milliseconds, _, number = page.through.partition("-")
            await self.store.run_patiently(TRIM, page.project_id, page.through, f"{milliseconds}-{int(number) + 1}")
        failpoint("drain.after_trim")

    async def read(self) -> list[Drained]:
        project_ids = [int(project_id) for project_id in await self.store.call("SMEMBERS", PROJECTS)]
        pages = await asyncio.gather(*map(self.read_page, project_ids))
        found = zip(project_ids, pages, strict=True)
        return [Drained(project_id, page[-1][0].decode(), entries(page)) for project_id, page in found if page]

    async def read_page(self, project_id: int) -> list[Event]:
        try:
            page: list[Event] = await self.store.call("XRANGE", outbox(project_id), "-", "+", "COUNT", PAGE)
        except Rejected as error:
            log.error("the outbox of a project cannot be read", project_id=project_id, error=str(error))
            return []
        return page

    async def keep_one_by_one(self, pages: list[Drained]) -> None:
        """One record that SQL does not take must not keep back the others: it goes to the log, whole."""
        for page in pages:
            for entry in page.entries:
                try:
                    await self.books.keep([Drained(page.project_id, NEVER_DRAINED, [entry])])
                except (DataError, IntegrityError) as error:
                    log.error("SQL refuses a record", error=str(error), entry=entry)
            await self.books.keep([Drained(page.project_id, page.through, [])])


def together(pages: list[Drained]) -> Iterator[list[Drained]]:
    """What goes in one transaction."""
    some: list[Drained] = []
    for page in pages:
        some.append(page)
        if sum(len(each.entries) for each in some) >= MOST_TOGETHER:
            yield some
            some = []
    if some:
        yield some


def entries(page: list[Event]) -> list[Entry]:
    return list(legible(fields[-1] if fields else b"" for _, fields in page))


def outbox(project_id: int) -> str:
    return f"{prefix(project_id)}out"


def entry_of(fields: list[bytes]) -> Entry:
    """From the fields of an event, of which the entry is the last."""
    return decode_draft(fields[-1])
