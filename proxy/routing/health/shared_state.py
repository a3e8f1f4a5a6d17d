"""Exchange of the health of targets between the processes of a gateway, through Redis.

A breaker that opens in one process, and a credential that a provider rejects there, count in all of them. The
exchange is best effort and runs in the background: while Redis is down, each process has only its own
knowledge, and no request waits for it.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from billing.ledger.redis.client.connection import RedisConnection
from billing.ledger.redis.client.protocol import RedisUnavailable
from proxy.routing.health.target_health import HealthRegistry, TargetHealth

BREAKERS_KEY, CREDENTIALS_KEY = "gw:breakers", "gw:credentials"
"""Hashes by id: the time until which a breaker is open, and the time of a credential's next probe."""
EXPIRY_S = 3600
CONNECT_TIMEOUT_S = 1.0
STALE_S = 60
"""If the probe of a breaker is overdue by more than this time, the process of the breaker has ended."""


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
            await self.send(target)
        opened, rejected = await asyncio.gather(self.read(BREAKERS_KEY), self.read(CREDENTIALS_KEY))
        now = registry.clock()
        registry.take_over({id: until for id, until in opened.items() if until > now - STALE_S}, rejected)

    async def send(self, target: TargetHealth) -> None:
        breaker, credential = target.breaker, target.credential
        await self.write(BREAKERS_KEY, target.id, breaker.open_until if breaker.is_open else None)
        is_rejected = not credential.is_usable
        await self.write(
            CREDENTIALS_KEY, target.credential_id, credential.next_probe_at if is_rejected else None
        )

    async def write(self, key: str, id: str, until: float | None) -> None:
        if until is None:
            await self.connection.call(("HDEL", key, id))
            return
        await self.connection.call(("HSET", key, id, repr(until)))
        await self.connection.call(("EXPIRE", key, EXPIRY_S))

    async def read(self, key: str) -> dict[str, float]:
        reply = await self.connection.call(("HGETALL", key))
        return {id.decode(): float(until) for id, until in zip(reply[::2], reply[1::2], strict=True)}
