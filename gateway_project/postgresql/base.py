"""Django's own connections to PostgreSQL.

A server whose processes hang keeps its TCP connections alive, and its own limits of time do not run: only the client can give up.
A statement may take long for good reasons, though. It is given up where the server keeps everybody waiting, as the poll of the
configuration finds; commands and workers do not poll, and wait.
"""

from typing import Any

import psycopg
from django.conf import settings
from django.db.backends.postgresql import base

from projects.durability import SYNCHRONOUS_COMMIT
from projects.patience import LOOK_AGAIN_S, resumed, watch

WAKE_S = 0.1
"""How often a connection that waits looks whether its socket is still open."""
QUICKLY_S = 2
"""For connections to a server that is known to be away; psycopg allows no less."""


class Line(psycopg.Connection[Any]):
    def wait(self, gen: Any, interval: float = WAKE_S, timeout: float | None = None) -> Any:
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        waited, patience_s = gen, settings.ENV.gateway_database_timeout_s
        while True:
            try:
                return super().wait(waited, interval, patience_s)
            except psycopg.errors._WaitTimeout:
                if watch.is_away():
                    self.pgconn.finish()
                    raise psycopg.OperationalError("PostgreSQL does not answer") from None
                waited, patience_s = resumed(gen) if waited is gen else waited, LOOK_AGAIN_S


class Driver:
    """psycopg, but for the class of its connections."""

    def __getattr__(self, name: str) -> Any:
        return getattr(psycopg, name)

    def connect(self, **parameters: Any) -> Line:
        if watch.is_away():
            parameters["connect_timeout"] = QUICKLY_S
        return Line.connect(**parameters)


class DatabaseWrapper(base.DatabaseWrapper):
    Database = Driver()  # type: ignore[assignment]  # its type says a module

    def init_connection_state(self) -> None:
        """Make commits durable even if the server's default is not: commands and workers write records."""
        super().init_connection_state()
        self.connection.execute(SYNCHRONOUS_COMMIT)
        if not self.get_autocommit():
            self.connection.commit()
