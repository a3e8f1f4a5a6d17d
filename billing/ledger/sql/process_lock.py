"""The process lock: without Redis, only one gateway process may use a database.

On SQLite, it is a lock on a file beside the database. On PostgreSQL, it is an advisory lock that the ledger's
connection acquires (`sql/postgresql.py`). This module only checks whether a process holds that lock.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.db import connection

ADVISORY_LOCK_CLASS = 0x1ED6
"""The first of the two keys of each advisory lock that the gateway acquires in PostgreSQL.

It keeps these locks apart from the locks of other programs.
"""


class DatabaseInUse(Exception):
    """Raised if another gateway process uses the database. Without Redis, only one may use it."""


def lock_file_for(database: Path) -> Path:
    """Return the path of the lock file of a SQLite database."""
    return database.with_suffix(".lock")


@contextmanager
def sqlite_process_lock(database: Path) -> Iterator[None]:
    """Hold the process lock of a SQLite database. Raises DatabaseInUse if another process holds it."""
    with lock_file_for(database).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DatabaseInUse(f"another gateway process uses {database}") from None
        lock.write(str(os.getpid()))
        yield


def is_locked() -> bool:
    """Return whether a gateway process holds the process lock of the configured database."""
    return is_postgresql_locked() if settings.ENV.database_url else is_sqlite_locked()


def is_sqlite_locked() -> bool:
    """Return whether a gateway process holds the lock of the SQLite database."""
    try:
        with lock_file_for(settings.ENV.sqlite_path).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def is_postgresql_locked() -> bool:
    """Return whether a gateway process holds the advisory lock of the PostgreSQL database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, 0)", (ADVISORY_LOCK_CLASS,))
        row = cursor.fetchone()
        if row and row[0]:
            cursor.execute("SELECT pg_advisory_unlock(%s, 0)", (ADVISORY_LOCK_CLASS,))
            return False
    return True
