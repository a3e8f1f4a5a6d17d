"""The roll-up: recompute the daily sums of usage from the usage records."""

from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import structlog
from django.db import transaction

from billing.models import ArchivedUsage, DailyUsage, StaleDay, UsageRecord
from billing.usage.reports import UsageTotals, group_records

DIMENSIONS = ("key_id", "requested_model", "provider")
"""Columns of a roll-up row that identify it within its day."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RollupResult:
    """The number of recomputed days, and an error message for each day that failed and stays stale."""

    days: int
    failures: list[str]


def rebuild_from(first: date) -> RollupResult:
    """Recompute, in all projects, the days since `first` that have records or sums."""
    records = UsageRecord.objects.filter(day__gte=first).values_list("project", "day")
    sums = DailyUsage.objects.filter(day__gte=first).values_list("project", "day")
    archived = ArchivedUsage.objects.filter(day__gte=first).values_list("project", "day")
    StaleDay.objects.mark(records.union(sums, archived))
    return roll_up_stale_days()


def roll_up_stale_days() -> RollupResult:
    """Recompute every stale day. A day that fails stays stale and does not stop the others."""
    StaleDay.objects.delete_without_project()
    recomputed, failures = 0, []
    for stale_day in StaleDay.objects.select_related("project"):
        try:
            roll_up_day(stale_day)
            recomputed += 1
        except Exception as error:
            if not was_project_deleted(stale_day):
                failures.append(report_failure(stale_day, error))
    return RollupResult(recomputed, failures)


def roll_up_day(stale_day: StaleDay) -> None:
    """Replace the sums of a day by new sums over its records, including archived ones.

    The records are summed before the transaction takes the write lock. If the version of the stale day has
    changed since it was read, a record was added in the meantime. The new sums are then discarded, and the
    next run sums the day again.
    """
    rows = sum_records(stale_day)
    with transaction.atomic():
        deleted, _ = StaleDay.objects.filter(pk=stale_day.pk, version=stale_day.version).delete()
        if deleted:
            DailyUsage.objects.filter(project=stale_day.project, day=stale_day.day).delete()
            DailyUsage.objects.bulk_create(rows)


def sum_records(stale_day: StaleDay) -> list[DailyUsage]:
    project, day = stale_day.project, stale_day.day
    records = UsageRecord.objects.filter(project=project, day=day)
    records.forget_deleted_keys()
    archived = ArchivedUsage.objects.filter(project=project, day=day)
    by_group: defaultdict[Any, UsageTotals] = defaultdict(UsageTotals)
    for group, totals in group_records(records, archived, *DIMENSIONS):
        by_group[group] += totals
    return [
        DailyUsage(project=project, day=day, **dict(zip(DIMENSIONS, group, strict=True)), **asdict(totals))
        for group, totals in by_group.items()
    ]


def was_project_deleted(stale_day: StaleDay) -> bool:
    """Return whether the project was deleted while its day was summed. If so, delete the stale day."""
    return StaleDay.objects.filter(pk=stale_day.pk).delete_without_project() > 0


def report_failure(stale_day: StaleDay, error: Exception) -> str:
    log.error(
        "usage_rollup_failed",
        message="The usage of a day could not be summed. The next roll-up tries it again.",
        project_id=stale_day.project_id,
        day=stale_day.day.isoformat(),
        exc_info=error,
    )
    return f"project {stale_day.project_id}, {stale_day.day}: {type(error).__name__}: {error}"
