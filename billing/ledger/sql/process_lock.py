"""Whether a gateway process serves from a database: asked of the locks that it holds (`sql/connection.py`)."""

import fcntl
from pathlib import Path

from django.conf import settings
from django.db import connection

ADVISORY_LOCK_CLASS = 0x1ED6
"""The first number of our PostgreSQL advisory locks, which keeps them apart from anyone else's in the same database."""


def lock_file_for(database: Path) -> Path:
    """The file that the only process on a SQLite database locks."""
    return database.with_suffix(".lock")


def is_sqlite_locked() -> bool:
    """Whether a gateway process holds the lock beside its database."""
    try:
        with lock_file_for(settings.ENV.sqlite_path).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def is_postgresql_locked() -> bool:
    """Whether a gateway process holds the lock of the only one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, 0)", (ADVISORY_LOCK_CLASS,))
        row = cursor.fetchone()
        if row and row[0]:
            cursor.execute("SELECT pg_advisory_unlock(%s, 0)", (ADVISORY_LOCK_CLASS,))
            return False
    return True
