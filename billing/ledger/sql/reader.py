"""Access to the SQL ledger for pages, alerts, commands and the audit, over Django's connection."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

from django.db import connection

from billing.budgets.windows import window_names
from billing.ledger.audit.snapshot import LedgerSnapshot
from billing.ledger.audit.sql_snapshot import sql_snapshots
from billing.ledger.interface import Amount, LedgerLag, WindowBalance
from billing.ledger.sql.process_lock import is_locked
from billing.ledger.sql.transactions import ADD_SPENT_SQL, INSERT_RECORD_SQL, add_spent_parameters
from billing.ledger.usage_entry import UsageEntry, decode_entry
from billing.models import BudgetWindow, Reservation, StaleDay


class SqlReader:
    """Implements `LedgerReader`. Windows, reservations and records are all in the database."""

    orphan_recheck_delay_s = 1.0
    """A short delay is enough: a new process settles the previous one's reservations before it serves."""

    def window_balances(self, project_id: int, windows: Mapping[int, str]) -> dict[int, WindowBalance]:
        rows = BudgetWindow.objects.filter(budget__in=windows, name__in=set(windows.values()))
        return {
            row.budget_id: WindowBalance(row.spent_nano, row.reserved_nano)
            for row in rows
            if windows[row.budget_id] == row.name
        }

    def undrained_records(self, project_id: int) -> Iterator[tuple[UUID, Amount]]:
        """Yield nothing, because a settlement writes its record directly to the database."""
        return iter(())

    def lag(self) -> LedgerLag:
        """Return no lag, because a settlement writes its record directly to the database."""
        return LedgerLag()

    def open_reservations(self, project_id: int) -> Iterator[tuple[UUID, Amount]]:
        for row in Reservation.objects.filter(project=project_id):
            yield row.pk, Amount(row.key_id, decode_entry(row.estimate).day, row.amount_nano)

    def save_corrections(self, corrections: Sequence[UsageEntry]) -> None:
        with connection.cursor() as cursor:
            cursor.executemany(INSERT_RECORD_SQL, [correction.as_row() for correction in corrections])
            cursor.executemany(ADD_SPENT_SQL, list(sum_by_window(corrections)))
        StaleDay.objects.mark({(correction.project_id, correction.day) for correction in corrections})

    def snapshots(self) -> Iterator[LedgerSnapshot]:
        return sql_snapshots(is_served=is_locked())


def sum_by_window(corrections: Sequence[UsageEntry]) -> Iterator[tuple[int, int, str, int, int]]:
    """Yield parameters of ADD_SPENT_SQL that add corrections to the windows of their days."""
    sums: Counter[tuple[int, int, str]] = Counter()
    for correction in corrections:
        for name in window_names(correction.day):
            sums[correction.project_id, correction.key_id, name] += correction.cost_nano
    for (project_id, key_id, name), amount_nano in sums.items():
        yield add_spent_parameters(project_id, key_id, name, amount_nano)
