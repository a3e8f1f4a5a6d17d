"""Store of cached responses in Redis, which all gateway processes share.

Responses are encrypted, and bound to their project, by `projects.vault`. All keys of a project have its hash
tag. An index by expiry limits the memory of each project. While Redis is down or slow, every lookup is a
miss, and each process fetches its responses itself. The store has a separate connection, so that large
responses do not delay the ledger.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import hiredis
import structlog

from billing.ledger.redis.client.circuit_breaker import CircuitBreaker
from billing.ledger.redis.client.connection import RedisConnection
from billing.ledger.redis.client.keys import key_prefix
from billing.ledger.redis.client.protocol import Argument, RedisUnavailable
from projects import vault
from proxy.cache import entry
from proxy.cache.entry import CachedResponse
from proxy.cache.store import ENTRY_OVERHEAD_BYTES, LOCAL_LEASE, Lease

CONNECT_TIMEOUT_S = 1.0
LEASE_S = 15.0
"""How long the lease of a killed process keeps other processes from fetching the response."""
RENEWALS_PER_LEASE = 3
WANTED_S = 2.0
"""How long a claim of another process counts as waiting.

It must be longer than the interval between claims.
"""

PUT = """
local index, sizes, prefix = KEYS[1], KEYS[2], KEYS[3]
local name, value, ttl_s, limit, overhead = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local now = tonumber(redis.call('TIME')[1])
local function delete(each)
  redis.call('UNLINK', prefix .. each)
  redis.call('ZREM', index, each)
  redis.call('HINCRBY', sizes, 'total', -(redis.call('HGET', sizes, each) or 0))
  redis.call('HDEL', sizes, each)
end
for _, each in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now)) do delete(each) end
delete(name)
redis.call('SET', prefix .. name, value, 'EX', ttl_s)
redis.call('ZADD', index, now + ttl_s, name)
redis.call('HSET', sizes, name, #value + overhead)
redis.call('HINCRBY', sizes, 'total', #value + overhead)
while tonumber(redis.call('HGET', sizes, 'total')) > limit do
  local first = redis.call('ZRANGE', index, 0, 0)[1]
  if not first then redis.call('DEL', sizes) break end
  delete(first)
end
"""
"""Stores a response. Deletes expired responses and, above the limit, those that expire first."""
PURGE = """
local names = redis.call('ZRANGE', KEYS[1], 0, -1)
for _, each in ipairs(names) do redis.call('UNLINK', KEYS[3] .. each) end
redis.call('UNLINK', KEYS[1], KEYS[2])
return #names
"""
CLAIM = """
local found = redis.call('GET', KEYS[1])
if found then return found end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
redis.call('SET', KEYS[2] .. ':wanted', 1, 'PX', ARGV[3])
return 0
"""
"""Returns the response, or 1 for a new lease, or 0 if another process has the lease."""
RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end"
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"

log = structlog.get_logger()


class RedisLease:
    """A lease that the task of a request renews while it runs."""

    def __init__(self, redis_store: "RedisStore", name: str, holder: str) -> None:
        self.redis_store, self.name, self.holder = redis_store, name, holder
        self.renewal = asyncio.create_task(self._renew(asyncio.current_task()))

    async def is_wanted(self) -> bool:
        """Return whether another process has claimed the key in the last WANTED_S seconds."""
        return bool(await self.redis_store.call("EXISTS", f"{self.name}:wanted"))

    async def release(self) -> None:
        """End the lease, so that another process can fetch the response."""
        self.renewal.cancel()
        await self.redis_store.call("EVAL", RELEASE, 1, self.name, self.holder)

    async def _renew(self, request: asyncio.Task[Any] | None) -> None:
        while request is not None and not request.done():
            await asyncio.sleep(LEASE_S / RENEWALS_PER_LEASE)
            await self.redis_store.call("EVAL", RENEW, 1, self.name, self.holder, lease_ms())


class RedisStore:
    """Stores responses in Redis. `max_bytes` returns the limit of each project in bytes."""

    def __init__(self, url: str, *, timeout_s: float, max_bytes: Callable[[], int]) -> None:
        self.connection = RedisConnection(url, timeout_s=timeout_s)
        self.breaker, self.max_bytes = CircuitBreaker(), max_bytes

    async def open(self) -> None:
        """Connect. If Redis is down, further attempts follow in the background."""
        with suppress(RedisUnavailable):
            await self.connection.open(CONNECT_TIMEOUT_S)

    async def close(self) -> None:
        """Close the connection."""
        await self.connection.close()

    async def get(self, project_id: int, key: str) -> CachedResponse | None:
        """Return the response of a key, or None."""
        return decode(project_id, await self.call("GET", entry_prefix(project_id) + key))

    async def put(self, project_id: int, key: str, response: CachedResponse) -> None:
        """Store a response until it expires."""
        data = vault.seal_bytes(project_id, entry.encode(response))
        ttl_s = max(int(response.expires_at - response.created_at), 1)
        limits = (self.max_bytes(), ENTRY_OVERHEAD_BYTES)
        await self.call("EVAL", PUT, 3, *index_keys(project_id), key, data, ttl_s, *limits)

    async def claim(self, project_id: int, key: str) -> CachedResponse | Lease | None:
        """Return the response of a key, else a lease, or None if another process has the lease."""
        name, holder = f"{key_prefix(project_id)}fetch:{key}", uuid4().hex
        keys, times_ms = (entry_prefix(project_id) + key, name), (lease_ms(), int(WANTED_S * 1000))
        reply = await self.call("EVAL", CLAIM, 2, *keys, holder, *times_ms)
        match reply:
            case 1:
                return RedisLease(self, name, holder)
            case 0:
                return None
            case _:
                return decode(project_id, reply) or LOCAL_LEASE

    async def purge(self, project_id: int) -> int:
        """Delete all responses of a project. Return their number, or 0 if Redis does not reply."""
        return int(await self.call("EVAL", PURGE, 3, *index_keys(project_id)) or 0)

    async def call(self, *command: Argument) -> Any:
        """Send a command. Return the reply, or None if Redis is down or rejects the command."""
        try:
            self.breaker.raise_if_open()
        except RedisUnavailable:
            return None
        try:
            reply = await self.connection.call(command)
        except RedisUnavailable:
            self.breaker.record_failure()
            return None
        except hiredis.ReplyError as error:
            log.warning(
                "cache_command_rejected",
                message="Redis rejected a command of the response cache, so the cache was not used.",
                reason=str(error),
            )
            return None
        self.breaker.record_success()
        return reply


def decode(project_id: int, data: Any) -> CachedResponse | None:
    """Decrypt and decode a response.

    Return None if there is no response, or if its encryption key was removed.
    """
    if not isinstance(data, bytes):
        return None
    try:
        return entry.decode(vault.unseal_bytes(project_id, data))
    except vault.DecryptionError:
        return None


def entry_prefix(project_id: int) -> str:
    return f"{key_prefix(project_id)}cache:"


def index_keys(project_id: int) -> tuple[str, str, str]:
    """Return the keys of the index by expiry and of the sizes, and the prefix of the responses."""
    prefix = key_prefix(project_id)
    return f"{prefix}cache-index", f"{prefix}cache-sizes", entry_prefix(project_id)


def lease_ms() -> int:
    return int(LEASE_S * 1000)
