"""The ledger's own database connection, beside Django's: SQLite or PostgreSQL behind the same two verbs."""

import asyncio
import math
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import psycopg
from django.conf import settings
from psycopg import waiting

from billing.ledger.steps import Session
from projects.durability import SYNCHRONOUS_COMMIT
from projects.patience import LOOK_AGAIN_S, resumed, watch

BUSY_S = 10
"""How long another writer, such as a page that saves a form, may keep the ledger waiting."""
BUSY_STEP_S = 0.01
BUSY_GAP_S = 1.0
"""Longest time between two attempts that count as having found the same lock."""
LOCK_SPACE = 0x1ED6
"""The first number of our PostgreSQL advisory locks, which keeps them apart from anyone else's in the same database."""
HANDOVER_S = 40
HANDOVER_STEP_S = 0.5
DISMISSAL_S = 1.0
DISMISSAL_STEP_S = 0.02
WAKE_S = 0.1
"""How often a connection that waits looks whether its socket is still open."""
PAUSE_S = 1.0
"""After PostgreSQL has kept one waiting in vain, the others that stand in line are told so at once, and not one after the other."""
GREETING = "SET timezone = 'UTC'; SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
"""The server, too, notices within half a minute that the network between us is cut. It would keep our lock for hours."""
DISMISS = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE pid = ANY(%s) AND locktype = 'advisory' AND granted "
    "AND classid = %s AND objid = 0 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def lock_beside(database: Path) -> Path:
    """The file that the only process on a SQLite database locks."""
    return database.with_suffix(".lock")


class InUse(psycopg.OperationalError):
    """Another gateway process uses this database alone."""


class Silent(psycopg.OperationalError):
    """PostgreSQL neither answers nor refuses: what was sent may have been done, or may yet be."""


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
        self.busy_from = self.busy_at = -math.inf

    async def run(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.cursor.execute(question_marks(sql), params).fetchall()

    async def begin(self) -> None:
        """Wait for another writer without blocking the event loop.

        BUSY_S counts from the moment at which the lock was first found held. Transactions follow each other
        here: if each waited that long, the last request would wait for a multiple of it.
        """
        while True:
            try:
                self.cursor.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or self.has_waited_enough():
                    raise
            else:
                self.busy_from = self.busy_at = -math.inf
                return
            await asyncio.sleep(BUSY_STEP_S)

    def has_waited_enough(self) -> bool:
        """Note that the lock is held; return whether it has been held for BUSY_S."""
        now = time.monotonic()
        if now - self.busy_at > BUSY_GAP_S:
            self.busy_from = now
        self.busy_at = now
        return now - self.busy_from > BUSY_S

    async def commit(self) -> None:
        self.cursor.execute("COMMIT")

    async def rollback(self) -> None:
        if self.connection.in_transaction:
            self.cursor.execute("ROLLBACK")

    async def close(self) -> None:
        self.connection.close()


def always() -> bool:
    return True


class Line(psycopg.AsyncConnection[Any]):
    """Waits no longer than `patience_s` for an answer to a statement of a server that answers nobody. One that hangs would not answer
    a request to cancel it either, nor would any limit of its own count: the socket is closed."""

    patience_s: float | None = None
    is_away: Callable[[], bool]

    async def wait(self, gen: Any, interval: float = WAKE_S, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        waited, patience_s = gen, timeout or self.patience_s
        while True:
            try:
                return await waiting.wait_async(waited, self.pgconn.socket, interval=interval, timeout=patience_s)
            except psycopg.errors._WaitTimeout:
                if timeout is not None:
                    raise
                if self.is_away():
                    self.pgconn.finish()
                    raise Silent("PostgreSQL does not answer") from None
                waited, patience_s = resumed(gen) if waited is gen else waited, LOOK_AGAIN_S
            except asyncio.CancelledError:
                # Whoever waited was cancelled: what the server is at is not known.
                self.pgconn.finish()
                raise


class PostgresConnection:
    """Reconnects after a failure, at the next transaction. `exclusive`: no other exclusive connection may exist. `patience_s`: how
    long a statement may take before `is_away` is asked whether the server is just slow; how long a connection may take to be made."""

    def __init__(
        self, *, exclusive: bool = False, patience_s: float | None = None, is_away: Callable[[], bool] = always, **parameters: Any
    ) -> None:
        self.exclusive = exclusive
        self.patience_s = patience_s
        self.is_away = is_away
        self.parameters = parameters
        self.connection: Line | None = None
        self.own: list[int] = []
        self.silent_until = 0.0

    async def run(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        assert self.connection is not None
        with self.listening():
            cursor = await self.connection.execute(sql, params)
            return await cursor.fetchall() if cursor.description else []

    async def begin(self) -> None:
        if time.monotonic() < self.silent_until:
            raise Silent("PostgreSQL did not answer a moment ago")
        with self.listening():
            if self.connection is not None and await self.goes_on():
                return
            await self.open()
            await self.run("BEGIN")

    async def goes_on(self) -> bool:
        """Begins on the connection that is there; False where the server has ended it meanwhile."""
        try:
            await self.run("BEGIN")
        except Silent:
            raise
        except psycopg.OperationalError:
            await self.close()
            return False
        return True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Notes when the server says nothing."""
        try:
            yield
        except (Silent, InUse, psycopg.errors.ConnectionTimeout):
            self.silent_until = time.monotonic() + PAUSE_S
            raise

    async def open(self) -> None:
        connection = await Line.connect(**self.parameters, autocommit=True, prepare_threshold=2)
        self.own.append(connection.info.backend_pid)
        try:
            connection.patience_s, connection.is_away = self.patience_s, self.is_away
            await connection.execute(GREETING)
            await connection.execute(SYNCHRONOUS_COMMIT)
            if self.exclusive:
                await self.shut_others_out(connection)
        except BaseException:
            await connection.close()
            raise
        self.connection, self.own = connection, self.own[-1:]

    async def shut_others_out(self, connection: Line) -> None:
        """Holds a lock for as long as the connection lives. At the start, a process that is being replaced has the time that it needs
        to end. Later, who holds it is an earlier connection of this process that the server has not seen go: it is ended, and only
        with its end it is decided whether what was sent on it is committed."""
        earlier = self.own[:-1]
        patience_s, step_s = (DISMISSAL_S, DISMISSAL_STEP_S) if earlier else (HANDOVER_S, HANDOVER_STEP_S)
        deadline = time.monotonic() + patience_s
        while True:
            cursor = await connection.execute("SELECT pg_try_advisory_lock(%s, 0)", (LOCK_SPACE,))
            row = await cursor.fetchone()
            if row and row[0]:
                return
            if time.monotonic() > deadline:
                raise InUse("another gateway process uses this database: several need REDIS_URL")
            await connection.execute(DISMISS, (earlier, LOCK_SPACE))
            await asyncio.sleep(step_s)

    async def commit(self) -> None:
        await self.run("COMMIT")

    async def rollback(self) -> None:
        if self.connection is None:
            return
        with suppress(psycopg.Error):
            await self.run("ROLLBACK")
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
    given = {name: value for name, value in parameters.items() if value}
    options: dict[str, Any] = {**given, **database["OPTIONS"]}
    patience_s = settings.ENV.gateway_database_timeout_s
    return PostgresConnection(exclusive=exclusive, patience_s=patience_s, is_away=watch.is_away, **options)
