"""Configuration in memory: what the gateway needs for every request is read from the database once.

Every process polls one version number. When it changes, all caches are invalidated, so a change made anywhere
takes effect everywhere within POLL_INTERVAL_S and one request. A value that is not cached is read from the
database at once: a new key works on the very next request.

While the database is down, the values of its last response are served for GATEWAY_STALE_CONFIG_S, even those
that were invalidated and not read since. After that they are cleared, and every request fails until the
database is up again.
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
    """Values by key, loaded on demand.

    `load` raises LookupError if there is no value for a key; that is not cached.
    """

    instances: "WeakSet[ConfigCache[Any, Any]]" = WeakSet()

    def __init__(self, load: Callable[[K], V]) -> None:
        self.load = load
        self.values: dict[K, V] = {}
        self.stale: dict[K, tuple[float, V]] = {}
        self.instances.add(self)

    async def get(self, key: K) -> V:
        """Return the value; raise what `load` raises.

        A database error is raised only if no stale value can take the value's place.
        """
        value = self.values.get(key)
        return await self.fetch(key) if value is None else value

    async def fetch(self, key: K) -> V:
        stale_value = self.get_stale(key)
        if stale_value is not None and database_health.is_down:
            return stale_value
        values = self.values
        try:
            # With a stale value at hand, a request need not wait until the outage is certain.
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
            # The cache was invalidated during the query, so the value may be out of date already.
            self.stale[key] = time.monotonic(), value
        return value

    def __contains__(self, key: K) -> bool:
        """Return whether `get` needs no query for this key."""
        return key in self.values

    def get_stale(self, key: K) -> V | None:
        """Return the value of before the last invalidation; None if that was too long ago."""
        invalidated_at, value = self.stale.get(key, (0.0, None))
        return value if time.monotonic() - invalidated_at <= settings.ENV.gateway_stale_config_s else None

    def invalidate(self) -> None:
        """Make every value stale: the next `get` reads it again."""
        now = time.monotonic()
        for key, value in self.values.items():
            # Insert at the end, so that the oldest values are at the front.
            self.stale.pop(key, None)
            self.stale[key] = now, value
        self.values = {}
        while (
            self.stale
            and self.stale[oldest := next(iter(self.stale))][0] < now - settings.ENV.gateway_stale_config_s
        ):
            del self.stale[oldest]

    def clear(self) -> None:
        """Drop every value, stale ones too."""
        self.values, self.stale = {}, {}


def invalidate_all() -> None:
    for cache in ConfigCache.instances:
        cache.invalidate()


def clear_all() -> None:
    for cache in ConfigCache.instances:
        cache.clear()


async def poll_version() -> None:
    """Poll the config version for as long as the process serves."""
    last_version = None
    while True:
        try:
            async with asyncio.timeout(POLL_TIMEOUT_S):
                version = await run_query(ConfigVersion.current)
        except Exception as error:
            # Every error is caught: a process that stopped polling would accept revoked keys forever.
            database_health.mark_down(error)
            if database_health.down_for_s() > settings.ENV.gateway_stale_config_s:
                clear_all()
        else:
            database_health.mark_up()
            if version != last_version:
                last_version = version
                invalidate_all()
        await asyncio.sleep(POLL_INTERVAL_S)
