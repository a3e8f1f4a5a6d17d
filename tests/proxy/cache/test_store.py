"""The store in memory: bounded by bytes, by time, and purged by project."""

import time
from dataclasses import dataclass

import pytest

from proxy.cache import entry
from proxy.cache.entry import CachedResponse
from proxy.cache.store import ENTRY_OVERHEAD_BYTES, MemoryStore
from proxy.formats.neutral import Usage


def response(body: bytes = b"{}", ttl_s: float = 60) -> CachedResponse:
    now = time.time()
    return CachedResponse(
        form=b"",
        content_type="application/json",
        dropped="",
        body=body,
        usage=Usage(),
        cost_nano=1,
        created_at=now,
        expires_at=now + ttl_s,
    )


@dataclass
class Limit:
    value: int

    def __call__(self) -> int:
        return self.value


def size_of(stored: CachedResponse) -> int:
    return len(entry.encode(stored)) + ENTRY_OVERHEAD_BYTES


async def test_the_least_recently_used_response_is_deleted_first() -> None:
    stored = response()
    store = MemoryStore(Limit(2 * size_of(stored)))
    await store.put(1, "a", stored)
    await store.put(1, "b", stored)
    assert await store.get(1, "a") == stored
    await store.put(1, "c", stored)
    assert [await store.get(1, key) is not None for key in "abc"] == [True, False, True]
    assert store.size == 2 * size_of(stored)


@pytest.mark.parametrize("limit", [0, 100])
async def test_a_response_larger_than_the_limit_is_not_stored(limit: int) -> None:
    store = MemoryStore(Limit(limit))
    await store.put(1, "a", response())
    assert await store.get(1, "a") is None and store.size == 0


async def test_a_replaced_response_frees_its_memory() -> None:
    store, stored = MemoryStore(Limit(10**6)), response()
    for _ in range(3):
        await store.put(1, "a", stored)
    assert store.size == size_of(stored) and len(store.entries) == 1


async def test_an_expired_response_is_not_found() -> None:
    store = MemoryStore(Limit(10**6))
    await store.put(1, "a", response(ttl_s=-1))
    assert await store.get(1, "a") is None and store.size == 0


async def test_a_purge_deletes_the_responses_of_one_project() -> None:
    store = MemoryStore(Limit(10**6))
    for project_id in (1, 2):
        for key in "ab":
            await store.put(project_id, key, response())
    assert await store.purge(1) == 2
    assert await store.get(1, "a") is None and await store.get(2, "a") is not None


async def test_text_is_stored_compressed() -> None:
    assert size_of(response(b"word " * 10_000)) < 2_000
