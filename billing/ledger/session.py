"""The ledger's own database connection, beside Django's: SQLite or PostgreSQL behind the same two verbs."""

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import psycopg
from django.conf import settings

from billing.ledger.steps import Session

BUSY_S = 10
"""How long another writer, such as a page that saves a form, may keep the ledger waiting."""
BUSY_STEP_S = 0.01
LOCK_SPACE = 0x1ED6
"""The first number of our PostgreSQL advisory locks, which keeps them apart from anyone else's in the same database."""
HANDOVER_S = 40
HANDOVER_STEP_S = 0.5


def lock_beside(database: Path) -> Path:
    """The file that the only process on a SQLite database locks."""
    return database.with_suffix(".lock")


class InUse(Exception):
    """Another gateway process uses this database alone."""


DatabaseErrors = (sqlite3.Error, psycopg.Error, OSError)


class Connection(Session, Protocol):
    async def begin(self) -> None: ...
    async def commit(self) -> None: ...
    async def rollback(self) -> None: ...
    async def close(self) -> None: ...


@lru_cache(maxsize=64)
def question_marks(sql: str) -> str:
    return sql.replace("%s", "?")


class SqliteConnection:
    """Runs in the event loop's own thread: a statement takes microseconds, and another thread would wait for the
    interpreter lock at each one. A commit only appends to the write-ahead log (no fsync, synchronous=NORMAL), which
    survives a killed process. Checkpoints are the pages' connections' business as well as this one's."""

    def __init__(self, path: str) -> None:
        self.connection = sqlite3.connect(path, timeout=0, isolation_level=None, cached_statements=256)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=NORMAL")
        self.cursor = self.connection.cursor()

    async def run(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.cursor.execute(question_marks(sql), params).fetchall()

    async def begin(self) -> None:
        """Waits for another writer without keeping the event loop."""
        deadline = time.monotonic() + BUSY_S
        while True:
            try:
                self.cursor.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(BUSY_STEP_S)

    async def commit(self) -> None:
        self.cursor.execute("COMMIT")

    async def rollback(self) -> None:
        if self.connection.in_transaction:
            self.cursor.execute("ROLLBACK")

    async def close(self) -> None:
        self.connection.close()


class PostgresConnection:
    """Reconnects after a failure, at the next transaction. `exclusive`: no other exclusive connection may exist."""

    def __init__(self, *, exclusive: bool = False, **parameters: Any) -> None:
        self.exclusive = exclusive
        self.parameters = parameters
        self.connection: psycopg.AsyncConnection[Any] | None = None

    async def run(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        assert self.connection is not None
        cursor = await self.connection.execute(sql, params)
        return await cursor.fetchall() if cursor.description else []

    async def begin(self) -> None:
        if self.connection is None or self.connection.broken:
            self.connection = await psycopg.AsyncConnection.connect(**self.parameters, autocommit=True, prepare_threshold=2)
            await self.connection.execute("SET timezone = 'UTC'")
            if self.exclusive:
                await self.shut_others_out(self.connection)
        await self.connection.execute("BEGIN")

    async def shut_others_out(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Holds a lock for as long as the connection lives. A process that is being replaced has the time that it needs to end."""
        deadline = time.monotonic() + HANDOVER_S
        while True:
            cursor = await connection.execute("SELECT pg_try_advisory_lock(%s, 0)", (LOCK_SPACE,))
            row = await cursor.fetchone()
            if row and row[0]:
                return
            if time.monotonic() > deadline:
                await self.close()
                raise InUse("another gateway process uses this database: several need REDIS_URL")
            await asyncio.sleep(HANDOVER_STEP_S)

    async def commit(self) -> None:
        assert self.connection is not None
        await self.connection.execute("COMMIT")

    async def rollback(self) -> None:
        if self.connection is None:
            return
        with suppress(psycopg.Error):
            await self.connection.execute("ROLLBACK")
            return
        await self.close()

    async def close(self) -> None:
        if self.connection is not None:
            await self.connection.close()
            self.connection = None


def connect(*, exclusive: bool = False) -> Connection:
    """A connection of its own to the database that Django uses; on PostgreSQL, perhaps the only one of its kind."""
    database: dict[str, Any] = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        return SqliteConnection(str(database["NAME"]))
    parameters = {
        "dbname": database["NAME"],
        "user": database["USER"],
        "password": database["PASSWORD"],
        "host": database["HOST"],
        "port": database["PORT"],
    }
    return PostgresConnection(exclusive=exclusive, **{name: value for name, value in parameters.items() if value}, **database["OPTIONS"])
