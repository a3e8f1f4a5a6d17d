"""Redis as the ledger sees it: scripts on one connection for requests, and on one for everything that may take longer."""

import asyncio
import time
from contextlib import suppress
from typing import Any

import hiredis

from billing.ledger.redis.breaker import Breaker
from billing.ledger.redis.connection import Argument, Connection, NotSent, StoreUnavailable
from billing.ledger.redis.scripts import GREETING, Script

CONNECT_S = 5.0
SLOW_S = 2.0


class Unsupported(Exception):
    """A Redis that the ledger cannot keep its books in."""


class Rejected(StoreUnavailable):
    """Redis answers, but not this command: a project's counter is damaged, which is no other project's affair."""


class Store:
    """`quick` commands are requests': they fail after `timeout_s`, and at once while the breaker is open."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self.quick = Connection(url, timeout_s=timeout_s, greet=GREETING)
        self.patient = Connection(url, timeout_s=SLOW_S, greet=GREETING)
        self.breaker = Breaker()
        self.ahead_s = 0.0

    async def open(self) -> None:
        await asyncio.gather(self.quick.open(CONNECT_S), self.patient.open(CONNECT_S))
        await self.refuse_cluster()

    async def refuse_cluster(self) -> None:
        """A cluster's node answers for a part of the keys alone, and redirects for the others: half of the projects would fail."""
        with suppress(StoreUnavailable):  # some hosts forbid INFO
            if b"cluster_enabled:1" in await self.call("INFO", "cluster"):
                raise Unsupported("REDIS_URL names a node of a Redis Cluster, which the ledger cannot use: give it a single Redis")

    async def close(self) -> None:
        await asyncio.gather(self.quick.close(), self.patient.close())

    async def run(self, script: Script, project_id: int, *arguments: Argument) -> Any:
        """One script for a request; raises StoreUnavailable."""
        self.breaker.check()
        try:
            reply = await evaluate(self.quick, script, project_id, arguments)
        except Rejected:
            self.breaker.worked()
            raise
        except StoreUnavailable:
            self.breaker.failed()
            raise
        self.breaker.worked()
        return reply

    async def call_quickly(self, *command: Argument) -> Any:
        """For a request, as `run`; the command is a plain one."""
        self.breaker.check(probe=False)
        try:
            return await self.quick.call(command)
        except StoreUnavailable:
            self.breaker.failed()
            raise
        except hiredis.ReplyError as error:
            raise StoreUnavailable(str(error)) from error

    async def look(self) -> None:
        """For a request that waits for something other than a command of its own; raises NotSent where Redis does not answer."""
        try:
            await self.call_quickly("PING")
        except StoreUnavailable as error:
            raise NotSent(str(error)) from error

    async def run_patiently(self, script: Script, project_id: int, *arguments: Argument) -> Any:
        return await evaluate(self.patient, script, project_id, arguments)

    async def call(self, *command: Argument) -> Any:
        try:
            return await self.patient.call(command)
        except hiredis.ReplyError as error:
            raise Rejected(str(error)) from error

    async def probe(self) -> None:
        """Lets requests through again as soon as Redis answers in their time."""
        if self.breaker.failures:
            await self.quick.call(("PING",))
            self.breaker.worked()

    async def set_clock(self) -> None:
        """Learns how far Redis' clock is ahead of ours."""
        asked = time.time()
        seconds, microseconds = await self.call("TIME")
        answered = time.time()
        self.ahead_s = int(seconds) + int(microseconds) / 1e6 - (asked + answered) / 2

    def now(self) -> float:
        return time.time() + self.ahead_s


async def evaluate(connection: Connection, script: Script, project_id: int, arguments: tuple[Argument, ...]) -> Any:
    try:
        return await connection.call(script.on(project_id, arguments))
    except hiredis.ReplyError as error:
        if not str(error).startswith("NOSCRIPT"):
            raise Rejected(str(error)) from error
    try:
        return await connection.call(script.in_full(project_id, arguments))
    except hiredis.ReplyError as error:
        raise Rejected(str(error)) from error
