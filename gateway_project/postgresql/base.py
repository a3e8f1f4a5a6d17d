"""Django's own connections to PostgreSQL.

A server whose processes hang keeps its TCP connections alive, and its own limits of time do not run: only the client can give up.
A statement may take long for good reasons, though. It is given up where the server keeps everybody waiting, as the poll of the
configuration finds; commands and workers do not poll, and wait.
"""

from typing import Any

import psycopg
from django.conf import settings
from django.db.backends.postgresql import base

from projects.db.durability import SYNCHRONOUS_COMMIT
from projects.db.hang_detection import RECHECK_INTERVAL_S, outage_probe, rewait

POLL_INTERVAL_S = 0.1
"""How often a connection that waits looks whether its socket is still open."""
DOWN_CONNECT_TIMEOUT_S = 2
"""For connections to a server that is known to be away; psycopg allows no less."""


class HangDetectingConnection(psycopg.Connection[Any]):
    def wait(self, gen: Any, interval: float = POLL_INTERVAL_S, timeout: float | None = None) -> Any:
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        waiter, wait_timeout_s = gen, settings.ENV.gateway_database_timeout_s
        while True:
            try:
                return super().wait(waiter, interval, wait_timeout_s)
            except psycopg.errors._WaitTimeout:
                if outage_probe.is_down():
                    self.pgconn.finish()
                    raise psycopg.OperationalError("PostgreSQL does not answer") from None
                waiter, wait_timeout_s = rewait(gen) if waiter is gen else waiter, RECHECK_INTERVAL_S


class PsycopgModule:
    """psycopg, but for the class of its connections."""

    def __getattr__(self, name: str) -> Any:
        return getattr(psycopg, name)

    def connect(self, **parameters: Any) -> HangDetectingConnection:
        if outage_probe.is_down():
            parameters["connect_timeout"] = DOWN_CONNECT_TIMEOUT_S
        return HangDetectingConnection.connect(**parameters)


class DatabaseWrapper(base.DatabaseWrapper):
    Database = PsycopgModule()  # type: ignore[assignment]  # its type says a module

    def init_connection_state(self) -> None:
        """Make commits durable even if the server's default is not: commands and workers write records."""
        super().init_connection_state()
        self.connection.execute(SYNCHRONOUS_COMMIT)
        if not self.get_autocommit():
            self.connection.commit()
