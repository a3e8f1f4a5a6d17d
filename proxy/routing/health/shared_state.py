"""Exchange of the health of targets between the processes of a gateway, through Redis.

A breaker that opens in one process, and a credential that a provider rejects there, count in all of them.
Only one process makes the probe of a breaker. A key in Redis marks this probe, so only such a call waits for
Redis. The other exchange is best effort and runs in the background: while Redis is down, each process has
only its own knowledge, and no other request waits for it.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

import hiredis

from billing.ledger.redis.client.connection import RedisConnection
from billing.ledger.redis.client.protocol import RedisUnavailable
from proxy.routing.health.breaker import OPEN_S
from proxy.routing.health.published import Problem, PublishedHealth
from proxy.routing.health.target_health import HealthRegistry, TargetHealth

BREAKERS_KEY, CREDENTIALS_KEY, ACCESS_KEY = "gw:breakers", "gw:credentials", "gw:model-access"
"""Hashes by id: the time until which a breaker is open, or of the next probe of a credential or a model."""
PROBE_KEY = "gw:breaker-probe:"
"""The start of the keys that mark the probe of a breaker, which only one process makes."""
EXPIRY_S = 3600
CONNECT_TIMEOUT_S = 1.0
STALE_S = 60
"""If a probe is overdue by more than this time, the target is not used any more, and its entry is deleted."""
MAX_ENTRIES = 500
"""The maximum number of models without access that are shared, because clients can name any model."""
MAX_REASON_LENGTH = 300


class SharedState:
    """The state of all processes in Redis."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self.connection = RedisConnection(url, timeout_s=timeout_s)

    async def open(self) -> None:
        """Connect in the background. The gateway starts even if Redis is down."""
        with suppress(RedisUnavailable):
            await self.connection.open(CONNECT_TIMEOUT_S)

    async def close(self) -> None:
        """Close the connection."""
        await self.connection.close()

    async def exchange(self, registry: HealthRegistry, changed: Iterable[TargetHealth]) -> None:
        """Send what has changed in this process, and take over the state of the others.

        Raises RedisUnavailable or hiredis.ReplyError.
        """
        for target in changed:
            await self.send(target, registry.published)
        now = registry.clock()
        breakers, credentials, access = await asyncio.gather(
            self.read_current(BREAKERS_KEY, now),
            self.read(CREDENTIALS_KEY),
            self.read_current(ACCESS_KEY, now),
        )
        registry.take_over(PublishedHealth(breakers, credentials, access))

    async def claim_probe(self, id: str) -> bool:
        """Return whether this process makes the probe of a breaker. Without Redis, each process does."""
        try:
            command = ("SET", PROBE_KEY + id, "1", "NX", "PX", OPEN_S * 1000)
            return await self.connection.call(command) is not None
        except (RedisUnavailable, hiredis.ReplyError):
            return True

    async def send(self, target: TargetHealth, published: PublishedHealth) -> None:
        breaker, access = target.breaker, target.access.problem
        await self.write(BREAKERS_KEY, target.id, Problem(breaker.open_until) if breaker.is_open else None)
        await self.write(CREDENTIALS_KEY, target.credential_id, target.credential.problem)
        if access is None or len(published.access) < MAX_ENTRIES:
            await self.write(ACCESS_KEY, target.id, access)

    async def write(self, key: str, id: str, problem: Problem | None) -> None:
        if problem is None:
            await self.connection.call(("HDEL", key, id))
            return
        value = f"{problem.until!r} {problem.reason[:MAX_REASON_LENGTH]}"
        await self.connection.call(("HSET", key, id, value))
        await self.connection.call(("EXPIRE", key, EXPIRY_S))

    async def read_current(self, key: str, now: float) -> dict[str, Problem]:
        """Return the entries of a hash that are not stale, and delete the others."""
        problems = await self.read(key)
        stale = [id for id, problem in problems.items() if problem.until <= now - STALE_S]
        for id in stale:
            del problems[id]
            await self.write(key, id, None)
        return problems

    async def read(self, key: str) -> dict[str, Problem]:
        reply = await self.connection.call(("HGETALL", key))
        return {id.decode(): problem_of(value) for id, value in zip(reply[::2], reply[1::2], strict=True)}


def problem_of(value: bytes) -> Problem:
    """Parse what `write` has stored: the time, a space, and the reason."""
    until, _, reason = value.decode(errors="replace").partition(" ")
    return Problem(float(until), reason)
