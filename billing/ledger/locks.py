"""Whether a gateway process serves from a database: asked of the locks that it holds (`session.py`)."""

import fcntl

from django.conf import settings
from django.db import connection

from billing.ledger.session import LOCK_SPACE, lock_beside


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
