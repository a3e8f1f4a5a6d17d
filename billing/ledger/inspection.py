"""What the ledger's store says, as of one moment, for the audit."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import connection, transaction

from billing.audit import Held, Spend, State, Window, over, recorded_spends
from billing.ledger.redis import reader
from billing.ledger.session import LOCK_SPACE, lock_beside
from billing.ledger.steps import split
from billing.models import BudgetWindow, Outbox, Reservation

RESOLVED_S = 45
"""Within this time, what a dead process held is resolved by another one."""
ATTEMPTS = 20


class Unsettled(Exception):
    """The books moved on at every look."""


def current_state() -> State:
    """Of the ledger that the environment names."""
    if settings.ENV.redis_url:
        return redis_state()
    return sql_state(served=postgresql_is_served() if settings.ENV.database_url else sqlite_is_served())


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


def redis_state() -> State:
    """Project by project: the records up to an event of its outbox, and what Redis says with the events after that one."""
    state = State([], [])
    for project_id in reader.projects():
        found = project_state(project_id)
        state.windows += found.windows
        state.held += found.held
        state.spends += found.spends
    return state


def project_state(project_id: int) -> State:
    """Raises Unsettled where events left the outbox, while it was read, at every attempt."""
    for _ in range(ATTEMPTS):
        with one_moment():
            drained = Outbox.objects.filter(project=project_id).first()
            spends = recorded_spends(project_id)
        snapshot = reader.snapshot(project_id, after=f"{drained.drained_ms}-{drained.drained_seq}" if drained else "0-0")
        if snapshot is not None:
            windows = [Window(each.budget_id, each.name, each.spending.spent, each.spending.reserved) for each in snapshot.windows]
            held = [
                Held(each.id, each.amount, frozenset(each.windows), orphaned=not each.process_lives and (each.age_s or 0) > RESOLVED_S)
                for each in snapshot.held
            ]
            waiting = [Spend(entry.project_id, entry.key_id, entry.day, entry.cost_nano, over(entry)) for entry in snapshot.events]
            return State(windows, held, spends + waiting)
    raise Unsettled(f"project {project_id}")


@contextmanager
def one_moment() -> Iterator[None]:
    """All queries inside see the same rows. SQLite's transactions are like that; PostgreSQL must be asked."""
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield


def sqlite_is_served() -> bool:
    """Whether a gateway process holds the lock beside its database."""
    try:
        with lock_beside(settings.ENV.sqlite_path).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def postgresql_is_served() -> bool:
    """Whether a gateway process holds the lock of the only one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, 0)", (LOCK_SPACE,))
        row = cursor.fetchone()
        if row and row[0]:
            cursor.execute("SELECT pg_advisory_unlock(%s, 0)", (LOCK_SPACE,))
            return False
    return True
