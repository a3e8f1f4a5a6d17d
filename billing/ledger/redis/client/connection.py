"""One connection to Redis for a whole process: commands of one turn of the event loop leave in one write.

redis-py's asyncio client costs 60 us of CPU for a round trip, this 5 to 10: no pool, no task and no timer for each command.
"""

import asyncio
import math
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import hiredis
import structlog

Argument = str | bytes | int
Command = tuple[Argument, ...]

DEFAULT_PORT = 6379
CLOSE_AFTER_S = 2.0
"""A connection on which nothing was answered for this long beyond its timeout is closed."""
RECHECK_DELAY_S = 0.005
RECONNECT_DELAYS_S = (0.05, 0.1, 0.2, 0.5)

log = structlog.get_logger()


class RedisUnavailable(Exception):
    """Redis did not answer: the command may have been executed, or may yet be."""


class CommandNotSent(RedisUnavailable):
    """Redis is not connected: the command was not sent, and has no effect."""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """`tls`: None, or the files that the URL names, by redis-py's words for them."""

    host: str
    port: int
    credentials: tuple[str, ...]
    database: int
    tls: dict[str, str] | None

    @classmethod
    def parse(cls, url: str) -> "RedisAddress":
        """From `redis://user:password@host:port/database`; `rediss` means TLS."""
        parts = urlsplit(url)
        login = tuple(unquote(part) for part in (parts.username, parts.password) if part)
        tls = dict(parse_qsl(parts.query)) if parts.scheme == "rediss" else None
        return cls(
            parts.hostname or "localhost",
            parts.port or DEFAULT_PORT,
            login,
            int(parts.path.strip("/") or 0),
            tls,
        )

    def ssl_context(self) -> ssl.SSLContext | None:
        """Certificates are checked always: by the authorities that the system trusts, and those that the URL names."""
        if self.tls is None:
            return None
        context = ssl.create_default_context()
        if "ssl_ca_certs" in self.tls:
            context.load_verify_locations(self.tls["ssl_ca_certs"])
        if "ssl_certfile" in self.tls:
            context.load_cert_chain(self.tls["ssl_certfile"], self.tls.get("ssl_keyfile"))
        return context

    def setup_commands(self) -> list[Command]:
        """What a new connection says first."""
        commands: list[Command] = []
        if self.credentials:
            commands.append(("AUTH", *self.credentials))
        if self.database:
            commands.append(("SELECT", self.database))
        return commands


@dataclass(slots=True)
class PendingCommand:
    """A command that was sent."""

    reply_future: asyncio.Future[Any]
    sent_at: float

    def resolve(self, reply: Any) -> None:
        if self.reply_future.done():
            return
        if isinstance(reply, Exception):
            self.reply_future.set_exception(reply)
        else:
            self.reply_future.set_result(reply)


class RedisProtocol(asyncio.Protocol):
    """One TCP connection: commands out, replies in, in the same order."""

    def __init__(self, timeout_s: float, on_lost: Callable[[], None]) -> None:
        self.timeout_s = timeout_s
        self.on_lost = on_lost
        self.loop = asyncio.get_running_loop()
        self.reader = hiredis.Reader()
        self.pending: deque[PendingCommand] = deque()
        self.write_buffer: list[bytes] = []
        self.unsent: list[PendingCommand] = []
        self.last_received_at = 0.0
        self.transport: asyncio.Transport | None = None
        self.is_checking = False
        self.recheck_pending = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one, but no subclass

    def send(self, command: Command) -> asyncio.Future[Any]:
        pending_command = PendingCommand(self.loop.create_future(), math.inf)
        if not self.write_buffer:
            self.loop.call_soon(self.flush)
        self.write_buffer.append(hiredis.pack_command(command))  # type: ignore[arg-type]  # its type says a tuple of one
        self.pending.append(pending_command)
        self.unsent.append(pending_command)
        return pending_command.reply_future

    def flush(self) -> None:
        """The clock of a command starts here: how long our own loop took until now is no fault of Redis."""
        write_buffer, self.write_buffer = self.write_buffer, []
        unsent, self.unsent = self.unsent, []
        if self.transport is not None:
            self.transport.write(b"".join(write_buffer))
        now = self.loop.time()
        for pending_command in unsent:
            pending_command.sent_at = now
        if not self.is_checking:
            self.is_checking = True
            self.loop.call_later(self.timeout_s, self.check_timeouts)

    def data_received(self, data: bytes) -> None:
        self.recheck_pending, self.last_received_at = False, self.loop.time()
        try:
            self.reader.feed(data)
            while (reply := self.reader.gets()) is not False:
                self.pending.popleft().resolve(reply)
        except (hiredis.ProtocolError, IndexError) as error:
            log.error("redis sent what is no reply", error=str(error))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        pending, self.pending = self.pending, deque()
        for pending_command in pending:
            pending_command.resolve(RedisUnavailable(f"connection lost: {exc or 'closed'}"))
        self.on_lost()

    def check_timeouts(self) -> None:
        """Fails what has waited too long, once Redis has said nothing for as long: while it answers others, it is only busy. A
        loop that was busy itself may not have read yet what was said: it gets a second look.
        """
        now = self.loop.time()
        idle_s = now - max(self.pending[0].sent_at, self.last_received_at) if self.pending else 0.0
        if idle_s >= self.timeout_s and not self.recheck_pending:
            self.recheck_pending = True
            self.loop.call_later(RECHECK_DELAY_S, self.check_timeouts)
            return
        self.recheck_pending = False
        self.is_checking = bool(self.pending)
        if idle_s > self.timeout_s + CLOSE_AFTER_S:
            self.close()
        elif self.pending:
            if idle_s >= self.timeout_s:
                self.fail_expired(now)
            self.loop.call_later(
                max(self.timeout_s - max(idle_s, 0.0), self.timeout_s / 4), self.check_timeouts
            )

    def fail_expired(self, now: float) -> None:
        for pending_command in self.pending:
            if now - pending_command.sent_at < self.timeout_s:
                return
            if not pending_command.reply_future.done():
                pending_command.reply_future.set_exception(
                    RedisUnavailable(f"no answer within {self.timeout_s * 1000:.0f} ms")
                )

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class RedisConnection:
    """Stays connected, or tries to, from `open` to `close`. `setup` is sent first on every new connection."""

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
        """Waits for the first connection, but no longer than this; raises StoreUnavailable then, and goes on trying."""
        self.reconnect_task = asyncio.create_task(self.reconnect_loop())
        try:
            await asyncio.wait_for(self.connected.wait(), timeout_s)
        except TimeoutError:
            address = f"{self.address.host}:{self.address.port}"
            raise RedisUnavailable(
                f"no connection to {address} within {timeout_s:g} s: {self.last_error or 'no answer'}"
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
        """The reply to a command; raises StoreUnavailable, or hiredis.ReplyError where Redis refuses it."""
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
                    log.warning("redis does not answer", error=self.last_error)
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
