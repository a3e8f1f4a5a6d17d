"""Writes records to the record streams: each exactly once, even if Redis loses its data."""

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace

from billing.ledger.failpoints import failpoint
from billing.ledger.redis.client.client import CommandRejected, RedisClient
from billing.ledger.redis.client.keys import PROJECTS_KEY
from billing.ledger.redis.client.protocol import CommandNotSent, RedisUnavailable
from billing.ledger.redis.client.scripts import SETTLE, WRITE_CORRECTION, WRITE_IF_ABSENT, WRITE_RECORD
from billing.ledger.redis.outbox.pending_state import PendingRecord, PendingState
from billing.ledger.redis.outbox.spillover import Spillover
from billing.ledger.redis.record_store import RecordStore, StoredRecord
from billing.ledger.sql.connection import DatabaseErrors
from billing.ledger.usage_entry import UsageEntry, decode_entry, encode_entry
from billing.models import CorrectionReason

DEDUP_TTL_S = 300
"""How long Redis keeps the dedup marker of a settled request. Afterwards, SQL is searched for the record."""
ESTIMATE_TTL_S = 24 * 3600
"""How long Redis keeps the dedup marker of an estimate.

If the process of the request is suspended and counts as dead, it can correct the estimate within this time.
"""
MAX_ATTEMPTS = 20
RETRY_DELAY_S = 0.05
MAX_CONCURRENT = 20
"""Maximum number of unsent records that are sent at once after an outage. More would delay requests."""
SETTLED_MARKER = "s"

log = structlog.get_logger()


