"""Sends unsent records from PostgreSQL to Redis for processes that have died or cannot reach Redis."""

import asyncio
from uuid import UUID

import msgspec
import structlog

from billing.ledger.redis.client.keys import heartbeat_key
from billing.ledger.redis.client.protocol import RedisUnavailable
from billing.ledger.redis.outbox.pending_state import PendingRecord
from billing.ledger.redis.outbox.writer import MAX_CONCURRENT, OutboxWriter, batched
from billing.ledger.redis.record_store import RecordStore
from billing.ledger.usage_entry import decode_entry

PAGE_SIZE = 500
BEFORE_ALL = UUID(int=0)

log = structlog.get_logger()


class Collector:
    """Sends the rows of the table of unsent records.

    Two collectors may run at once, and the process of a record may send it at the same time. Each record is
    still counted only once.
    """

    def __init__(self, record_store: RecordStore, outbox_writer: OutboxWriter) -> None:
        self.record_store = record_store
        self.outbox_writer = outbox_writer
        self.unreadable: set[UUID] = set()

    async def collect(self, *, estimates: bool = False) -> None:
        """Send all records. If `estimates` is true, also send estimates of requests of dead processes.

        Raises one of DatabaseErrors if PostgreSQL does not answer, and RedisUnavailable if Redis does not.
        """
        after = BEFORE_ALL
        while page := await self.record_store.list_unsent(after, PAGE_SIZE):
            after = page[-1][0]
            processes = {process_id for _, _, process_id in page if process_id}
            dead = await self.dead_processes(processes) if estimates else set()
            if not await self.send([row for row in page if not row[2] or row[2] in dead]):
                raise RedisUnavailable("records still wait in PostgreSQL")

    async def dead_processes(self, process_ids: set[str]) -> set[str]:
        client = self.outbox_writer.client
        return {
            process_id
            for process_id in process_ids
            if not await client.command_slow("EXISTS", heartbeat_key(process_id))
        }

    async def send(self, rows: list[tuple[UUID, str, str]]) -> bool:
        """Send rows, and delete the rows that Redis has. Return False if a server does not answer."""
        records = [record for row in rows if (record := self.record_from_row(*row))]
        unsent = [record for record in records if record.stream_id is None]
        answers = True
        for batch in batched(unsent, MAX_CONCURRENT):
            answers = all(await asyncio.gather(*map(self.outbox_writer.write, batch)))
            if not answers:
                break
        if sent := {record.entry.id for record in records if record.stream_id is not None}:
            await self.record_store.delete_unsent(sent)
        return answers

    def record_from_row(self, id: UUID, text: str, process_id: str) -> PendingRecord | None:
        """Return the record of a row.

        Return None if the row cannot be read, or if this process sends the record itself.
        """
        own = self.outbox_writer.pending.records.get(id)
        if own is not None:
            self.outbox_writer.spillover.note_row(id, is_record=not process_id)
            return own if own.stream_id is not None else None
        try:
            # `never_sent` is False because Redis may have a reservation or a record that the process did not
            # know of. Redis can execute a command long after the process has stopped waiting for it.
            return PendingRecord(
                decode_entry(text), never_sent=False, is_estimate=bool(process_id), process_id=process_id
            )
        except (ValueError, msgspec.MsgspecError) as error:
            self.log_unreadable(id, text, error)
            return None

    def log_unreadable(self, id: UUID, text: str, error: Exception) -> None:
        """Log a record that cannot be read. Each record is logged only once."""
        if id in self.unreadable:
            return
        self.unreadable.add(id)
        log.error(
            "unsent_record_unreadable",
            message="A record in the table of unsent records cannot be read. It is not counted.",
            error=str(error),
            record=text,
        )
