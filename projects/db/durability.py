"""Make commits survive a power failure: check the settings of PostgreSQL, and set synchronous_commit."""

import structlog
from django.db import connection

ENABLE_SYNCHRONOUS_COMMIT_SQL = """
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""
"""Runs on every connection that the gateway opens.

Values other than `off` are kept, because with each of them COMMIT waits at least until the data is on the
local disk.
"""
UNSAFE_SETTINGS_SQL = """
    SELECT name FROM pg_settings
    WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND reset_val = 'off' ORDER BY name
"""
"""`reset_val` is the value that is configured for the server, the database or the role.

A SET in this session does not change it.
"""
CONSEQUENCES = {
    "fsync": "A power cut can lose billed requests and damage the database. Set it to on.",
    "full_page_writes": "A power cut can damage the database. Set it to on.",
    "synchronous_commit": "The gateway turns it on for its own connections. Other programs can lose commits.",
}

log = structlog.get_logger()


def unsafe_settings() -> list[str]:
    """Return the names of the settings that are off but must be on to survive a power cut."""
    if connection.vendor != "postgresql":
        return []
    with connection.cursor() as cursor:
        cursor.execute(UNSAFE_SETTINGS_SQL)
        return [name for (name,) in cursor.fetchall()]


def warn_of_unsafe_settings() -> None:
    for name in unsafe_settings():
        consequence = CONSEQUENCES[name]
        log.warning("postgresql_setting_not_durable", setting=name, value="off", consequence=consequence)
