"""The ledger's own database connection, beside Django's: SQLite or PostgreSQL behind the same two verbs."""

import asyncio
import math
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, Protocol

import psycopg
from django.conf import settings
from psycopg import waiting

from billing.ledger.sql.process_lock import ADVISORY_LOCK_CLASS, DatabaseInUse
from billing.ledger.sql.transactions import Executor
from projects.db.durability import SYNCHRONOUS_COMMIT
from projects.db.hang_detection import POLL_INTERVAL_S, outage_probe, wait_attempts

BUSY_TIMEOUT_S = 10
"""How long another writer, such as a page that saves a form, may keep the ledger waiting."""
BUSY_POLL_INTERVAL_S = 0.01
BUSY_GAP_S = 1.0
"""Longest time between two attempts that count as having found the same lock."""
LOCK_TIMEOUT_S = 40
LOCK_POLL_INTERVAL_S = 0.5
TERMINATE_TIMEOUT_S = 1.0
TERMINATE_POLL_INTERVAL_S = 0.02
BACKOFF_S = 1.0
"""After PostgreSQL has kept one waiting in vain, the others that stand in line are told so at once, and not one after the other."""
SESSION_SETUP = "SET timezone = 'UTC'; SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
"""The server, too, notices within half a minute that the network between us is cut. It would keep our lock for hours."""
TERMINATE_BACKENDS = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE pid = ANY(%s) AND locktype = 'advisory' AND granted "
    "AND classid = %s AND objid = 0 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class PostgresInUse(psycopg.OperationalError, DatabaseInUse):
    """Another process holds the exclusive lock of this PostgreSQL database."""


class ServerUnresponsive(psycopg.OperationalError):
    """PostgreSQL neither answers nor refuses: what was sent may have been done, or may yet be."""


DatabaseErrors = (sqlite3.Error, psycopg.Error, OSError)


class LedgerConnection(Executor, Protocol):
    async def begin(self) -> None: ...
    async def commit(self) -> None: ...
    async def rollback(self) -> None: ...
    async def close(self) -> None: ...


@lru_cache(maxsize=64)
def to_qmark(sql: str) -> str:
    return sql.replace("%s", "?")


