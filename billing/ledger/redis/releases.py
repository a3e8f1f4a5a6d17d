"""Ends reservations without a record: those of denied requests, and those of deferred requests."""

import structlog

from billing.ledger.redis.client.client import CommandRejected, RedisClient
from billing.ledger.redis.client.scripts import CANCEL, DEFER
from billing.ledger.redis.outbox.pending_state import PendingState
from billing.ledger.redis.outbox.writer import DEDUP_TTL_S

log = structlog.get_logger()


async def end_reservations(client: RedisClient, pending: PendingState) -> None:
    """End the reservations in `pending_cancellations` and `pending_deferrals`.

    Raises RedisUnavailable. The remaining reservations then stay pending. Ending a reservation twice has no
    effect.
    """
    for script, waiting in ((CANCEL, pending.pending_cancellations), (DEFER, pending.pending_deferrals)):
        for id, project_id in list(waiting.items()):
            try:
                await client.run_fast(script, project_id, id.hex, DEDUP_TTL_S)
            except CommandRejected as error:
                log.error(
                    "reservation_release_failed",
                    message="Redis could not end a reservation. It may stay open.",
                    project_id=project_id,
                    id=id.hex,
                    error=str(error),
                )
            waiting.pop(id, None)
