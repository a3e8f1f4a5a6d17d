"""The audit: read a snapshot of the ledger of every project, and report mismatches."""

import time
from dataclasses import dataclass, field

import structlog

from billing.ledger.audit.checks import find_mismatches, find_overruns
from billing.ledger.audit.snapshot import Mismatch, Overrun
from billing.ledger.reader import current_reader

RECHECK_DELAY_S = 1.0
"""Time between the first and the second pass.

SQL and Redis are not read atomically, and a gateway process may just be starting. Mismatches with such a
cause do not occur again in the second pass, and are not reported.
"""

log = structlog.get_logger()


@dataclass
class AuditReport:
    """The result of an audit.

    `overruns` are windows that exceed their limit in a way that the operator allows. `skipped_backlogs` maps
    projects that were not audited, because of too many undrained records, to the number of these records.
    """

    windows: int = 0
    open_reservations: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)
    overruns: list[Overrun] = field(default_factory=list)
    skipped_backlogs: dict[int, int] = field(default_factory=dict)


def run_audit() -> AuditReport:
    """Audit all projects. Mismatches are reported only if a second pass confirms them."""
    report = audit_once()
    if report.mismatches:
        seen = {(each.rule, each.subject) for each in report.mismatches}
        time.sleep(recheck_delay_s(report))
        skipped_backlogs, report = report.skipped_backlogs, audit_once()
        report.mismatches = [each for each in report.mismatches if (each.rule, each.subject) in seen]
        report.skipped_backlogs = skipped_backlogs | report.skipped_backlogs
    log_report(report)
    return report


def recheck_delay_s(report: AuditReport) -> float:
    """Return the seconds until the second pass.

    If there are reservations of dead processes, the delay is long enough for the gateway to settle them.
    """
    has_orphans = any(each.rule == "I4" for each in report.mismatches)
    return current_reader().orphan_recheck_delay_s if has_orphans else RECHECK_DELAY_S


def audit_once() -> AuditReport:
    report = AuditReport()
    for snapshot in current_reader().snapshots():
        report.windows += len(snapshot.windows)
        report.open_reservations += len(snapshot.reservations)
        report.mismatches += find_mismatches(snapshot)
        report.overruns += find_overruns(snapshot)
        if snapshot.backlog:
            report.skipped_backlogs[snapshot.project_id] = snapshot.backlog
    return report


def log_report(report: AuditReport) -> None:
    for overrun in report.overruns:
        log.warning(
            "budget_overrun_allowed",
            message="Requests that were admitted while Redis was down took a budget beyond its limit.",
            window=overrun.subject,
            limit_nano=overrun.limit,
            used_nano=overrun.used,
        )
    for project_id, backlog in report.skipped_backlogs.items():
        log.warning(
            "ledger_audit_project_skipped",
            message="A project was not audited, because Redis has too many of its records. Repeat the audit.",
            project_id=project_id,
            backlog=backlog,
        )
