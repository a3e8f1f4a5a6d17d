"""The store in Redis, which processes share. Each store of a test stands for one process."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import redis
from django.conf import settings

from billing.ledger.redis.client.keys import key_prefix
from proxy.cache import redis_store
from proxy.cache.entry import CachedResponse
from proxy.cache.redis_store import RedisLease, RedisStore
from proxy.cache.store import LOCAL_LEASE
from tests.proxy.cache.test_store import Limit, response
from tests.support.redis_gateways import needs_servers

pytestmark = pytest.mark.databases
PROJECT, OTHER = 900_001, 900_002


@pytest.fixture
def limit() -> Limit:
    return Limit(10**6)


@pytest.fixture
async def stores(limit: Limit) -> AsyncIterator[list[RedisStore]]:
    made = [RedisStore(settings.ENV.redis_url, timeout_s=2, max_bytes=limit) for _ in range(2)]
    for store in made:
        await store.open()
    yield made
    for project_id in (PROJECT, OTHER):
        await made[0].purge(project_id)
    for store in made:
        await store.close()


@needs_servers
async def test_processes_share_responses_which_are_encrypted_for_their_project(
    stores: list[RedisStore],
) -> None:
    first, second = stores
    stored = response(b"a secret answer")
    await first.put(PROJECT, "key", stored)
    assert await second.get(PROJECT, "key") == stored and await second.get(OTHER, "key") is None
    with redis.Redis.from_url(settings.ENV.redis_url) as client:
        data = client.get(f"{key_prefix(PROJECT)}cache:key")
        assert isinstance(data, bytes) and b"secret" not in data
        client.set(f"{key_prefix(OTHER)}cache:key", data, ex=60)
        assert 0 < client.ttl(f"{key_prefix(PROJECT)}cache:key") <= 60
    assert await second.get(OTHER, "key") is None


@needs_servers
async def test_beyond_the_limit_the_response_that_expires_first_is_deleted(
    stores: list[RedisStore], limit: Limit
) -> None:
    store = stores[0]
    for key, ttl_s in (("a", 500), ("b", 100), ("c", 300)):
        await store.put(PROJECT, key, response(ttl_s=ttl_s))
    with redis.Redis.from_url(settings.ENV.redis_url) as client:
        total = client.hget(f"{key_prefix(PROJECT)}cache-sizes", "total")
    assert isinstance(total, bytes)
    limit.value = int(total) * 5 // 6
    await store.put(PROJECT, "d", response(ttl_s=400))
    assert [await store.get(PROJECT, key) is not None for key in "abcd"] == [True, False, False, True]


@needs_servers
async def test_a_purge_deletes_the_responses_of_one_project(stores: list[RedisStore]) -> None:
    first, second = stores
    await first.put(PROJECT, "a", response())
    await first.put(OTHER, "a", response())
    assert await second.purge(PROJECT) == 1
    assert await first.get(PROJECT, "a") is None and await first.get(OTHER, "a") is not None


@needs_servers
async def test_one_process_gets_the_lease_and_the_others_its_response(stores: list[RedisStore]) -> None:
    first, second = stores
    lease = await first.claim(PROJECT, "key")
    assert isinstance(lease, RedisLease) and await second.claim(PROJECT, "key") is None
    await first.put(PROJECT, "key", response())
    assert isinstance(await second.claim(PROJECT, "key"), CachedResponse)
    await lease.release()


@needs_servers
async def test_a_released_lease_can_be_claimed(stores: list[RedisStore]) -> None:
    first, second = stores
    lease = await first.claim(PROJECT, "key")
    assert isinstance(lease, RedisLease)
    await lease.release()
    again = await second.claim(PROJECT, "key")
    assert isinstance(again, RedisLease)
    await lease.release()
    assert await first.claim(PROJECT, "key") is None, "a lease was ended by its former holder"
    await again.release()


@needs_servers
async def test_the_lease_of_a_killed_process_expires(
    stores: list[RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "LEASE_S", 0.6)
    first, second = stores
    lease = await first.claim(PROJECT, "key")
    assert isinstance(lease, RedisLease)
    await asyncio.sleep(1)
    assert await second.claim(PROJECT, "key") is None, "the lease was not renewed"
    lease.renewal.cancel()
    await asyncio.sleep(0.8)
    taken = await second.claim(PROJECT, "key")
    assert isinstance(taken, RedisLease)
    await taken.release()


async def test_without_redis_nothing_is_found_and_each_process_fetches(limit: Limit) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{unused.getsockname()[1]}/0"
        store = RedisStore(url, timeout_s=0.05, max_bytes=limit)
        await store.open()
        await store.put(PROJECT, "key", response())
        assert await store.get(PROJECT, "key") is None and await store.purge(PROJECT) == 0
        assert await store.claim(PROJECT, "key") is LOCAL_LEASE
        await store.close()


@needs_servers
async def test_a_lease_is_wanted_while_another_process_waits(
    stores: list[RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "WANTED_S", 0.3)
    first, second = stores
    lease = await first.claim(PROJECT, "wanted key")
    assert isinstance(lease, RedisLease) and not await lease.is_wanted()
    assert await second.claim(PROJECT, "wanted key") is None and await lease.is_wanted()
    await asyncio.sleep(0.5)
    assert not await lease.is_wanted()
    await lease.release()
