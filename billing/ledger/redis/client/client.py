"""The ledger's Redis client: one connection for requests, and one for background tasks."""

import asyncio
import time
from contextlib import suppress
from typing import Any

import hiredis
import structlog

from billing.ledger.redis.client.circuit_breaker import CircuitBreaker
from billing.ledger.redis.client.connection import RedisConnection
from billing.ledger.redis.client.protocol import Argument, CommandNotSent, RedisUnavailable
from billing.ledger.redis.client.scripts import LOAD_COMMANDS, Script

CONNECT_TIMEOUT_S = 5.0
SLOW_TIMEOUT_S = 2.0

log = structlog.get_logger()


class UnsupportedRedis(Exception):
    """Raised if the ledger cannot use this kind of Redis server."""


class CommandRejected(RedisUnavailable):
    """Raised if Redis rejected a command, usually because a key is damaged.

    Only the project of that key is affected.
    """


class RedisClient:
    """Runs scripts and commands on two connections.

    Requests use `fast`. Its commands fail after `timeout_s`, or at once while the circuit breaker is open.
    Background tasks use `slow`, whose commands fail after SLOW_TIMEOUT_S.
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
        """Raise UnsupportedRedis for a node of a Redis Cluster, which redirects commands on some keys."""
        with suppress(RedisUnavailable):  # Some hosts forbid INFO.
            if b"cluster_enabled:1" in await self.command_slow("INFO", "cluster"):
                raise UnsupportedRedis(
                    "REDIS_URL names a node of a Redis Cluster, which is not supported. "
                    "Use a single Redis server."
                )

    async def warn_if_no_aof(self) -> None:
        """Log a warning if Redis keeps no append-only file."""
        with suppress(RedisUnavailable):  # Some hosts forbid CONFIG.
            if await self.command_slow("CONFIG", "GET", "appendonly") == [b"appendonly", b"no"]:
                log.warning(
                    "redis_appendonly_disabled",
                    message="Redis keeps no append-only file. After a crash, requests under hard budgets are "
                    "denied until the budgets are rebuilt from the database. Set appendonly to yes.",
                )

    async def close(self) -> None:
        await asyncio.gather(self.fast.close(), self.slow.close())

    async def run_fast(self, script: Script, project_id: int, *arguments: Argument) -> Any:
        """Run a script for a request. Raises RedisUnavailable."""
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
        """Run a command for a request. Raises RedisUnavailable."""
        self.breaker.raise_if_open(is_probe=False)
        try:
            return await self.fast.call(command)
        except RedisUnavailable:
            self.breaker.record_failure()
            raise
        except hiredis.ReplyError as error:
            raise RedisUnavailable(str(error)) from error

    async def ping(self) -> None:
        """Check that Redis answers within the timeout of requests. Raises CommandNotSent.

        A request calls this while it waits for a command of another task. The exception is CommandNotSent
        because the request itself has sent nothing yet.
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
        """Ping Redis if the last command of a request failed. If Redis answers, reset the circuit breaker."""
        if self.breaker.failures:
            await self.fast.call(("PING",))
            self.breaker.record_success()

    async def sync_clock(self) -> None:
        """Measure how far the clock of Redis is ahead of the clock of this process."""
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
