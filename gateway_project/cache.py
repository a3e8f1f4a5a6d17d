"""Django's cache in the Redis that the ledger lives in."""

from collections.abc import Iterator
from typing import Any

from django.core.cache.backends.redis import RedisCache

SCAN_COUNT = 1000


class PrefixedRedisCache(RedisCache):
    """Clears its own keys alone. Django's own backend empties the whole database, and reservations and budgets with it."""

    def clear(self) -> None:
        client: Any = self._cache.get_client(None, write=True)
        keys: Iterator[bytes] = client.scan_iter(match=f"{self.key_prefix}:*", count=SCAN_COUNT)
        for key in keys:
            client.unlink(key)
