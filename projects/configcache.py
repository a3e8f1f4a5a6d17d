"""Configuration in memory: what the gateway needs on every request, read from the database once.

Every process polls one version number. When it moves, all caches are dropped, so that a change made anywhere holds
everywhere within POLL_S and one request. A value that is not cached is read from the database at once: a new key works
on the very next request.
"""

import asyncio
import contextlib
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from django.db import DatabaseError, InterfaceError, OperationalError, connection

from projects.models import ConfigVersion

POLL_S = 0.3
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")

# Cold reads leave the event loop through these threads; each keeps its database connection between reads.
readers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="config-reader")


async def read(query: Callable[..., T], *args: Any) -> T:
    """Runs an ORM query off the event loop. No signal closes connections here: one that has died is replaced once."""

    def run() -> T:
        try:
            return query(*args)
        except (OperationalError, InterfaceError):
            connection.close()
            return query(*args)

    return await asyncio.get_running_loop().run_in_executor(readers, run)


class ConfigCache(Generic[K, V]):
    """Values by key, loaded on demand; `load` raises LookupError where there is none (and that is not remembered)."""

    instances: "WeakSet[ConfigCache[Any, Any]]" = WeakSet()

    def __init__(self, load: Callable[[K], V]) -> None:
        self.load = load
        self.values: dict[K, V] = {}
        self.instances.add(self)

    async def get(self, key: K) -> V:
        value = self.values.get(key)
        return await self.fetch(key) if value is None else value

    async def fetch(self, key: K) -> V:
        values = self.values
        value = await read(self.load, key)
        # Dropping replaces the dict: a value read before a drop lands in the old one and is never seen.
        values[key] = value
        return value

    def drop(self) -> None:
        self.values = {}


def drop_all() -> None:
    for cache in ConfigCache.instances:
        cache.drop()


async def watch() -> None:
    """Polls the version for as long as the process serves; while the database is away, what is cached stays."""
    seen = None
    while True:
        with contextlib.suppress(DatabaseError):
            version = await read(ConfigVersion.current)
            if version != seen:
                seen = version
                drop_all()
        await asyncio.sleep(POLL_S)
