"""The ledger's connection to SQLite, which is separate from the connections of Django."""

import asyncio
import math
import sqlite3
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

BUSY_TIMEOUT_S = 10
"""How long another writer may block the ledger, for example a page that saves a form."""
BUSY_POLL_INTERVAL_S = 0.01
BUSY_GAP_S = 1.0
"""Maximum time between two failed attempts that count as blocked by the same writer."""


@lru_cache(maxsize=64)
def to_qmark(sql: str) -> str:
    return sql.replace("%s", "?")


class SqliteConnection:
    """Runs statements in the thread of the event loop.

    A statement takes microseconds. In another thread, each statement would have to wait for the interpreter
    lock. A commit only appends to the write-ahead log, without fsync (synchronous=NORMAL). The log survives
    if the process is killed. Every connection to the database, including Django's, may have to checkpoint the
    log when it commits.
    """

    def __init__(self, path: str) -> None:
        self.connection = sqlite3.connect(path, timeout=0, isolation_level=None, cached_statements=256)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=NORMAL")
        self.cursor = self.connection.cursor()
        self.busy_since = self.last_busy_at = -math.inf

    async def run(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.cursor.execute(to_qmark(sql), params).fetchall()

    async def begin(self) -> None:
        """Begin a transaction. Wait for other writers without blocking the event loop.

        BUSY_TIMEOUT_S starts when the first transaction finds the database locked. If the timeout started
        again for each transaction that waits, the last one would wait for several timeouts.
        """
        while True:
            try:
                self.cursor.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or self.has_waited_enough():
                    raise
            else:
                self.busy_since = self.last_busy_at = -math.inf
                return
            await asyncio.sleep(BUSY_POLL_INTERVAL_S)

    def has_waited_enough(self) -> bool:
        """Note that the database is locked. Return whether it has been locked for BUSY_TIMEOUT_S."""
        now = time.monotonic()
        if now - self.last_busy_at > BUSY_GAP_S:
            self.busy_since = now
        self.last_busy_at = now
        return now - self.busy_since > BUSY_TIMEOUT_S

    async def commit(self) -> None:
        self.cursor.execute("COMMIT")

    async def rollback(self) -> None:
        if self.connection.in_transaction:
            self.cursor.execute("ROLLBACK")

    async def close(self) -> None:
        self.connection.close()
