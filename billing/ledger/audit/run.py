"""Looks at the books of all projects, as of one moment each, and says what does not agree."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import structlog
from django.conf import settings

from billing.ledger.audit.checks import (
    LedgerSnapshot,
    Mismatch,
    Overrun,
    ReservationSnapshot,
    WindowSnapshot,
    find_mismatches,
    overruns,
)
from billing.ledger.audit.redis_snapshot import load_redis_snapshot
from billing.ledger.audit.sql_snapshot import consistent_read, load_budgets, load_records
from billing.ledger.redis import reader
from billing.ledger.sql.process_lock import is_postgresql_locked, is_sqlite_locked
from billing.ledger.sql.transactions import split_window_ids
from billing.ledger.usage_entry import decode_entry
from billing.models import BudgetWindow, Reservation, StreamCursor, UnsentRecord
from projects.models import Project

RECHECK_DELAY_S = 1.0
"""Two stores are not read at one moment, nor is a gateway seen to start: what is wrong is still wrong after this time."""
ORPHAN_RECHECK_DELAY_S = 15.0
"""A process without a sign of life has been dead for 30 s; what it held is resolved within 45 s of its death."""

MOST_UNCOUNTED = 1000
"""More records than these may take longer to be brought to Redis than the audit waits: it follows an outage."""
NO_PROJECT = 0

log = structlog.get_logger()


@dataclass
class AuditReport:
    """How much was looked at, and what was found. `overruns`: windows that may be beyond their limit. `skipped_backlogs`: how many records wait
    to be written of each project whose books were not compared because of that.
    """

    windows: int = 0
    open_reservations: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)
    overruns: list[Overrun] = field(default_factory=list)
    skipped_backlogs: dict[int, int] = field(default_factory=dict)


def run_audit() -> AuditReport:
    """What a second look still finds, where the first finds anything."""
    report = audit_once()
    if report.mismatches:
        seen = {(each.rule, each.subject) for each in report.mismatches}
        time.sleep(
            ORPHAN_RECHECK_DELAY_S
            if settings.ENV.redis_url and any(rule == "I4" for rule, _ in seen)
            else RECHECK_DELAY_S
        )
        skipped_backlogs, report = report.skipped_backlogs, audit_once()
        report.mismatches = [each for each in report.mismatches if (each.rule, each.subject) in seen]
        report.skipped_backlogs = skipped_backlogs | report.skipped_backlogs
    for overrun in report.overruns:
        log.warning(
            "budget_overrun_allowed",
            window=overrun.subject,
            limit_nano=overrun.limit,
            taken_nano=overrun.taken,
        )
    for project_id, backlog in report.skipped_backlogs.items():
        log.warning(
            "the books of a project are not compared: many records wait to be written",
            project_id=project_id,
            waiting=backlog,
        )
    return report


def audit_once() -> AuditReport:
    report = AuditReport()
    for snapshot in snapshots():
        report.windows += len(snapshot.windows)
        report.open_reservations += len(snapshot.reservations)
        report.mismatches += find_mismatches(snapshot)
        report.overruns += overruns(snapshot)
        if snapshot.backlog:
            report.skipped_backlogs[snapshot.project_id] = snapshot.backlog
    return report


def snapshots() -> Iterator[LedgerSnapshot]:
    """Of the ledger that the environment names."""
    if settings.ENV.redis_url:
        return redis_snapshots()
    return sql_snapshots(
        is_served=is_postgresql_locked() if settings.ENV.database_url else is_sqlite_locked()
    )


def sql_snapshots(*, is_served: bool) -> Iterator[LedgerSnapshot]:
    """Project by project. `is_served`: a gateway process uses this database, whose requests are under way; otherwise nobody will end them."""
    reserving_projects = Reservation.objects.values_list("project_id")
    for (project_id,) in Project.objects.values_list("pk").union(reserving_projects):
        yield read_or_report(project_id, partial(load_sql_snapshot, project_id, is_served=is_served))


def redis_snapshots() -> Iterator[LedgerSnapshot]:
    """The same, of all projects that Redis or the database knows."""
    for project_id in sorted(
        {*reader.project_ids(), *StreamCursor.objects.values_list("project_id", flat=True)}
    ):
        yield read_or_report(project_id, partial(load_redis_snapshot, project_id))
    yield LedgerSnapshot(NO_PROJECT, read_errors=list(uncounted()))


def uncounted() -> Iterator[Mismatch]:
    """Return the records that wait in the database. Redis answers, so that they should have been brought there."""
    ids = (
        UnsentRecord.objects.filter(owner="")
        .order_by("pk")
        .values_list("pk", flat=True)[: MOST_UNCOUNTED + 1]
    )
    if len(ids) <= MOST_UNCOUNTED:
        yield from (Mismatch("I4", f"record {id} that waits in the database: in Redis", 1, 0) for id in ids)


def read_or_report(project_id: int, read: Callable[[], LedgerSnapshot]) -> LedgerSnapshot:
    """Books that cannot be read are a difference of their own, and do not keep the others from being read."""
    try:
        return read()
    except Exception as error:
        log.error("the books of a project cannot be read", project_id=project_id, exc_info=error)
        reason = f"{type(error).__name__}: {error}"
        return LedgerSnapshot(
            project_id,
            read_errors=[Mismatch("unread", f"project {project_id}", "books that can be read", reason)],
        )


def load_sql_snapshot(project_id: int, *, is_served: bool) -> LedgerSnapshot:
    with consistent_read():
        snapshot = LedgerSnapshot(project_id, load_budgets(project_id))
        rows = BudgetWindow.objects.filter(budget__project=project_id)
        windows = {
            row.pk: WindowSnapshot(row.budget_id, row.name, row.spent_nano, row.reserved_nano) for row in rows
        }
        snapshot.windows = list(windows.values())
        reservations = Reservation.objects.filter(project=project_id)
        snapshot.reservations = [
            reservation_from_row(row, windows, is_orphaned=not is_served) for row in reservations
        ]
        snapshot.records = load_records(snapshot)
        return snapshot


def reservation_from_row(
    row: Reservation, windows: dict[int, WindowSnapshot], *, is_orphaned: bool
) -> ReservationSnapshot:
    estimate = decode_entry(row.estimate)
    names = frozenset(windows[id].id for id in split_window_ids(row.windows) if id in windows)
    return ReservationSnapshot(
        row.pk, estimate.key_id, estimate.day, estimate.created_at, row.amount_nano, names, is_orphaned
    )
