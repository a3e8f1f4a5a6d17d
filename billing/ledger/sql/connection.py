"""The database connection of the ledger, which is separate from the connections of Django."""

import sqlite3
from typing import Any, Protocol

import psycopg
from django.conf import settings

from billing.ledger.sql.postgresql import PostgresConnection
from billing.ledger.sql.sqlite import SqliteConnection
from billing.ledger.sql.transactions import Executor
from projects.db.hang_detection import outage_probe

DatabaseErrors = (sqlite3.Error, psycopg.Error, OSError)
"""The exceptions that a LedgerConnection raises."""


class LedgerConnection(Executor, Protocol):
    async def begin(self) -> None: ...
    async def commit(self) -> None: ...
    async def rollback(self) -> None: ...
    async def close(self) -> None: ...


def connect(*, exclusive: bool = False) -> LedgerConnection:
    """Connect to the database that Django uses.

    `exclusive`: on PostgreSQL, no other exclusive connection may exist. On SQLite, a lock file ensures this
    instead (`process_lock.py`).
    """
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
