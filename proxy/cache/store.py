"""Stores of cached responses: the protocol, and the store in the memory of one process."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from django.conf import settings

from proxy.cache import entry
from proxy.cache.entry import CachedResponse

ENTRY_OVERHEAD_BYTES = 400
"""The memory that an entry occupies in addition to its encoded response."""


class Lease(Protocol):
    """The right of a process to fetch the response of a key."""

    async def is_wanted(self) -> bool:
        """Return whether another process waits for the response."""

    async def release(self) -> None:
        """End the lease, so that another process can fetch the response."""


class CacheStore(Protocol):
    """A store of cached responses.

    Its methods do not raise: a store that is down stores and finds nothing.
    """

    async def get(self, project_id: int, key: str) -> CachedResponse | None:
        """Return the response of a key, or None."""

    async def put(self, project_id: int, key: str, response: CachedResponse) -> None:
        """Store a response until it expires."""

    async def claim(self, project_id: int, key: str) -> CachedResponse | Lease | None:
        """Return the response of a key, else a lease to fetch it; None if another process has the lease."""

    async def purge(self, project_id: int) -> int:
        """Delete all responses of a project. Return their number."""

    async def close(self) -> None:
        """Close the connections of the store."""


class LocalLease:
    """A lease that nobody else can have, because the store has only one process."""

    async def is_wanted(self) -> bool:
        """Return False."""
        return False

    async def release(self) -> None:
        """Do nothing."""


LOCAL_LEASE = LocalLease()


class MemoryStore:
    """Stores responses in this process. Above the limit, it deletes the least recently used ones."""

    def __init__(self, max_bytes: Callable[[], int]) -> None:
        self.max_bytes = max_bytes
        self.entries: OrderedDict[tuple[int, str], bytes] = OrderedDict()
        self.size = 0

    async def get(self, project_id: int, key: str) -> CachedResponse | None:
        """Return the response of a key, or None."""
        data = self.entries.get((project_id, key))
        if data is None:
            return None
        response = entry.decode(data)
        if response.is_expired:
            self._delete((project_id, key))
            return None
        self.entries.move_to_end((project_id, key))
        return response

    async def put(self, project_id: int, key: str, response: CachedResponse) -> None:
        """Store a response."""
        self._delete((project_id, key))
        data = entry.encode(response)
        self.entries[project_id, key] = data
        self.size += len(data) + ENTRY_OVERHEAD_BYTES
        while self.size > self.max_bytes():
            self._delete(next(iter(self.entries)))

    async def claim(self, project_id: int, key: str) -> CachedResponse | Lease | None:
        """Return the response of a key, else a lease."""
        return await self.get(project_id, key) or LOCAL_LEASE

    async def purge(self, project_id: int) -> int:
        """Delete all responses of a project. Return their number."""
        found = [each for each in self.entries if each[0] == project_id]
        for each in found:
            self._delete(each)
        return len(found)

    async def close(self) -> None:
        """Delete everything."""
        self.clear()

    def clear(self) -> None:
        """Delete everything."""
        self.entries.clear()
        self.size = 0

    def _delete(self, key: tuple[int, str]) -> None:
        if (data := self.entries.pop(key, None)) is not None:
            self.size -= len(data) + ENTRY_OVERHEAD_BYTES


def max_bytes() -> int:
    """Return the maximum size in bytes: of the whole store of this process, or of each project in Redis."""
    return settings.ENV.gateway_cache_max_mb * 1024 * 1024


memory_store = MemoryStore(max_bytes)
"""The store of this process, unless another one is installed."""
_current: list[CacheStore] = [memory_store]


def install(store: CacheStore) -> None:
    """Set the store of this process."""
    _current[:] = [store]


def current() -> CacheStore:
    """Return the store of this process."""
    return _current[0]
