"""Brings records to a project's outbox: each once, and none never, whatever Redis and this process have forgotten."""

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
from billing.ledger.redis.outbox.pending import PendingRecord, PendingState
from billing.ledger.redis.outbox.spillover import Spillover
from billing.ledger.redis.record_store import RecordStore, StoredRecord
from billing.ledger.sql.connection import DatabaseErrors
from billing.ledger.usage_entry import UsageEntry, decode_entry, encode_entry
from billing.models import CorrectionReason

DEDUP_TTL_S = 300
"""How long Redis itself knows that a request is settled. Later, SQL is asked."""
ESTIMATE_TTL_S = 24 * 3600
"""For how long a process may be frozen and still find the estimate to correct in Redis."""
MAX_ATTEMPTS = 20
RETRY_DELAY_S = 0.05
AT_ONCE = 20
"""Records that are brought to Redis together, once it answers again: more would keep requests waiting."""
SETTLED_MARKER = "s"

log = structlog.get_logger()


class OutboxWriter:
    def __init__(
        self, client: RedisClient, record_store: RecordStore, pending: PendingState, spillover: Spillover
    ) -> None:
        self.client = client
        self.record_store = record_store
        self.pending = pending
        self.spillover = spillover
        self.registered: set[int] = set()

    async def write(self, record: PendingRecord) -> bool:
        """Settles what the request held, if anything, and keeps its record. What fails is owed, and tried again by `retry_pending`; until
        then PostgreSQL keeps it. False where that will help nobody now: Redis or the database does not answer.
        """
        # One that fails goes to the end: it may be one that fails always, which keeps none of the others back.
        self.pending.records.pop(record.entry.id, None)
        self.pending.records[record.entry.id] = record
        answers = await self.try_to_deliver(record)
        if record.stream_id is None:
            await self.spillover.keep(record)
        else:
            self.spillover.finish([record.entry.id])
        return answers

    async def try_to_deliver(self, posting: PendingRecord) -> bool:
        """Return False if Redis or the database does not answer."""
        posting.in_progress = True
        try:
            await self.write_until_final(posting)
        except CommandRejected as error:
            log.error("a record is refused by redis", request_id=posting.entry.request_id, reason=str(error))
        except (ValueError, msgspec.MsgspecError) as error:
            log.error(
                "what redis knows of a record is damaged",
                request_id=posting.entry.request_id,
                reason=str(error),
            )
        except (RedisUnavailable, *DatabaseErrors) as error:
            log.warning(
                "a record waits",
                request_id=posting.entry.request_id,
                reason=str(error) or type(error).__name__,
            )
            return False
        finally:
            posting.in_progress = False
        return True

    async def retry_pending(self) -> None:
        """The first one alone shows whether Redis answers."""
        owed = self.pending.unsent_records()
        for some in (owed[:1], *batched(owed[1:], AT_ONCE)):
            if not all(await asyncio.gather(*map(self.write, some))):
                return

    async def register_project(self, project_id: int) -> None:
        """Sees to it that the project's outbox is drained, before there is anything in it."""
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
        raise RedisUnavailable("the outbox is drained faster than it can be read")

    async def send_once(self, record: PendingRecord) -> Any:
        entry, was_fresh = record.entry, record.never_sent
        # Another process may have brought to Redis what PostgreSQL has of it.
        epoch = self.spillover.only_known_in(entry.id, record.epoch)
        never_sent = was_fresh and epoch is not None
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
                marker, marker_ttl_s = mark_of(record)
                reply = await self.client.run_fast(
                    SETTLE, entry.project_id, entry.id.hex, entry.cost_nano, used, entry.key_id, day, text,
                    marker, marker_ttl_s, int(never_sent), epoch or "",
                )  # fmt: skip
        except CommandNotSent:
            record.never_sent = was_fresh
            raise
        failpoint("settle.after")
        return reply

    async def write_if_unknown(self, record: PendingRecord) -> Any:
        """Neither a reservation nor a mark is left of the request, and it may have been posted: SQL and the outbox know."""
        entry = record.entry
        stored, last_id = await self.record_store.find_record(entry.project_id, entry.id)
        if stored is None:
            return await self.write_if_absent(entry, last_id, *mark_of(record))
        if not stored.estimated or entry.estimated:
            return [b"done"]
        correction = with_stored_values(entry, stored).correction_to(
            entry.cost_nano, entry.tokens, CorrectionReason.LATE
        )
        stored, last_id = await self.record_store.find_record(entry.project_id, correction.id)
        return [b"done"] if stored else await self.write_if_absent(correction, last_id)

    async def write_if_absent(
        self, entry: UsageEntry, last_id: str, mark: str | bytes = SETTLED_MARKER, mark_s: int = DEDUP_TTL_S
    ) -> Any:
        return await self.client.run_slow(
            WRITE_IF_ABSENT, entry.project_id, entry.id.hex, entry.cost_nano, entry.key_id, entry.day.isoformat(), encode_entry(entry), mark_s,
            last_id, mark,
        )  # fmt: skip

    async def write_correction(self, entry: UsageEntry, estimate: UsageEntry) -> Any:
        """Another process took this one for dead, and has posted an estimate."""
        correction = estimate.correction_to(entry.cost_nano, entry.tokens, CorrectionReason.LATE)
        log.warning(
            "an estimate is corrected", request_id=entry.request_id, difference_nano=correction.cost_nano
        )
        return await self.client.run_slow(
            WRITE_CORRECTION, entry.project_id, entry.id.hex, correction.id.hex, correction.cost_nano, entry.key_id, entry.day.isoformat(),
            encode_entry(correction), DEDUP_TTL_S,
        )  # fmt: skip


def batched(postings: list[PendingRecord], size: int) -> Iterator[list[PendingRecord]]:
    return (postings[start : start + size] for start in range(0, len(postings), size))


def mark_of(posting: PendingRecord) -> tuple[str | bytes, int]:
    """Return what Redis shall remember of a request that has ended, and for how many seconds."""
    return (
        (encode_entry(posting.entry), ESTIMATE_TTL_S)
        if posting.is_estimate
        else (SETTLED_MARKER, DEDUP_TTL_S)
    )


def with_stored_values(entry: UsageEntry, stored: StoredRecord) -> UsageEntry:
    return replace(entry, cost_nano=stored.cost_nano, tokens=stored.tokens, estimated=stored.estimated)