class OutboxWriter:
    """Sends the records of this process to Redis. PostgreSQL keeps records that Redis does not accept."""

    def __init__(
        self, client: RedisClient, record_store: RecordStore, pending: PendingState, spillover: Spillover
    ) -> None:
        self.client = client
        self.record_store = record_store
        self.pending = pending
        self.spillover = spillover
        self.registered: set[int] = set()

    async def write(self, record: PendingRecord) -> bool:
        """Write a record, and settle its reservation if it has one.

        If this fails, PostgreSQL keeps the record, and `retry_pending` sends it later. Returns False if Redis
        or the database does not answer, because other records would then fail too.
        """
        # Re-insert at the end, so that a record that always fails does not block the others.
        self.pending.records.pop(record.entry.id, None)
        self.pending.records[record.entry.id] = record
        answers = await self.write_or_log(record)
        if record.stream_id is None:
            await self.spillover.save_record(record)
        else:
            self.spillover.finish([record.entry.id])
        return answers

    async def write_or_log(self, record: PendingRecord) -> bool:
        """Write a record, and log an error. Return False if Redis or the database does not answer."""
        record.in_progress = True
        try:
            await self.write_until_final(record)
        except CommandRejected as error:
            log.error(
                "record_rejected_by_redis",
                message="Redis rejects a record. The database keeps it, and it is tried again.",
                request_id=record.entry.request_id,
                reason=str(error),
            )
        except (ValueError, msgspec.MsgspecError) as error:
            log.error(
                "record_marker_unreadable",
                message="The dedup marker of a request cannot be read. The database keeps its record.",
                request_id=record.entry.request_id,
                reason=str(error),
            )
        except (RedisUnavailable, *DatabaseErrors) as error:
            log.warning(
                "record_write_delayed",
                message="A record could not be written. It is tried again when Redis answers.",
                request_id=record.entry.request_id,
                reason=str(error) or type(error).__name__,
            )
            return False
        finally:
            record.in_progress = False
        return True

    async def retry_pending(self) -> None:
        """Send the unsent records. The first is sent alone, to find out whether Redis answers."""
        unsent = self.pending.unsent_records()
        for batch in (unsent[:1], *batched(unsent[1:], MAX_CONCURRENT)):
            if not all(await asyncio.gather(*map(self.write, batch))):
                return

    async def register_project(self, project_id: int) -> None:
        """Add a project to the set of drained projects. This must happen before its stream has a record."""
        if project_id not in self.registered:
            await self.client.command_fast("SADD", PROJECTS_KEY, project_id)
            self.registered.add(project_id)

    async def write_until_final(self, record: PendingRecord) -> None:
        await self.register_project(record.entry.project_id)
        reply = await self.send_once(record)
        for _ in range(MAX_ATTEMPTS):
            match reply:
                case [b"ok", stream_id]:
                    record.mark_written(stream_id.decode())
                    return
                case [b"done"]:
                    record.mark_written("-")
                    return
                case [b"estimated", _] if record.is_estimate:
                    reply = [b"done"]
                case [b"estimated", text]:
                    reply = await self.write_correction(record.entry, decode_entry(text))
                case [b"unknown"]:
                    reply = await self.write_if_unknown(record)
                case _:
                    await asyncio.sleep(RETRY_DELAY_S)
                    reply = await self.send_once(record)
        raise RedisUnavailable("the record stream is drained faster than SQL can be searched")

    async def send_once(self, record: PendingRecord) -> Any:
        entry, was_never_sent = record.entry, record.never_sent
        # If PostgreSQL has the record or its estimate, another process may have sent it.
        epoch = self.spillover.epoch_without_marker(entry.id, record.epoch)
        never_sent = was_never_sent and epoch is not None
        record.never_sent = False
        day, text = entry.day.isoformat(), encode_entry(entry)
        failpoint("settle.before")
        try:
            if not record.ends_reservation:
                reply = await self.client.run_fast(
                    WRITE_RECORD,
                    entry.project_id,
                    entry.id.hex,
                    entry.cost_nano,
                    entry.key_id,
                    day,
                    text,
                    DEDUP_TTL_S,
                )
            else:
                used = entry.tokens.prompt + entry.tokens.output
                marker, marker_ttl_s = marker_for(record)
                reply = await self.client.run_fast(
                    SETTLE, entry.project_id, entry.id.hex, entry.cost_nano, used, entry.key_id, day, text,
                    marker, marker_ttl_s, int(never_sent), epoch or "",
                )  # fmt: skip
        except CommandNotSent:
            record.never_sent = was_never_sent
            raise
        failpoint("settle.after")
        return reply

    async def write_if_unknown(self, record: PendingRecord) -> Any:
        """Search SQL and the stream for a record, and write the record if they do not have it.

        This is necessary if the record may have been sent before, and Redis has neither a reservation nor a
        dedup marker of the request.
        """
        entry = record.entry
        stored, last_id = await self.record_store.find_record(entry.project_id, entry.id)
        if stored is None:
            return await self.write_if_absent(entry, last_id, *marker_for(record))
        if not stored.estimated or entry.estimated:
            return [b"done"]
        correction = with_stored_values(entry, stored).correction_to(
            entry.cost_nano, entry.tokens, CorrectionReason.LATE
        )
        stored, last_id = await self.record_store.find_record(entry.project_id, correction.id)
        return [b"done"] if stored else await self.write_if_absent(correction, last_id)

    async def write_if_absent(
        self,
        entry: UsageEntry,
        last_id: str,
        marker: str | bytes = SETTLED_MARKER,
        marker_ttl_s: int = DEDUP_TTL_S,
    ) -> Any:
        return await self.client.run_slow(
            WRITE_IF_ABSENT, entry.project_id, entry.id.hex, entry.cost_nano, entry.key_id,
            entry.day.isoformat(), encode_entry(entry), marker_ttl_s, last_id, marker,
        )  # fmt: skip

    async def write_correction(self, entry: UsageEntry, estimate: UsageEntry) -> Any:
        """Correct the estimate that another process wrote because this process counted as dead."""
        correction = estimate.correction_to(entry.cost_nano, entry.tokens, CorrectionReason.LATE)
        log.warning(
            "estimate_corrected",
            message="A request was settled by an estimate because its process seemed dead. "
            "The estimate is corrected.",
            request_id=entry.request_id,
            difference_nano=correction.cost_nano,
        )
        return await self.client.run_slow(
            WRITE_CORRECTION, entry.project_id, entry.id.hex, correction.id.hex, correction.cost_nano,
            entry.key_id, entry.day.isoformat(), encode_entry(correction), DEDUP_TTL_S,
        )  # fmt: skip


def batched(records: list[PendingRecord], size: int) -> Iterator[list[PendingRecord]]:
    return (records[start : start + size] for start in range(0, len(records), size))


def marker_for(record: PendingRecord) -> tuple[str | bytes, int]:
    """Return the dedup marker for a request that ends with this record, and its lifetime in seconds."""
    if record.is_estimate:
        return encode_entry(record.entry), ESTIMATE_TTL_S
    return SETTLED_MARKER, DEDUP_TTL_S


def with_stored_values(entry: UsageEntry, stored: StoredRecord) -> UsageEntry:
    return replace(entry, cost_nano=stored.cost_nano, tokens=stored.tokens, estimated=stored.estimated)
