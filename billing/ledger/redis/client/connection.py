"""A connection to Redis that reconnects until it is closed."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import hiredis
import structlog

from billing.ledger.redis.client.address import RedisAddress
from billing.ledger.redis.client.protocol import Command, CommandNotSent, RedisProtocol, RedisUnavailable

RECONNECT_DELAYS_S = (0.05, 0.1, 0.2, 0.5)

log = structlog.get_logger()


class RedisConnection:
    """A connection that reconnects whenever it is lost, from `open` to `close`.

    Every new TCP connection sends the commands in `setup` first.
    """

    def __init__(self, url: str, *, timeout_s: float, setup: Sequence[Command] = ()) -> None:
        self.address = RedisAddress.parse(url)
        self.timeout_s = timeout_s
        self.setup = [*self.address.setup_commands(), *setup]
        self.protocol: RedisProtocol | None = None
        self.times_connected = 0
        self.connected = asyncio.Event()
        self.reconnect_task: asyncio.Task[None] | None = None
        self.last_error = ""

    async def open(self, timeout_s: float) -> None:
        """Connect. After `timeout_s`, raise RedisUnavailable, but continue to try in the background."""
        self.reconnect_task = asyncio.create_task(self.reconnect_loop())
        try:
            await asyncio.wait_for(self.connected.wait(), timeout_s)
        except TimeoutError:
            address = f"{self.address.host}:{self.address.port}"
            raise RedisUnavailable(
                f"no connection to {address} within {timeout_s:g} s: {self.last_error or 'no reply'}"
            ) from None

    async def close(self) -> None:
        if self.reconnect_task is not None:
            self.reconnect_task.cancel()
            with suppress(asyncio.CancelledError):
                await self.reconnect_task
        if self.protocol is not None:
            self.protocol.close()
            self.protocol = None

    async def call(self, command: Command) -> Any:
        """Send a command and return the reply.

        Raises RedisUnavailable, or hiredis.ReplyError if Redis rejects the command.
        """
        if self.protocol is None or self.protocol.transport is None:
            raise CommandNotSent("not connected")
        return await self.protocol.send(command)

    async def reconnect_loop(self) -> None:
        failures = 0
        while True:
            lost = asyncio.Event()
            try:
                await self.connect(lost)
            except (OSError, TimeoutError, RedisUnavailable, hiredis.ReplyError) as error:
                self.last_error = str(error) or type(error).__name__
                if failures == 0:
                    log.warning(
                        "redis_connection_failed",
                        message="Redis cannot be reached. The connection is tried again.",
                        error=self.last_error,
                    )
                await asyncio.sleep(RECONNECT_DELAYS_S[min(failures, len(RECONNECT_DELAYS_S) - 1)])
                failures += 1
                continue
            failures = 0
            await lost.wait()
            self.protocol = None
            self.connected.clear()

    async def connect(self, lost: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(max(self.timeout_s, 1.0)):
            _, protocol = await loop.create_connection(
                lambda: RedisProtocol(self.timeout_s, lost.set),
                self.address.host,
                self.address.port,
                ssl=self.address.ssl_context(),
            )
            try:
                await asyncio.gather(*(protocol.send(command) for command in self.setup))
            except BaseException:
                protocol.close()
                raise
        self.protocol = protocol
        self.times_connected += 1
        self.connected.set()
