"""What Redis says of a project, with what the database says as of the same moment, for the audit."""

from collections.abc import Iterator
from datetime import timedelta

from billing.budgets.windows import window_name
from billing.ledger.audit.checks import LedgerSnapshot, Mismatch, ReservationSnapshot, WindowSnapshot
from billing.ledger.audit.sql_snapshot import consistent_read, existing_ids, load_budgets, load_records
from billing.ledger.redis import reader
from billing.ledger.redis.windows import RETENTION_AFTER_END
from billing.ledger.usage_entry import decode_entry
from billing.models import Budget, StreamCursor

MAX_ATTEMPTS = 20


class SnapshotUnstable(Exception):
    """The books moved on at every look."""


def load_redis_snapshot(project_id: int) -> LedgerSnapshot:
    """The records up to an event of the outbox, and what Redis says with the events after that one; nothing of either where the outbox
    is too long to be read. Raises Unsettled where events left it, while it was read, at every attempt: nothing else is asked between
    the two.
    """
    names = recent_window_names(load_budgets(project_id))
    for _ in range(MAX_ATTEMPTS):
        with consistent_read():
            cursor = StreamCursor.objects.filter(project=project_id).first()
            last_id = f"{cursor.last_id_ms}-{cursor.last_id_seq}" if cursor else "0-0"
            match reader.snapshot(project_id, last_id, names):
                case reader.RedisSnapshot() as snapshot:
                    return to_ledger_snapshot(project_id, snapshot)
                case reader.Backlog(backlog):
                    return LedgerSnapshot(project_id, backlog=backlog)
                case None:
                    continue
    raise SnapshotUnstable(f"project {project_id}")


def to_ledger_snapshot(project_id: int, snapshot: reader.RedisSnapshot) -> LedgerSnapshot:
    """An event may be in the database before it is noted there how far its outbox was taken."""
    stored_ids = existing_ids([entry.id for entry in snapshot.undrained_records])
    ledger_snapshot = LedgerSnapshot(
        project_id,
        load_budgets(project_id),
        undrained_records=[entry for entry in snapshot.undrained_records if entry.id not in stored_ids],
    )
    ledger_snapshot.windows = [
        WindowSnapshot(*each) for each in snapshot.windows if each[0] in ledger_snapshot.budgets
    ]
    ledger_snapshot.reservations = [
        to_reservation_snapshot(each, snapshot.live_processes) for each in snapshot.reservations
    ]
    ledger_snapshot.read_errors = list(read_errors(project_id, snapshot))
    ledger_snapshot.records = load_records(ledger_snapshot)
    ledger_snapshot.records.settled_ids |= {entry.id for entry in snapshot.undrained_records}
    return ledger_snapshot


def to_reservation_snapshot(
    reservation: reader.RedisReservation, live_processes: set[str]
) -> ReservationSnapshot:
    estimate = decode_entry(reservation.estimate)
    is_orphaned = reservation.process_id not in live_processes
    return ReservationSnapshot(
        reservation.id,
        reservation.key_id,
        reservation.day,
        estimate.created_at,
        reservation.amount,
        frozenset(reservation.windows),
        is_orphaned,
        estimate.unchecked,
    )


def read_errors(project_id: int, snapshot: reader.RedisSnapshot) -> Iterator[Mismatch]:
    for window, amounts in snapshot.unreadable_windows:
        yield Mismatch(
            "I5", f"budget {window.replace('/', ', window ')}: spent and reserved", "whole numbers", amounts
        )
    for window in snapshot.unindexed_windows:
        yield Mismatch("I5", f"budget {window.replace('/', ', window ')}: in the list of open windows", 1, 0)
    if not snapshot.is_drained:
        yield Mismatch(
            "I4", f"project {project_id}: among those whose records are taken to the database", 1, 0
        )


def recent_window_names(budgets: dict[int, Budget]) -> list[str]:
    """Those that Redis keeps if any request has asked of them."""
    days = range(RETENTION_AFTER_END.days + 1)
    names = {
        f"{budget.pk}/{window_name(budget.period, budget.project.today() - timedelta(days=ago))}"
        for budget in budgets.values()
        for ago in days
    }
    return sorted(names)
