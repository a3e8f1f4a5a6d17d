"""Corrections of settled records, written by commands that run beside the gateway's processes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from django.db import connection, transaction

from billing.ledger.reader import current_reader
from billing.ledger.usage_entry import UsageEntry


@contextmanager
def lock_budget_windows() -> Iterator[None]:
    """Open a transaction in which no budget window is created or changed in SQL.

    Otherwise a window that is created meanwhile from the sum of the records could miss a correction, or count
    it twice. On SQLite the transaction holds the only write lock. On PostgreSQL it locks the table of
    windows, so settlements wait for its end.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("LOCK TABLE billing_budgetwindow IN SHARE ROW EXCLUSIVE MODE")
        yield


def save_corrections(corrections: Sequence[UsageEntry]) -> None:
    """Write correcting records and add their costs to the open windows of their days.

    Must be called within `lock_budget_windows`. A window that no request has opened yet is created later from
    the sum of the records, corrections included. Raises LedgerUnavailable.
    """
    current_reader().save_corrections(corrections)