class SqliteConnection:
    """Runs in the event loop's own thread: a statement takes microseconds, and another thread would wait for the
    interpreter lock at each one. A commit only appends to the write-ahead log (no fsync, synchronous=NORMAL), which
    survives a killed process. Checkpoints are the pages' connections' business as well as this one's.
    """

    def __init__(self, path: str) -> None:
        self.connection = sqlite3.connect(path, timeout=0, isolation_level=None, cached_statements=256)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=NORMAL")
        self.cursor = self.connection.cursor()
        self.busy_from = self.busy_at = -math.inf

    async def run(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.cursor.execute(to_qmark(sql), params).fetchall()

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
            await asyncio.sleep(BUSY_POLL_INTERVAL_S)

    def has_waited_enough(self) -> bool:
        """Note that the lock is held; return whether it has been held for BUSY_S."""
        now = time.monotonic()
        if now - self.busy_at > BUSY_GAP_S:
            self.busy_from = now
        self.busy_at = now
        return now - self.busy_from > BUSY_TIMEOUT_S

    async def commit(self) -> None:
        self.cursor.execute("COMMIT")

    async def rollback(self) -> None:
        if self.connection.in_transaction:
            self.cursor.execute("ROLLBACK")

    async def close(self) -> None:
        self.connection.close()


def _assume_down() -> bool:
    return True


class HangDetectingConnection(psycopg.AsyncConnection[Any]):
    """Waits no longer than `query_timeout_s` for an answer to a statement of a server that answers nobody. One that hangs would not answer
    a request to cancel it either, nor would any limit of its own count: the socket is closed.
    """

    query_timeout_s: float | None = None
    is_down: Callable[[], bool]

    async def wait(self, gen: Any, interval: float = POLL_INTERVAL_S, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        if timeout is not None:
            return await self.wait_once(gen, interval, timeout)
        for operation, timeout_s in wait_attempts(gen, self.query_timeout_s, self.is_down):
            with suppress(psycopg.errors._WaitTimeout):
                return await self.wait_once(operation, interval, timeout_s)
        self.pgconn.finish()
        raise ServerUnresponsive("PostgreSQL is unresponsive")

    async def wait_once(self, operation: Any, interval: float, timeout_s: float | None) -> Any:
        try:
            return await waiting.wait_async(
                operation, self.pgconn.socket, interval=interval, timeout=timeout_s
            )
        except asyncio.CancelledError:
            # The statement may still be running: nothing else can be sent on this connection.
            self.pgconn.finish()
            raise


class PostgresConnection:
    """Reconnects after a failure, at the next transaction. `exclusive`: no other exclusive connection may exist. `query_timeout_s`: how
    long a statement may take before `is_down` is asked whether the server is just slow; how long a connection may take to be made.
    """

    def __init__(
        self,
        *,
        exclusive: bool = False,
        query_timeout_s: float | None = None,
        is_down: Callable[[], bool] = _assume_down,
        **parameters: Any,
    ) -> None:
        self.exclusive = exclusive
        self.query_timeout_s = query_timeout_s
        self.is_down = is_down
        self.parameters = parameters
        self.connection: HangDetectingConnection | None = None
        self.backend_pids: list[int] = []
        self.unresponsive_until = 0.0

    async def run(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        assert self.connection is not None
        with self.track_hangs():
            cursor = await self.connection.execute(sql, params)
            return await cursor.fetchall() if cursor.description else []

    async def begin(self) -> None:
        if time.monotonic() < self.unresponsive_until:
            raise ServerUnresponsive("PostgreSQL did not answer a moment ago")
        with self.track_hangs():
            if self.connection is not None and await self.begin_on_existing():
                return
            await self.open()
            await self.run("BEGIN")

    async def begin_on_existing(self) -> bool:
        """Begins on the connection that is there; False where the server has ended it meanwhile."""
        try:
            await self.run("BEGIN")
        except ServerUnresponsive:
            raise
        except psycopg.OperationalError:
            await self.close()
            return False
        return True

    @contextmanager
    def track_hangs(self) -> Iterator[None]:
        """Notes when the server says nothing."""
        try:
            yield
        except (ServerUnresponsive, PostgresInUse, psycopg.errors.ConnectionTimeout):
            self.unresponsive_until = time.monotonic() + BACKOFF_S
            raise

    async def open(self) -> None:
        connection = await HangDetectingConnection.connect(
            **self.parameters, autocommit=True, prepare_threshold=2
        )
        self.backend_pids.append(connection.info.backend_pid)
        try:
            connection.query_timeout_s, connection.is_down = self.query_timeout_s, self.is_down
            await connection.execute(SESSION_SETUP)
            await connection.execute(SYNCHRONOUS_COMMIT)
            if self.exclusive:
                await self.acquire_exclusive_lock(connection)
        except BaseException:
            await connection.close()
            raise
        self.connection, self.backend_pids = connection, self.backend_pids[-1:]

    async def acquire_exclusive_lock(self, connection: HangDetectingConnection) -> None:
        """Holds a lock for as long as the connection lives. At the start, a process that is being replaced has the time that it needs
        to end. Later, who holds it is an earlier connection of this process that the server has not seen go: it is ended, and only
        with its end it is decided whether what was sent on it is committed.
        """
        earlier_pids = self.backend_pids[:-1]
        lock_timeout_s, poll_interval_s = (
            (TERMINATE_TIMEOUT_S, TERMINATE_POLL_INTERVAL_S)
            if earlier_pids
            else (LOCK_TIMEOUT_S, LOCK_POLL_INTERVAL_S)
        )
        deadline = time.monotonic() + lock_timeout_s
        while True:
            cursor = await connection.execute("SELECT pg_try_advisory_lock(%s, 0)", (ADVISORY_LOCK_CLASS,))
            row = await cursor.fetchone()
            if row and row[0]:
                return
            if time.monotonic() > deadline:
                raise PostgresInUse("another gateway process uses this database: several need REDIS_URL")
            await connection.execute(TERMINATE_BACKENDS, (earlier_pids, ADVISORY_LOCK_CLASS))
            await asyncio.sleep(poll_interval_s)

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


def connect(*, exclusive: bool = False) -> LedgerConnection:
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
    set_parameters = {name: value for name, value in parameters.items() if value}
    options: dict[str, Any] = {**set_parameters, **database["OPTIONS"]}
    query_timeout_s = settings.ENV.gateway_database_timeout_s
    return PostgresConnection(
        exclusive=exclusive, query_timeout_s=query_timeout_s, is_down=outage_probe.is_down, **options
    )
