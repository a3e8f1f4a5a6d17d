"""Snapshots of the Redis ledger, with the records in the database as of the same moment."""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

from billing.budgets.windows import window_name
from billing.ledger.audit.snapshot import (
    LedgerSnapshot,
    Mismatch,
    ReservationSnapshot,
    WindowSnapshot,
    read_or_report,
)
from billing.ledger.audit.sql_snapshot import consistent_read, existing_ids, load_budgets, load_records
from billing.ledger.interface import WINDOW_RETENTION
from billing.ledger.redis import queries
from billing.ledger.redis.reservation import RedisReservation
from billing.ledger.usage_entry import decode_entry
from billing.models import Budget, StreamCursor, UnsentRecord

MAX_ATTEMPTS = 20
MAX_REPORTED_UNSENT = 1000
"""Maximum number of unsent records that are reported as mismatches.

More of them mean that Redis was down until just now: sending them takes longer than an audit.
"""
NO_PROJECT = 0


class SnapshotUnstable(Exception):
    """Raised if the record stream was trimmed during every attempt to read a snapshot."""


def redis_snapshots() -> Iterator[LedgerSnapshot]:
    """Yield a snapshot of each project that has data in Redis or a stream cursor in the database."""
    drained_projects = StreamCursor.objects.values_list("project_id", flat=True)
    for project_id in sorted({*queries.project_ids(), *drained_projects}):
        yield read_or_report(project_id, partial(load_redis_snapshot, project_id))
    yield LedgerSnapshot(NO_PROJECT, read_errors=list(unsent_records()))


def load_redis_snapshot(project_id: int) -> LedgerSnapshot:
    """Read the drained records from SQL and the undrained records from Redis, as of the same moment.

    The stream cursor in SQL says up to which record the stream is drained. The function reads the cursor,
    then Redis. If the stream was trimmed beyond the cursor in between, both reads are repeated. This is rare,
    because no other query runs between them. Raises SnapshotUnstable after MAX_ATTEMPTS.

    If the stream is too long, the snapshot contains only its length (`backlog`).
    """
    names = recent_window_names(load_budgets(project_id))
    for _ in range(MAX_ATTEMPTS):
        with consistent_read():
            cursor = StreamCursor.objects.filter(project=project_id).first()
            last_id = f"{cursor.last_id_ms}-{cursor.last_id_seq}" if cursor else "0-0"
            match queries.read_snapshot(project_id, last_id, names):
                case queries.RedisSnapshot() as snapshot:
                    return to_ledger_snapshot(project_id, snapshot)
                case queries.Backlog(count):
                    return LedgerSnapshot(project_id, backlog=count)
                case None:
                    continue
    raise SnapshotUnstable(f"project {project_id}")


def to_ledger_snapshot(project_id: int, redis_snapshot: queries.RedisSnapshot) -> LedgerSnapshot:
    # The database may already have a record that is after the cursor.
    stored_ids = existing_ids([entry.id for entry in redis_snapshot.undrained_records])
    snapshot = LedgerSnapshot(
        project_id,
        load_budgets(project_id),
        undrained_records=[entry for entry in redis_snapshot.undrained_records if entry.id not in stored_ids],
    )
    snapshot.windows = [
        WindowSnapshot(*window) for window in redis_snapshot.windows if window[0] in snapshot.budgets
    ]
    snapshot.reservations = [
        to_reservation_snapshot(each, redis_snapshot.live_processes) for each in redis_snapshot.reservations
    ]
    snapshot.read_errors = list(read_errors(project_id, redis_snapshot))
    snapshot.records = load_records(snapshot)
    snapshot.records.settled_ids |= {entry.id for entry in redis_snapshot.undrained_records}
    return snapshot


def to_reservation_snapshot(reservation: RedisReservation, live_processes: set[str]) -> ReservationSnapshot:
    estimate = decode_entry(reservation.estimate)
    return ReservationSnapshot(
        reservation.id,
        reservation.key_id,
        reservation.day,
        estimate.created_at,
        reservation.amount,
        frozenset(reservation.windows),
        is_orphaned=reservation.process_id not in live_processes,
        unchecked=estimate.unchecked,
    )


def read_errors(project_id: int, snapshot: queries.RedisSnapshot) -> Iterator[Mismatch]:
    for window, amounts in snapshot.unreadable_windows:
        subject = f"budget {window.replace('/', ', window ')}: spent and reserved"
        yield Mismatch("I5", subject, "whole numbers", amounts)
    for window in snapshot.unindexed_windows:
        yield Mismatch("I5", f"budget {window.replace('/', ', window ')}: in the list of open windows", 1, 0)
    if not snapshot.is_registered:
        yield Mismatch("I4", f"project {project_id}: in the set of projects that are drained", 1, 0)


def unsent_records() -> Iterator[Mismatch]:
    """Yield a mismatch for each unsent record in the database, because Redis is up and should have it."""
    unsent = UnsentRecord.objects.filter(owner="").order_by("pk").values_list("pk", flat=True)
    ids = unsent[: MAX_REPORTED_UNSENT + 1]
    if len(ids) <= MAX_REPORTED_UNSENT:
        for id in ids:
            yield Mismatch("I4", f"record {id} that waits in the database: in Redis", 1, 0)


def recent_window_names(budgets: dict[int, Budget]) -> list[str]:
    """Return the names of all windows that Redis has not deleted yet, if a request has opened them."""
    days = range(WINDOW_RETENTION.days + 1)
    names = {
        f"{budget.pk}/{window_name(budget.period, budget.project.today() - timedelta(days=ago))}"
        for budget in budgets.values()
        for ago in days
    }
    return sorted(names)
