"""Access to the Redis ledger for pages, alerts, commands and the audit."""

from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

from billing.ledger.audit.redis_snapshot import redis_snapshots
from billing.ledger.audit.snapshot import LedgerSnapshot
from billing.ledger.interface import Amount, LedgerLag, WindowBalance
from billing.ledger.redis import queries
from billing.ledger.redis.corrections import save_correction
from billing.ledger.usage_entry import UsageEntry


class RedisReader:
    """Implements `LedgerReader`.

    Windows, reservations and undrained records are in Redis, drained records in PostgreSQL.
    """

    orphan_recheck_delay_s = 15.0
    """A process counts as dead 30 s after its last heartbeat, and is then reaped within 15 s."""

    def window_balances(self, project_id: int, windows: Mapping[int, str]) -> dict[int, WindowBalance]:
        return queries.window_balances(project_id, windows)

    def undrained_records(self, project_id: int) -> Iterator[tuple[UUID, Amount]]:
        for entry in queries.undrained_records(project_id):
            yield entry.id, Amount(entry.key_id, entry.day, entry.cost_nano)

    def lag(self) -> LedgerLag:
        return queries.lag()

    def open_reservations(self, project_id: int) -> Iterator[tuple[UUID, Amount]]:
        for each in queries.reservations(project_id):
            yield each.id, Amount(each.key_id, each.day, each.amount)

    def save_corrections(self, corrections: Sequence[UsageEntry]) -> None:
        for correction in corrections:
            save_correction(correction)

    def snapshots(self) -> Iterator[LedgerSnapshot]:
        return redis_snapshots()
