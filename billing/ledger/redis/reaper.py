"""Sends the unsent records of dead processes, and settles their reservations.

The reaper does not know whether a provider was called for such a reservation. The reservation is therefore
settled by an estimate: its whole amount.
"""

import msgspec
import structlog

from billing.ledger.failpoints import failpoint
from billing.ledger.redis.client.client import CommandRejected, RedisClient
from billing.ledger.redis.client.keys import PROJECTS_KEY, heartbeat_key
from billing.ledger.redis.client.scripts import RESERVATIONS_BY_PROCESS, SETTLE
from billing.ledger.redis.outbox.collector import Collector
from billing.ledger.redis.outbox.pending_state import PendingRecord
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
        """Settle all reservations of dead processes by estimates. Return their number."""
        await self.settle_unsent(estimates=True)
        settled = 0
        for project_id in map(int, await self.client.command_slow("SMEMBERS", PROJECTS_KEY)):
            try:
                settled += await self.reap_project(project_id)
            except CommandRejected as error:
                log.error(
                    "reservations_unreadable",
                    message="The reservations of a project cannot be read. Other projects are unaffected.",
                    project_id=project_id,
                    error=str(error),
                )
        return settled

    async def reap_project(self, project_id: int) -> int:
        process_ids = [
            process_id.decode()
            for process_id in await self.client.run_slow(RESERVATIONS_BY_PROCESS, project_id)
        ]
        dead = [
            process_id
            for process_id in process_ids
            if not await self.client.command_slow("EXISTS", heartbeat_key(process_id))
        ]
        return sum([await self.settle_orphans_of(project_id, process_id) for process_id in dead])

    async def settle_unsent(self, *, estimates: bool = False) -> None:
        """Send unsent records from PostgreSQL. If `estimates`, also send estimates of dead processes.

        This must happen before the reservations of these requests are settled by estimates.
        """
        await self.collector.collect(estimates=estimates)

    async def settle_orphans_of(self, project_id: int, process_id: str) -> int:
        """Settle the reservations of a dead process page by page. Return the number of settled ones.

        Reservations that cannot be settled stay in Redis, and every later page begins with them. Each page is
        therefore longer by the number of these reservations, so that they do not block the others.
        """
        tried: set[bytes] = set()
        settled, stuck, is_last = 0, 0, False
        while not is_last:
            page = await self.client.run_slow(
                RESERVATIONS_BY_PROCESS, project_id, process_id, PAGE_SIZE + stuck
            )
            is_last = len(page) < 2 * (PAGE_SIZE + stuck)
            texts = dict(zip(page[::2], page[1::2], strict=True))
            stuck = len(texts.keys() & tried)
            for id in texts.keys() - tried:
                settled += await self.settle_orphan_or_log(id, texts[id])
            tried |= texts.keys()
        return settled

    async def settle_orphan_or_log(self, id: bytes, text: bytes) -> bool:
        """Settle a reservation. If its text is damaged, log this and return False."""
        try:
            reservation = RedisReservation.parse(id, text)
            await self.settle_orphan(reservation.as_estimate(), reservation.process_id)
        except (ValueError, msgspec.MsgspecError) as error:
            log.error(
                "orphan_settlement_failed",
                message="A reservation of a dead process cannot be read. It stays open.",
                error=str(error),
                reservation=text,
            )
            return False
        return True

    async def settle_orphan(self, estimate: UsageEntry, process_id: str) -> None:
        """Write the estimate of a request, and end its reservation.

        If the process of the request is alive after all, it finds the dedup marker and corrects the estimate.
        """
        stored, _ = await self.record_store.find_record(estimate.project_id, estimate.id)
        if stored is not None:
            # The request is already settled, but Redis has lost the settlement with its last writes.
            estimate.cost_nano, estimate.tokens = stored.cost_nano, stored.tokens
        failpoint("settle_orphan.before")
        text = encode_entry(estimate)
        used = estimate.tokens.prompt + estimate.tokens.output
        reply = await self.client.run_slow(
            SETTLE, estimate.project_id, estimate.id.hex, estimate.cost_nano, used, estimate.key_id,
            estimate.day.isoformat(), text, text, ESTIMATE_TTL_S, 0, "", process_id,
        )  # fmt: skip
        failpoint("settle_orphan.after")
        if reply[0] == b"ok":
            record = self.outbox_writer.pending.records[estimate.id] = PendingRecord(
                estimate, is_estimate=True, process_id=process_id, never_sent=False
            )
            record.mark_written(reply[1].decode())
            log.warning(
                "orphan_settled",
                message="A reservation of a dead process was settled by an estimate: its whole amount.",
                request_id=estimate.request_id,
                cost_nano=estimate.cost_nano,
            )
