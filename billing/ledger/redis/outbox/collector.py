"""Brings records that wait in PostgreSQL to Redis: those of processes that ended, or that do not reach Redis."""

import asyncio
from uuid import UUID

import msgspec
import structlog

from billing.ledger.redis.client.keys import heartbeat_key
from billing.ledger.redis.client.protocol import RedisUnavailable
from billing.ledger.redis.outbox.pending import PendingRecord
from billing.ledger.redis.outbox.writer import AT_ONCE, OutboxWriter, batched
from billing.ledger.redis.record_store import RecordStore
from billing.ledger.usage_entry import decode_entry

PAGE = 500
BEFORE_ALL = UUID(int=0)

log = structlog.get_logger()


class Collector:
    """Two at once do no harm, nor does a process that brings its own record there at the same time: it is counted once."""

    def __init__(self, books: RecordStore, postman: OutboxWriter) -> None:
        self.books = books
        self.postman = postman
        self.unreadable: set[UUID] = set()

    async def collect(self, *, estimates: bool = False) -> None:
        """Bring all records to Redis; with `estimates`, also what stands for requests of processes that have died. Raise one of
        DatabaseErrors if PostgreSQL does not answer, and StoreUnavailable if Redis does not.
        """
        after = BEFORE_ALL
        while page := await self.books.list_unsent(after, PAGE):
            after = page[-1][0]
            living = await self.living({owner for _, _, owner in page if owner}) if estimates else None
            rows = [row for row in page if not row[2] or (living is not None and row[2] not in living)]
            if not await self.bring(rows):
                raise RedisUnavailable("records still wait in PostgreSQL")

    async def living(self, processes: set[str]) -> set[str]:
        return {
            process
            for process in processes
            if await self.postman.client.command_slow("EXISTS", heartbeat_key(process))
        }

    async def bring(self, rows: list[tuple[UUID, str, str]]) -> bool:
        """Return False if Redis or PostgreSQL does not answer."""
        postings = [posting for row in rows if (posting := self.posting_of(*row))]
        answers = True
        for some in batched([posting for posting in postings if posting.stream_id is None], AT_ONCE):
            answers = all(await asyncio.gather(*map(self.postman.write, some)))
            if not answers:
                break
        if posted := {posting.entry.id for posting in postings if posting.stream_id is not None}:
            await self.books.delete_unsent(posted)
        return answers

    def posting_of(self, id: UUID, text: str, owner: str) -> PendingRecord | None:
        """Return None for a record that cannot be read, and for one that this process tries to bring to Redis anyway."""
        known = self.postman.pending.records.get(id)
        if known is not None:
            self.postman.spillover.note(id, is_record=not owner)
            return known if known.stream_id is not None else None
        try:
            # It may have a reservation that its process does not know of: Redis can execute a command long after it was given up.
            return PendingRecord(decode_entry(text), never_sent=False, is_estimate=bool(owner), owner=owner)
        except (ValueError, msgspec.MsgspecError) as error:
            if id not in self.unreadable:
                self.unreadable.add(id)
                log.error("a record cannot be read", error=str(error), record=text)
            return None
