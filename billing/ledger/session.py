"""The ledger's own database connection, beside Django's: SQLite or PostgreSQL behind the same two verbs."""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Protocol

import psycopg
from django.conf import settings

from billing.ledger.steps import Session

BUSY_TIMEOUT_S = 10
LOCK_SPACE = 0x1ED6
"""The first number of our PostgreSQL advisory locks, which keeps them apart from anyone else's in the same database."""
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
        self.connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, cached_statements=256)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=NORMAL")
        self.cursor = self.connection.cursor()

    async def run(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.cursor.execute(question_marks(sql), params).fetchall()

    async def lock(self, project_id: int) -> None:
        """BEGIN IMMEDIATE has locked the whole database."""

    async def begin(self) -> None:
        self.cursor.execute("BEGIN IMMEDIATE")

    async def commit(self) -> None:
        self.cursor.execute("COMMIT")

    async def rollback(self) -> None:
        if self.connection.in_transaction:
            self.cursor.execute("ROLLBACK")

    async def close(self) -> None:
        self.connection.close()


class PostgresConnection:
    """Reconnects after a failure, at the next transaction."""

    def __init__(self, **parameters: Any) -> None:
        self.parameters = parameters
        self.connection: psycopg.AsyncConnection[Any] | None = None

    async def run(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        assert self.connection is not None
        cursor = await self.connection.execute(sql, params)
        return await cursor.fetchall() if cursor.description else []

    async def lock(self, project_id: int) -> None:
        await self.run("SELECT pg_advisory_xact_lock(%s, %s)", (LOCK_SPACE, project_id))

    async def begin(self) -> None:
        if self.connection is None or self.connection.broken:
            self.connection = await psycopg.AsyncConnection.connect(**self.parameters, autocommit=True, prepare_threshold=2)
            await self.connection.execute("SET timezone = 'UTC'")
        await self.connection.execute("BEGIN")

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


def connect() -> Connection:
    """A connection of its own to the database that Django uses."""
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
    return PostgresConnection(**{name: value for name, value in parameters.items() if value}, **database["OPTIONS"])
