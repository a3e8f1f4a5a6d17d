"""The ledger's connection to PostgreSQL, which is separate from the connections of Django."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import waiting

from billing.ledger.sql.process_lock import ADVISORY_LOCK_CLASS, DatabaseInUse
from projects.db.durability import ENABLE_SYNCHRONOUS_COMMIT_SQL
from projects.db.hang_detection import POLL_INTERVAL_S, wait_attempts

LOCK_TIMEOUT_S = 40
"""How long a new process waits until the process that it replaces has finished its requests."""
LOCK_POLL_INTERVAL_S = 0.5
TERMINATE_TIMEOUT_S = 1.0
"""How long this process waits until the server has ended an earlier connection of this process."""
TERMINATE_POLL_INTERVAL_S = 0.02
BACKOFF_S = 1.0
"""After a failed connection, all transactions fail at once for this time, and do not time out one by one."""
SESSION_SETUP = (
    "SET timezone = 'UTC'; SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; "
    "SET tcp_keepalives_count = 3"
)
"""With these keepalives, the server detects an interrupted network within half a minute.

With its default settings, the server would keep the connection, and the ledger's lock, for hours.
"""
TERMINATE_BACKENDS = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks "
    "WHERE pid = ANY(%s) AND locktype = 'advisory' AND granted AND classid = %s AND objid = 0 "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class PostgresInUse(psycopg.OperationalError, DatabaseInUse):
    """Raised if another process holds the process lock of the PostgreSQL database."""


class ServerUnresponsive(psycopg.OperationalError):
    """Raised if PostgreSQL does not answer. It may have executed the statement, or may execute it later."""


def _assume_down() -> bool:
    return True


class HangDetectingConnection(psycopg.AsyncConnection[Any]):
    """Aborts a statement after `query_timeout_s` if `is_down` reports that the server does not answer.

    To abort, the connection closes its socket. A hung server would not react to a cancel request, and its own
    statement timeout would have no effect.
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
            # The statement may still be running, so this connection cannot be used again.
            self.pgconn.finish()
            raise


class PostgresConnection:
    """A connection that is opened by the first transaction, and by the next transaction after a failure.

    `exclusive`: no other exclusive connection to the database may exist.
    `query_timeout_s`: after this time, a statement is aborted if `is_down` returns True.
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
            raise ServerUnresponsive(f"PostgreSQL cannot be used; retrying in {BACKOFF_S:g} s")
        with self.track_hangs():
            if self.connection is not None and await self.begin_on_existing():
                return
            await self.open()
            await self.run("BEGIN")

    async def begin_on_existing(self) -> bool:
        """Begin on the open connection. If the server has ended it, close it and return False."""
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
        """Start the backoff if the server does not answer, or another process has the lock of the ledger."""
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
            await connection.execute(ENABLE_SYNCHRONOUS_COMMIT_SQL)
            if self.exclusive:
                await self.acquire_exclusive_lock(connection)
        except BaseException:
            await connection.close()
            raise
        self.connection, self.backend_pids = connection, self.backend_pids[-1:]

    async def acquire_exclusive_lock(self, connection: HangDetectingConnection) -> None:
        """Acquire the process lock, which PostgreSQL releases when the connection ends.

        When this process starts, the process that it replaces may still hold the lock. It gets LOCK_TIMEOUT_S
        to stop. Later, an earlier connection of this process may hold the lock, because the server has not
        noticed that it was closed. Its backend could still commit statements, so this method terminates it.
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
                raise PostgresInUse(
                    "another gateway process uses this database; set REDIS_URL to run several processes"
                )
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
