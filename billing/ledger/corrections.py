"""Writes corrections of settled records. Commands do this while gateway processes run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from django.db import connection, transaction

from billing.ledger.reader import current_reader
from billing.ledger.usage_entry import UsageEntry


@contextmanager
def lock_budget_windows() -> Iterator[None]:
    """Open a transaction during which no other connection creates or changes a budget window in SQL.

    Without the lock, a window that another process creates from the sum of the records could miss a
    correction, or count it twice. On SQLite, the transaction holds the only write lock. On PostgreSQL, it
    locks the table of windows, so settlements of an SQL ledger wait until it ends.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("LOCK TABLE billing_budgetwindow IN SHARE ROW EXCLUSIVE MODE")
        yield


def save_corrections(corrections: Sequence[UsageEntry]) -> None:
    """Write corrections, and add their costs to the open windows of their days.

    Must be called within `lock_budget_windows`. Windows that no request has opened yet need no addition: they
    are created later from the sum of all records, including corrections. Raises LedgerUnavailable.
    """
    current_reader().save_corrections(corrections)
