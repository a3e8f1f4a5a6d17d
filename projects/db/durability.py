"""PostgreSQL settings without which a power cut loses what was committed."""

import structlog
from django.db import connection

SYNCHRONOUS_COMMIT = """
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""
"""Run on each connection of ours. Other values than `off` stay: they wait at least for the local disk."""
UNSAFE = """
    SELECT name FROM pg_settings
    WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND reset_val = 'off' ORDER BY name
"""
"""`reset_val` is the setting of the server, database or role, whatever this session has set."""
CONSEQUENCES = {
    "fsync": "A power cut can lose billed requests and damage the database. Set it to on.",
    "full_page_writes": "A power cut can damage the database. Set it to on.",
    "synchronous_commit": "The gateway uses on for its own connections. Other programs can lose commits.",
}

log = structlog.get_logger()


def unsafe_settings() -> list[str]:
    """Return the names of the settings that are off although PostgreSQL needs them to survive a power cut."""
    if connection.vendor != "postgresql":
        return []
    with connection.cursor() as cursor:
        cursor.execute(UNSAFE)
        return [name for (name,) in cursor.fetchall()]


def warn_of_unsafe_settings() -> None:
    for name in unsafe_settings():
        consequence = CONSEQUENCES[name]
        log.warning("postgresql_setting_not_durable", setting=name, value="off", consequence=consequence)
