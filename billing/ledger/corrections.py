"""Corrections of records that were settled long ago, made by a command beside the gateway's processes: on SQL through Django, on
Redis through the outbox.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F

from billing.budgets.windows import window_names
from billing.ledger.redis.corrections import save_correction
from billing.ledger.sql.transactions import INSERT_RECORD_SQL
from billing.ledger.usage_entry import UsageEntry
from billing.models import BudgetWindow, StaleDay


@contextmanager
def lock_budget_windows() -> Iterator[None]:
    """A transaction in which no budget's window begins or moves, so that none misses a correction or counts it twice: on SQLite it
    has the only write lock; on PostgreSQL it locks the table of windows, and whoever settles waits for its end.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("LOCK TABLE billing_budgetwindow IN SHARE ROW EXCLUSIVE MODE")
        yield


def save_corrections(corrections: Sequence[UsageEntry]) -> None:
    """Keeps them and moves what the budgets have spent by their costs, while the books are closed. Raises LedgerUnavailable."""
    if settings.ENV.redis_url:
        for correction in corrections:
            save_correction(correction)
        return
    with connection.cursor() as cursor:
        cursor.executemany(INSERT_RECORD_SQL, [correction.as_row() for correction in corrections])
    adjust_windows(corrections)
    mark_days_stale({(correction.project_id, correction.day) for correction in corrections})


def adjust_windows(corrections: Sequence[UsageEntry]) -> None:
    """A window that no request has opened yet begins with the sum over its records, corrections among them."""
    of_project: Counter[tuple[int, str]] = Counter()
    of_key: Counter[tuple[int, str]] = Counter()
    for correction in corrections:
        for name in window_names(correction.day):
            of_project[correction.project_id, name] += correction.cost_nano
            of_key[correction.key_id, name] += correction.cost_nano
    for (project_id, name), amount in sorted(of_project.items()):
        windows = BudgetWindow.objects.filter(budget__project=project_id, budget__key=None, name=name)
        windows.update(spent_nano=F("spent_nano") + amount)
    for (key_id, name), amount in sorted(of_key.items()):
        BudgetWindow.objects.filter(budget__key=key_id, name=name).update(spent_nano=F("spent_nano") + amount)


def mark_days_stale(days: set[tuple[int, date]]) -> None:
    """Tells the roll-up which days of which projects have new records."""
    stale_days = [
        StaleDay(project_id=project_id, day=day, version=time.time_ns()) for project_id, day in sorted(days)
    ]
    StaleDay.objects.bulk_create(
        stale_days, update_conflicts=True, unique_fields=["project", "day"], update_fields=["version"]
    )
