"""Brings records that wait in PostgreSQL to Redis: those of processes that ended, or that do not reach Redis."""

import asyncio
from uuid import UUID

import msgspec
import structlog

from billing.ledger.redis.books import Books
from billing.ledger.redis.connection import StoreUnavailable
from billing.ledger.redis.memory import Posting
from billing.ledger.redis.posting import AT_ONCE, Postman, batched
from billing.ledger.redis.scripts import alive
from billing.ledger.steps import decode_draft

PAGE = 500
BEFORE_ALL = UUID(int=0)

log = structlog.get_logger()


class Collector:
    """Two at once do no harm, nor does a process that brings its own record there at the same time: it is counted once."""

    def __init__(self, books: Books, postman: Postman) -> None:
        self.books = books
        self.postman = postman
        self.unreadable: set[UUID] = set()

    async def collect(self, *, estimates: bool = False) -> None:
        """Bring all records to Redis; with `estimates`, also what stands for requests of processes that have died. Raise one of
        DatabaseErrors if PostgreSQL does not answer, and StoreUnavailable if Redis does not."""
        after = BEFORE_ALL
        while page := await self.books.owed(after, PAGE):
            after = page[-1][0]
            living = await self.living({owner for _, _, owner in page if owner}) if estimates else None
            rows = [row for row in page if not row[2] or (living is not None and row[2] not in living)]
            if not await self.bring(rows):
                raise StoreUnavailable("records still wait in PostgreSQL")

    async def living(self, processes: set[str]) -> set[str]:
        return {process for process in processes if await self.postman.store.call("EXISTS", alive(process))}

    async def bring(self, rows: list[tuple[UUID, str, str]]) -> bool:
        """Return False if Redis or PostgreSQL does not answer."""
        postings = [posting for row in rows if (posting := self.posting_of(*row))]
        answers = True
        for some in batched([posting for posting in postings if posting.posted is None], AT_ONCE):
            answers = all(await asyncio.gather(*map(self.postman.post, some)))
            if not answers:
                break
        if posted := {posting.entry.id for posting in postings if posting.posted is not None}:
            await self.books.pay(posted)
        return answers

    def posting_of(self, id: UUID, text: str, owner: str) -> Posting | None:
        """Return None for a record that cannot be read, and for one that this process tries to bring to Redis anyway."""
        known = self.postman.memory.postings.get(id)
        if known is not None:
            self.postman.spillover.note(id, is_record=not owner)
            return known if known.posted is not None else None
        try:
            # It may have a reservation that its process does not know of: Redis can execute a command long after it was given up.
            return Posting(decode_draft(text), fresh=False, estimates=bool(owner), owner=owner)
        except (ValueError, msgspec.MsgspecError) as error:
            if id not in self.unreadable:
                self.unreadable.add(id)
                log.error("a record cannot be read", error=str(error), record=text)
            return None
