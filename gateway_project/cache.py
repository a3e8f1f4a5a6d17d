"""Django's cache, in the Redis database of the ledger."""

from collections.abc import Iterator
from typing import Any

from django.core.cache.backends.redis import RedisCache

SCAN_COUNT = 1000


class PrefixedRedisCache(RedisCache):
    """Redis cache that clears only its own keys.

    Django's backend would empty the whole database, with reservations and budgets.
    """

    def clear(self) -> None:
        client: Any = self._cache.get_client(None, write=True)
        keys: Iterator[bytes] = client.scan_iter(match=f"{self.key_prefix}:*", count=SCAN_COUNT)
        for key in keys:
            client.unlink(key)
