"""Django's connections to PostgreSQL, which do not wait forever for a hung server.

If the processes of a server hang, its TCP connections stay open, and its statement timeouts have no effect.
Only the client can then abort a statement. A slow statement must not be aborted, so the connection aborts
only if the config poller reports that the server does not answer at all. Commands and workers have no config
poller, so they wait.
"""

from contextlib import suppress
from typing import Any

import psycopg
from django.conf import settings
from django.db.backends.postgresql import base

from projects.db.durability import ENABLE_SYNCHRONOUS_COMMIT_SQL
from projects.db.hang_detection import POLL_INTERVAL_S, outage_probe, wait_attempts

DOWN_CONNECT_TIMEOUT_S = 2
"""The connect timeout while the server is known to be down. psycopg allows no smaller value."""


class HangDetectingConnection(psycopg.Connection[Any]):
    def wait(self, gen: Any, interval: float = POLL_INTERVAL_S, timeout: float | None = None) -> Any:
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        for operation, timeout_s in wait_attempts(
            gen, settings.ENV.gateway_database_timeout_s, outage_probe.is_down
        ):
            with suppress(psycopg.errors._WaitTimeout):
                return super().wait(operation, interval, timeout_s)
        self.pgconn.finish()
        raise psycopg.OperationalError("PostgreSQL is unresponsive")


class PsycopgModule:
    """The psycopg module with HangDetectingConnection as the class of its connections."""

    def __getattr__(self, name: str) -> Any:
        return getattr(psycopg, name)

    def connect(self, **parameters: Any) -> HangDetectingConnection:
        if outage_probe.is_down():
            parameters["connect_timeout"] = DOWN_CONNECT_TIMEOUT_S
        return HangDetectingConnection.connect(**parameters)


class DatabaseWrapper(base.DatabaseWrapper):
    Database = PsycopgModule()  # type: ignore[assignment]  # The stubs declare a module.

    def init_connection_state(self) -> None:
        """Make commits durable, even if the server's default is not, because commands write records."""
        super().init_connection_state()
        self.connection.execute(ENABLE_SYNCHRONOUS_COMMIT_SQL)
        if not self.get_autocommit():
            self.connection.commit()
