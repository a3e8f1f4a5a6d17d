"""Moves records from the record streams in Redis to SQL.

The drainer inserts them in bulk, and then trims the streams up to the last committed record.
"""

import asyncio
from collections.abc import Iterator

import structlog
from psycopg import DataError, IntegrityError

from billing.ledger.failpoints import failpoint
from billing.ledger.redis.client.client import CommandRejected, RedisClient
from billing.ledger.redis.client.keys import PROJECTS_KEY, stream_key
from billing.ledger.redis.client.scripts import TRIM
from billing.ledger.redis.record_store import START_ID, DrainedBatch, RecordStore, decode_entries
from billing.ledger.usage_entry import UsageEntry

PAGE_SIZE = 500
MAX_BATCH_RECORDS = 2000
"""Approximate maximum number of records in one transaction. A larger one would hold locks for seconds."""
StreamEvent = tuple[bytes, list[bytes]]

log = structlog.get_logger()


class Drainer:
    """Drains the record streams of all projects.

    Two drainers may run at once. Each record is still inserted only once.
    """

    def __init__(self, client: RedisClient, record_store: RecordStore) -> None:
        self.client = client
        self.record_store = record_store

    async def drain(self) -> int:
        """Drain one page of each stream, and return the number of records.

        Raises RedisUnavailable, or one of DatabaseErrors.
        """
        pages = await self.read_pages()
        for batch in batched(pages):
            await self.save_pages(batch)
        return sum(len(page.entries) for page in pages)

    async def save_pages(self, pages: list[DrainedBatch]) -> None:
        try:
            await self.record_store.insert_batches(pages)
        except (DataError, IntegrityError):
            await self.save_one_by_one(pages)
        for page in pages:
            milliseconds, _, number = page.last_id.partition("-")
            await self.client.run_slow(
                TRIM, page.project_id, page.last_id, f"{milliseconds}-{int(number) + 1}"
            )
        failpoint("drain.after_trim")

    async def read_pages(self) -> list[DrainedBatch]:
        project_ids = [
            int(project_id) for project_id in await self.client.command_slow("SMEMBERS", PROJECTS_KEY)
        ]
        pages = await asyncio.gather(*map(self.read_page, project_ids))
        return [
            DrainedBatch(project_id, page[-1][0].decode(), decode_page(page))
            for project_id, page in zip(project_ids, pages, strict=True)
            if page
        ]

    async def read_page(self, project_id: int) -> list[StreamEvent]:
        try:
            page: list[StreamEvent] = await self.client.command_slow(
                "XRANGE", stream_key(project_id), "-", "+", "COUNT", PAGE_SIZE
            )
        except CommandRejected as error:
            log.error(
                "record_stream_unreadable",
                message="The record stream of a project cannot be read. Other projects are drained.",
                project_id=project_id,
                error=str(error),
            )
            return []
        return page

    async def save_one_by_one(self, pages: list[DrainedBatch]) -> None:
        """Insert records one by one. Log records that SQL rejects, so that they do not block the others."""
        for page in pages:
            for entry in page.entries:
                try:
                    await self.record_store.insert_batches([DrainedBatch(page.project_id, START_ID, [entry])])
                except (DataError, IntegrityError) as error:
                    log.error(
                        "record_rejected_by_sql",
                        message="The database rejects a record. This log line has its only copy.",
                        error=str(error),
                        entry=entry,
                    )
            await self.record_store.insert_batches([DrainedBatch(page.project_id, page.last_id, [])])


def batched(pages: list[DrainedBatch]) -> Iterator[list[DrainedBatch]]:
    """Group pages into batches of about MAX_BATCH_RECORDS records."""
    batch: list[DrainedBatch] = []
    for page in pages:
        batch.append(page)
        if sum(len(each.entries) for each in batch) >= MAX_BATCH_RECORDS:
            yield batch
            batch = []
    if batch:
        yield batch


def decode_page(page: list[StreamEvent]) -> list[UsageEntry]:
    return list(decode_entries(fields[-1] if fields else b"" for _, fields in page))
