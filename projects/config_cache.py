"""Caches of the configuration that requests need, such as keys, budgets and routes.

Every process polls one version number and invalidates all its caches when the number changes. A change
therefore takes effect in every process within POLL_INTERVAL_S plus the time of one query. A value that is not
cached is read from the database, so a new key works at once.

While the database is down, the gateway uses the values that it read last, for at most GATEWAY_STALE_CONFIG_S.
This includes values that were invalidated and could not be read again. After that time, all values are
cleared, and every request fails until the database is up again.
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
    """A cache whose values are loaded when they are first needed.

    `load` raises LookupError if a key has no value. The cache does not remember such keys.
    """

    instances: "WeakSet[ConfigCache[Any, Any]]" = WeakSet()

    def __init__(self, load: Callable[[K], V]) -> None:
        self.load = load
        self.values: dict[K, V] = {}
        self.stale: dict[K, tuple[float, V]] = {}
        self.instances.add(self)

    async def get(self, key: K) -> V:
        """Return the value of a key. Raises LookupError if the key has none.

        If the database fails, the stale value is returned. A database error is raised only if there is no
        stale value.
        """
        value = self.values.get(key)
        return await self.fetch(key) if value is None else value

    async def fetch(self, key: K) -> V:
        stale_value = self.get_stale(key)
        if stale_value is not None and database_health.is_down:
            return stale_value
        values = self.values
        try:
            # If there is a stale value, the request waits only briefly for a database that may be down.
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
            # The cache was invalidated during the query, so the value may already be out of date.
            self.stale[key] = time.monotonic(), value
        return value

    def __contains__(self, key: K) -> bool:
        """Return whether `get` needs no query for this key."""
        return key in self.values

    def get_stale(self, key: K) -> V | None:
        """Return the value that was invalidated last; None if that is older than GATEWAY_STALE_CONFIG_S."""
        invalidated_at, value = self.stale.get(key, (0.0, None))
        return value if time.monotonic() - invalidated_at <= settings.ENV.gateway_stale_config_s else None

    def invalidate(self) -> None:
        """Make every value stale, so that the next `get` reads it again. Delete expired stale values."""
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
        """Delete all values, including stale ones."""
        self.values, self.stale = {}, {}


def invalidate_all() -> None:
    for cache in ConfigCache.instances:
        cache.invalidate()


def clear_all() -> None:
    for cache in ConfigCache.instances:
        cache.clear()


async def poll_version() -> None:
    """Poll the config version until cancelled. Note in `database_health` whether the database answers."""
    last_version = None
    while True:
        try:
            async with asyncio.timeout(POLL_TIMEOUT_S):
                version = await run_query(ConfigVersion.current)
        except Exception as error:
            # Every error is caught, because a process without a poller would accept revoked keys forever.
            database_health.mark_down(error)
            if database_health.down_for_s() > settings.ENV.gateway_stale_config_s:
                clear_all()
        else:
            database_health.mark_up()
            if version != last_version:
                last_version = version
                invalidate_all()
        await asyncio.sleep(POLL_INTERVAL_S)
