"""What the SQL ledger's tables say, as of one moment, for the audit."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction

from billing.audit import Held, State, Window, recorded_spends
from billing.ledger.session import LOCK_SPACE
from billing.ledger.steps import split
from billing.models import BudgetWindow, Reservation


def sql_state(*, served: bool) -> State:
    """`served`: a gateway process uses this database, whose requests are under way; otherwise nobody will end them."""
    with one_moment():
        windows = {row.pk: row for row in BudgetWindow.objects.all()}
        held = [
            Held(
                row.pk,
                row.amount_nano,
                frozenset((windows[id].budget_id, windows[id].name) for id in split(row.windows) if id in windows),
                orphaned=not served,
            )
            for row in Reservation.objects.all()
        ]
        kept = [Window(row.budget_id, row.name, row.spent_nano, row.reserved_nano) for row in windows.values()]
        return State(kept, held, recorded_spends())


@contextmanager
def one_moment() -> Iterator[None]:
    """All queries inside see the same rows. SQLite's transactions are like that; PostgreSQL must be asked."""
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield


def postgresql_is_served() -> bool:
    """Whether a gateway process holds the lock of the only one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, 0)", (LOCK_SPACE,))
        row = cursor.fetchone()
        if row and row[0]:
            cursor.execute("SELECT pg_advisory_unlock(%s, 0)", (LOCK_SPACE,))
            return False
    return True
