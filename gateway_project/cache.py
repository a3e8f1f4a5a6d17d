"""Django's cache, which is in the same Redis database as the ledger."""

from collections.abc import Iterator
from typing import Any

from django.core.cache.backends.redis import RedisCache

SCAN_COUNT = 1000


class PrefixedRedisCache(RedisCache):
    """A Redis cache whose `clear` deletes only the keys of the cache.

    Django's `clear` would delete all keys in the database, including those of the ledger.
    """

    def clear(self) -> None:
        client: Any = self._cache.get_client(None, write=True)
        keys: Iterator[bytes] = client.scan_iter(match=f"{self.key_prefix}:*", count=SCAN_COUNT)
        for key in keys:
            client.unlink(key)
