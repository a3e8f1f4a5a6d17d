"""Ends what processes that are gone have left: records that they owe, and what the dead among them held. Whether the upstream was
called for that is not known, so the whole amount counts as spent.
"""

import msgspec
import structlog

from billing.ledger.failpoints import failpoint
from billing.ledger.redis.client.client import CommandRejected, RedisClient
from billing.ledger.redis.client.keys import PROJECTS_KEY, heartbeat_key
from billing.ledger.redis.client.scripts import RESERVATIONS_BY_PROCESS, SETTLE
from billing.ledger.redis.outbox.collector import Collector
from billing.ledger.redis.outbox.pending import PendingRecord
from billing.ledger.redis.outbox.writer import ESTIMATE_TTL_S, OutboxWriter
from billing.ledger.redis.record_store import RecordStore
from billing.ledger.redis.reservation import RedisReservation
from billing.ledger.usage_entry import UsageEntry, encode_entry

PAGE_SIZE = 100

log = structlog.get_logger()


class Reaper:
    def __init__(self, client: RedisClient, record_store: RecordStore, outbox_writer: OutboxWriter) -> None:
        self.client = client
        self.record_store = record_store
        self.outbox_writer = outbox_writer
        self.collector = Collector(record_store, outbox_writer)

    async def reap(self) -> int:
        """Resolves all reservations of processes that are not alive; returns how many."""
        await self.settle_unsent(estimates=True)
        settled = 0
        for project_id in [
            int(project_id) for project_id in await self.client.command_slow("SMEMBERS", PROJECTS_KEY)
        ]:
            try:
                settled += await self.reap_project(project_id)
            except CommandRejected as error:
                log.error("reservations of a project cannot be read", project_id=project_id, error=str(error))
        return settled

    async def reap_project(self, project_id: int) -> int:
        process_ids = [
            owner.decode() for owner in await self.client.run_slow(RESERVATIONS_BY_PROCESS, project_id)
        ]
        dead = [
            owner
            for owner in process_ids
            if not await self.client.command_slow("EXISTS", heartbeat_key(owner))
        ]
        return sum([await self.settle_orphans_of(project_id, owner) for owner in dead])

    async def settle_unsent(self, *, estimates: bool = False) -> None:
        """Posts what was owed in the end: before its reservation is taken for a dead process's, and corrected then."""
        await self.collector.collect(estimates=estimates)

    async def settle_orphans_of(self, project_id: int, process_id: str) -> int:
        """Page by page. What could not be resolved stays in Redis, before what was not looked at yet: the next page is longer by as
        much, so that it keeps nothing else back.
        """
        tried: set[bytes] = set()
        settled, stuck, is_last = 0, 0, False
        while not is_last:
            page = await self.client.run_slow(
                RESERVATIONS_BY_PROCESS, project_id, process_id, PAGE_SIZE + stuck
            )
            is_last = len(page) < 2 * (PAGE_SIZE + stuck)
            reservations = dict(zip(page[::2], page[1::2], strict=True))
            stuck = len(reservations.keys() & tried)
            for id in reservations.keys() - tried:
                settled += await self.settle_orphan_or_log(id, reservations[id])
            tried |= reservations.keys()
        return settled

    async def settle_orphan_or_log(self, id: bytes, text: bytes) -> bool:
        """One that cannot be resolved must not keep the others from it."""
        try:
            reservation = RedisReservation.parse(id, text)
            await self.settle_orphan(reservation.as_estimate(), reservation.process_id)
        except (ValueError, msgspec.MsgspecError) as error:
            log.error(
                "reservation of a dead process could not be resolved", error=str(error), reservation=text
            )
            return False
        return True

    async def settle_orphan(self, estimate: UsageEntry, process_id: str) -> None:
        """Posts the estimate. If the owner lives after all, it finds the mark and posts a correction."""
        stored, _ = await self.record_store.find_record(estimate.project_id, estimate.id)
        if stored is not None:
            # Redis lost the end of what it knew, its owner's settlement.
            estimate.cost_nano, estimate.tokens = stored.cost_nano, stored.tokens
        failpoint("settle_orphan.before")
        text = encode_entry(estimate)
        used = estimate.tokens.prompt + estimate.tokens.output
        reply = await self.client.run_slow(
            SETTLE, estimate.project_id, estimate.id.hex, estimate.cost_nano, used, estimate.key_id, estimate.day.isoformat(), text,
            text, ESTIMATE_TTL_S, 0, "", process_id,
        )  # fmt: skip
        failpoint("settle_orphan.after")
        if reply[0] == b"ok":
            record = self.outbox_writer.pending.records[estimate.id] = PendingRecord(
                estimate, is_estimate=True, owner=process_id, never_sent=False
            )
            record.mark_written(reply[1].decode())
            log.warning(
                "reservation of a dead process posted as an estimate",
                request_id=estimate.request_id,
                cost_nano=estimate.cost_nano,
            )
