"""The ledger's Redis client: one connection for requests, one for everything that may take longer."""

import asyncio
import time
from contextlib import suppress
from typing import Any

import hiredis

from billing.ledger.redis.client.circuit_breaker import CircuitBreaker
from billing.ledger.redis.client.connection import RedisConnection
from billing.ledger.redis.client.protocol import Argument, CommandNotSent, RedisUnavailable
from billing.ledger.redis.client.scripts import LOAD_COMMANDS, Script

CONNECT_TIMEOUT_S = 5.0
SLOW_TIMEOUT_S = 2.0


class UnsupportedRedis(Exception):
    """The ledger cannot use this kind of Redis server."""


class CommandRejected(RedisUnavailable):
    """Redis rejected a command, usually because a key is damaged.

    Only the project of that key is affected.
    """


class RedisClient:
    """Runs scripts and commands on two connections.

    `fast` is for requests: its commands fail after `timeout_s`, and at once while the circuit breaker is
    open. `slow` is for background tasks.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self.fast = RedisConnection(url, timeout_s=timeout_s, setup=LOAD_COMMANDS)
        self.slow = RedisConnection(url, timeout_s=SLOW_TIMEOUT_S, setup=LOAD_COMMANDS)
        self.breaker = CircuitBreaker()
        self.clock_offset_s = 0.0

    async def open(self) -> None:
        await asyncio.gather(self.fast.open(CONNECT_TIMEOUT_S), self.slow.open(CONNECT_TIMEOUT_S))
        await self.reject_cluster()

    async def reject_cluster(self) -> None:
        """Raise UnsupportedRedis for a node of a cluster: it redirects commands on keys of other nodes."""
        with suppress(RedisUnavailable):  # Some hosts forbid INFO.
            if b"cluster_enabled:1" in await self.command_slow("INFO", "cluster"):
                raise UnsupportedRedis(
                    "REDIS_URL names a node of a Redis Cluster, which is not supported. "
                    "Use a single Redis server."
                )

    async def close(self) -> None:
        await asyncio.gather(self.fast.close(), self.slow.close())

    async def run_fast(self, script: Script, project_id: int, *arguments: Argument) -> Any:
        """Run a script for a request; raise RedisUnavailable."""
        self.breaker.raise_if_open()
        try:
            reply = await evaluate(self.fast, script, project_id, arguments)
        except CommandRejected:
            self.breaker.record_success()
            raise
        except RedisUnavailable:
            self.breaker.record_failure()
            raise
        self.breaker.record_success()
        return reply

    async def command_fast(self, *command: Argument) -> Any:
        """Run a plain command for a request; raise RedisUnavailable."""
        self.breaker.raise_if_open(is_probe=False)
        try:
            return await self.fast.call(command)
        except RedisUnavailable:
            self.breaker.record_failure()
            raise
        except hiredis.ReplyError as error:
            raise RedisUnavailable(str(error)) from error

    async def ping(self) -> None:
        """Check that Redis answers in a request's time; raise CommandNotSent if it does not.

        This is for a request that waits for something else than a command of its own: nothing was sent for
        it.
        """
        try:
            await self.command_fast("PING")
        except RedisUnavailable as error:
            raise CommandNotSent(str(error)) from error

    async def run_slow(self, script: Script, project_id: int, *arguments: Argument) -> Any:
        return await evaluate(self.slow, script, project_id, arguments)

    async def command_slow(self, *command: Argument) -> Any:
        try:
            return await self.slow.call(command)
        except hiredis.ReplyError as error:
            raise CommandRejected(str(error)) from error

    async def probe_if_open(self) -> None:
        """Close the circuit breaker as soon as Redis answers within the timeout of requests."""
        if self.breaker.failures:
            await self.fast.call(("PING",))
            self.breaker.record_success()

    async def sync_clock(self) -> None:
        """Measure how far the clock of Redis is ahead of ours."""
        sent_at = time.time()
        seconds, microseconds = await self.command_slow("TIME")
        received_at = time.time()
        self.clock_offset_s = int(seconds) + int(microseconds) / 1e6 - (sent_at + received_at) / 2

    def now(self) -> float:
        return time.time() + self.clock_offset_s


async def evaluate(
    connection: RedisConnection, script: Script, project_id: int, arguments: tuple[Argument, ...]
) -> Any:
    try:
        return await connection.call(script.evalsha_command(project_id, arguments))
    except hiredis.ReplyError as error:
        if not str(error).startswith("NOSCRIPT"):
            raise CommandRejected(str(error)) from error
    try:
        return await connection.call(script.eval_command(project_id, arguments))
    except hiredis.ReplyError as error:
        raise CommandRejected(str(error)) from error
