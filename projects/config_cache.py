"""Configuration in memory: what the gateway needs on every request, read from the database once.

Every process polls one version number. When it moves, all caches are dropped, so that a change made anywhere holds
everywhere within POLL_S and one request. A value that is not cached is read from the database at once: a new key works
on the very next request.

While the database is away, what was known when it last answered goes on being served for GATEWAY_STALE_CONFIG_S, also where
it had been dropped and not been read again. After that it is forgotten, and every request fails until the database is back.
"""

import asyncio
import time
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from django.conf import settings
from django.db import InterfaceError, OperationalError

from projects.db.executor import run_query
from projects.db.health import database_health
from projects.models import ConfigVersion

POLL_INTERVAL_S = 0.3
POLL_TIMEOUT_S = 2
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ConfigCache(Generic[K, V]):
    """Values by key, loaded on demand; `load` raises LookupError where there is none (and that is not remembered)."""

    instances: "WeakSet[ConfigCache[Any, Any]]" = WeakSet()

    def __init__(self, load: Callable[[K], V]) -> None:
        self.load = load
        self.values: dict[K, V] = {}
        self.stale: dict[K, tuple[float, V]] = {}
        self.instances.add(self)

    async def get(self, key: K) -> V:
        value = self.values.get(key)
        return await self.fetch(key) if value is None else value

    async def fetch(self, key: K) -> V:
        stale_value = self.get_stale(key)
        if stale_value is not None and database_health.is_down:
            return stale_value
        values = self.values
        try:
            # Who can be answered from memory does not wait until it is clear that the database is away.
            async with asyncio.timeout(None if stale_value is None else POLL_TIMEOUT_S):
                value = await run_query(self.load, key)
        except LookupError:
            self.stale.pop(key, None)
            raise
        except (OperationalError, InterfaceError, TimeoutError):
            if stale_value is None:
                raise
            return stale_value
        if values is self.values:
            values[key] = value
        else:
            # Read before a drop, it may be out of date already.
            self.stale[key] = time.monotonic(), value
        return value

    def __contains__(self, key: K) -> bool:
        """Whether `get` answers without a query."""
        return key in self.values

    def get_stale(self, key: K) -> V | None:
        """What was known before the last drop; None where that is too long ago."""
        invalidated_at, value = self.stale.get(key, (0.0, None))
        return value if time.monotonic() - invalidated_at <= settings.ENV.gateway_stale_config_s else None

    def invalidate(self) -> None:
        """Every value is read anew at its next use."""
        now = time.monotonic()
        for key, value in self.values.items():
            # The end is where the youngest are: what is too old is found at the front.
            self.stale.pop(key, None)
            self.stale[key] = now, value
        self.values = {}
        while (
            self.stale
            and self.stale[oldest := next(iter(self.stale))][0] < now - settings.ENV.gateway_stale_config_s
        ):
            del self.stale[oldest]

    def clear(self) -> None:
        self.values, self.stale = {}, {}


def invalidate_all() -> None:
    for cache in ConfigCache.instances:
        cache.invalidate()


def clear_all() -> None:
    """As `invalidate_all`, but nothing is kept for the case that the database is away."""
    for cache in ConfigCache.instances:
        cache.clear()


async def poll_version() -> None:
    """Polls the version for as long as the process serves."""
    last_version = None
    while True:
        try:
            async with asyncio.timeout(POLL_TIMEOUT_S):
                version = await run_query(ConfigVersion.current)
        except Exception as error:
            # Whatever it is: a process that stopped polling would serve revoked keys for ever.
            database_health.mark_down(error)
            if database_health.down_for_s() > settings.ENV.gateway_stale_config_s:
                clear_all()
        else:
            database_health.mark_up()
            if version != last_version:
                last_version = version
                invalidate_all()
        await asyncio.sleep(POLL_INTERVAL_S)
