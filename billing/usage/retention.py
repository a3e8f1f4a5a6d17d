"""Retention of usage records: old records are deleted, and their sums stay.

A deletion moves amounts: one transaction adds the sums of some records to `ArchivedUsage`, and deletes the
records. At any moment, the amount of a day is therefore the sum over its records and its archived usage. The
roll-up, reports, new budget windows and the audit add both, so a deletion changes none of them. A record that
arrives late for a deleted day counts like any other record, and is deleted later.
"""

import time
from collections.abc import Collection
from datetime import date, timedelta
from uuid import UUID

import structlog
from django.conf import settings
from django.db import Error as DatabaseError
from django.db.models import QuerySet

from billing.ledger.corrections import lock_budget_windows
from billing.models import ArchivedUsage, StaleDay, UsageRecord
from billing.usage.reports import ARCHIVED_SUMS
from projects.models import Project

BATCH_SIZE = 500
"""Number of records after which a transaction ends: an SQL ledger cannot settle requests during it."""

BATCH_PAUSE_S = 0.05
"""Pause between two transactions, in which the ledger can settle requests."""

log = structlog.get_logger()


def delete_expired() -> int:
    """Delete the records of all projects that are older than GATEWAY_RETENTION_DAYS. Return their number."""
    days = settings.ENV.gateway_retention_days
    if days is None:
        return 0
    return sum(delete_or_report(project, days) for project in Project.objects.order_by("pk"))


def delete_or_report(project: Project, days: int) -> int:
    """Delete a project's expired records. If that fails, log it, so that the other projects continue."""
    try:
        return delete_expired_of(project, days)
    except DatabaseError as error:
        log.error(
            "usage_retention_failed",
            message="Old usage records of a project could not be deleted. The next run tries it again.",
            project_id=project.pk,
            exc_info=error,
        )
        return 0


def delete_expired_of(project: Project, days: int) -> int:
    """Delete a project's records of days before `first_kept_day`, in batches. Return their number."""
    first_kept, deleted = first_kept_day(project.today(), days), 0
    while batch := delete_batch(project, first_kept):
        deleted += batch
        time.sleep(BATCH_PAUSE_S)
    return deleted


def first_kept_day(today: date, days: int) -> date:
    """Return the first day whose records are kept.

    The days of the current week and month are kept, because their budget windows are still in use.
    """
    return min(today - timedelta(days=days), today.replace(day=1), today - timedelta(days=today.weekday()))


def delete_batch(project: Project, first_kept: date) -> int:
    """Delete some of the records before a day, and archive their sums. Return the number of records.

    A record is deleted together with its corrections. Days that are not rolled up are left for later. The
    lock excludes `reprice`, which must see all corrections of a record or none.
    """
    records = UsageRecord.objects.for_project(project)
    with lock_budget_windows():
        stale_days = set(StaleDay.objects.filter(project=project).values_list("day", flat=True))
        expired = records.filter(day__lt=first_kept).exclude(day__in=stale_days)
        # They are ordered only by day, as in the index. For another order, the database would sort all
        # expired records.
        oldest = expired.order_by("day").values_list("pk", "corrects")[:BATCH_SIZE]
        requests = {corrected or id for id, corrected in oldest}
        archive(
            project,
            [id for id, day in with_corrections(requests) if day < first_kept and day not in stale_days],
        )
    return len(requests)


def with_corrections(requests: Collection[UUID]) -> "QuerySet[UsageRecord, tuple[UUID, date]]":
    """Return the ids and days of records and of their corrections.

    These are two queries without further conditions, so that SQLite uses the index of each column.
    """
    found = UsageRecord.objects.filter(pk__in=requests).values_list("pk", "day")
    return found.union(UsageRecord.objects.filter(corrects__in=requests).values_list("pk", "day"))


def archive(project: Project, ids: Collection[UUID]) -> None:
    """Add the sums of records to the archived usage, and delete the records.

    The records are selected by id, so that a correction that is added meanwhile is neither summed nor
    deleted. They are not filtered by project as well, because SQLite would then use the index on project and
    day for the grouping, and read all records of the project.
    """
    records = UsageRecord.objects.filter(pk__in=ids)
    records.forget_deleted_keys()
    groups = records.order_by().values("day", "key_id", "requested_model", "provider")
    ArchivedUsage.objects.bulk_create(
        ArchivedUsage(project=project, **group) for group in groups.annotate(**ARCHIVED_SUMS)
    )
    records.delete()
