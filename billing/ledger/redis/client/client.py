"""Redis as the ledger sees it: scripts on one connection for requests, and on one for everything that may take longer."""

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
    """A Redis that the ledger cannot keep its books in."""


class CommandRejected(RedisUnavailable):
    """Redis answers, but not this command: a project's counter is damaged, which is no other project's affair."""


class RedisClient:
    """`fast` commands are requests': they fail after `timeout_s`, and at once while the breaker is open."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self.fast = RedisConnection(url, timeout_s=timeout_s, setup=LOAD_COMMANDS)
        self.slow = RedisConnection(url, timeout_s=SLOW_TIMEOUT_S, setup=LOAD_COMMANDS)
        self.breaker = CircuitBreaker()
        self.clock_offset_s = 0.0

    async def open(self) -> None:
        await asyncio.gather(self.fast.open(CONNECT_TIMEOUT_S), self.slow.open(CONNECT_TIMEOUT_S))
        await self.reject_cluster()

    async def reject_cluster(self) -> None:
        """A cluster's node answers for a part of the keys alone, and redirects for the others: half of the projects would fail."""
        with suppress(RedisUnavailable):  # some hosts forbid INFO
            if b"cluster_enabled:1" in await self.command_slow("INFO", "cluster"):
                raise UnsupportedRedis(
                    "REDIS_URL names a node of a Redis Cluster, which the ledger cannot use: give it a single Redis"
                )

    async def close(self) -> None:
        await asyncio.gather(self.fast.close(), self.slow.close())

    async def run_fast(self, script: Script, project_id: int, *arguments: Argument) -> Any:
        """One script for a request; raises StoreUnavailable."""
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
        """For a request, as `run_fast`; the command is a plain one."""
        self.breaker.raise_if_open(is_probe=False)
        try:
            return await self.fast.call(command)
        except RedisUnavailable:
            self.breaker.record_failure()
            raise
        except hiredis.ReplyError as error:
            raise RedisUnavailable(str(error)) from error

    async def ping(self) -> None:
        """For a request that waits for something other than a command of its own; raises NotSent where Redis does not answer."""
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
        """Lets requests through again as soon as Redis answers in their time."""
        if self.breaker.failures:
            await self.fast.call(("PING",))
            self.breaker.record_success()

    async def sync_clock(self) -> None:
        """Learns how far Redis' clock is ahead of ours."""
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
