"""The names of the ledger's keys in Redis. `lua/common.lua` describes what the keys of a project hold."""

from functools import lru_cache

PROJECTS_KEY = "gw:projects"
"""The set of the ids of all projects whose record streams are drained and whose reservations are reaped."""
LEASE_KEY = "gw:lease"
"""The id of the process that drains record streams and looks for dead processes."""


@lru_cache(maxsize=4096)
def key_prefix(project_id: int) -> str:
    """Return the prefix of a project's keys. The braces keep them in one slot, as a script requires."""
    return f"gw:{{p{project_id}}}:"


def stream_key(project_id: int) -> str:
    """Return the key of the records that SQL does not have yet."""
    return f"{key_prefix(project_id)}out"


def reservations_key(project_id: int) -> str:
    """Return the key of the open reservations."""
    return f"{key_prefix(project_id)}open"


def window_key(project_id: int, budget_id: int, name: str) -> str:
    """Return the key of the counters of a budget's window."""
    return f"{key_prefix(project_id)}w:{budget_id}/{name}"


def heartbeat_key(process_id: str) -> str:
    """Return the key that exists for as long as a process is alive."""
    return f"gw:alive:{process_id}"
