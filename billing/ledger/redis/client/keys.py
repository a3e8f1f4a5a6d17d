"""Names of the ledger's keys in Redis. `lua/common.lua` describes the values of a project's keys."""

from functools import lru_cache

PROJECTS_KEY = "gw:projects"
"""The set of project ids whose record streams are drained and whose reservations are reaped."""
LEASE_KEY = "gw:lease"
"""The lease. Its value is the id of the process that drains record streams and reaps reservations."""


@lru_cache(maxsize=4096)
def key_prefix(project_id: int) -> str:
    """Return the prefix of a project's keys. Because of the braces, all of them are in one hash slot."""
    return f"gw:{{p{project_id}}}:"


def stream_key(project_id: int) -> str:
    """Return the key of the record stream, which contains the records that SQL does not have yet."""
    return f"{key_prefix(project_id)}out"


def reservations_key(project_id: int) -> str:
    """Return the key of the hash of open reservations."""
    return f"{key_prefix(project_id)}open"


def window_key(project_id: int, budget_id: int, name: str) -> str:
    """Return the key of the spent and reserved amounts of a budget window."""
    return f"{key_prefix(project_id)}w:{budget_id}/{name}"


def heartbeat_key(process_id: str) -> str:
    """Return the key that exists while a process is alive."""
    return f"gw:alive:{process_id}"
