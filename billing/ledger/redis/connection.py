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
GIVE_UP_S = 2.0
"""A connection on which nothing was answered for this long beyond its timeout is closed."""
SECOND_LOOK_S = 0.005
RECONNECT_S = (0.05, 0.1, 0.2, 0.5)

log = structlog.get_logger()


class StoreUnavailable(Exception):
    """Redis did not answer: the command may have been executed, or may yet be."""


class NotSent(StoreUnavailable):
    """Redis is not connected: the command was not sent, and has no effect."""


@dataclass(frozen=True, slots=True)
class Address:
    """`tls`: None, or the files that the URL names, by redis-py's words for them."""

    host: str
    port: int
    login: tuple[str, ...]
    database: int
    tls: dict[str, str] | None

    @classmethod
    def parse(cls, url: str) -> "Address":
        """From `redis://user:password@host:port/database`; `rediss` means TLS."""
        parts = urlsplit(url)
        login = tuple(unquote(part) for part in (parts.username, parts.password) if part)
        tls = dict(parse_qsl(parts.query)) if parts.scheme == "rediss" else None
        return cls(parts.hostname or "localhost", parts.port or DEFAULT_PORT, login, int(parts.path.strip("/") or 0), tls)

    def context(self) -> ssl.SSLContext | None:
        """Certificates are checked always: by the authorities that the system trusts, and those that the URL names."""
        if self.tls is None:
            return None
        context = ssl.create_default_context()
        if "ssl_ca_certs" in self.tls:
            context.load_verify_locations(self.tls["ssl_ca_certs"])
        if "ssl_certfile" in self.tls:
            context.load_cert_chain(self.tls["ssl_certfile"], self.tls.get("ssl_keyfile"))
        return context

    def greeting(self) -> list[Command]:
        """What a new connection says first."""
        commands: list[Command] = []
        if self.login:
            commands.append(("AUTH", *self.login))
        if self.database:
            commands.append(("SELECT", self.database))
        return commands


@dataclass(slots=True)
class Slot:
    """A command that was sent."""

    answer: asyncio.Future[Any]
    sent: float

    def deliver(self, reply: Any) -> None:
        if self.answer.done():
            return
        if isinstance(reply, Exception):
            self.answer.set_exception(reply)
        else:
            self.answer.set_result(reply)


class Wire(asyncio.Protocol):
    """One TCP connection: commands out, replies in, in the same order."""

    def __init__(self, timeout_s: float, lost: Callable[[], None]) -> None:
        self.timeout_s = timeout_s
        self.lost = lost
        self.loop = asyncio.get_running_loop()
        self.reader = hiredis.Reader()
        self.slots: deque[Slot] = deque()
        self.outgoing: list[bytes] = []
        self.unsent: list[Slot] = []
        self.heard = 0.0
        self.transport: asyncio.Transport | None = None
        self.watching = False
        self.suspected = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one, but no subclass

    def send(self, command: Command) -> asyncio.Future[Any]:
        slot = Slot(self.loop.create_future(), math.inf)
        if not self.outgoing:
            self.loop.call_soon(self.flush)
        self.outgoing.append(hiredis.pack_command(command))  # type: ignore[arg-type]  # its type says a tuple of one
        self.slots.append(slot)
        self.unsent.append(slot)
        return slot.answer

    def flush(self) -> None:
        """The clock of a command starts here: how long our own loop took until now is no fault of Redis."""
        outgoing, self.outgoing = self.outgoing, []
        unsent, self.unsent = self.unsent, []
        if self.transport is not None:
            self.transport.write(b"".join(outgoing))
        now = self.loop.time()
        for slot in unsent:
            slot.sent = now
        if not self.watching:
            self.watching = True
            self.loop.call_later(self.timeout_s, self.watch)

    def data_received(self, data: bytes) -> None:
        self.suspected, self.heard = False, self.loop.time()
        try:
            self.reader.feed(data)
            while (reply := self.reader.gets()) is not False:
                self.slots.popleft().deliver(reply)
        except (hiredis.ProtocolError, IndexError) as error:
            log.error("redis sent what is no reply", error=str(error))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        slots, self.slots = self.slots, deque()
        for slot in slots:
            slot.deliver(StoreUnavailable(f"connection lost: {exc or 'closed'}"))
        self.lost()

    def watch(self) -> None:
        """Fails what has waited too long, once Redis has said nothing for as long: while it answers others, it is only busy. A
        loop that was busy itself may not have read yet what was said: it gets a second look."""
        now = self.loop.time()
        silence = now - max(self.slots[0].sent, self.heard) if self.slots else 0.0
        if silence >= self.timeout_s and not self.suspected:
            self.suspected = True
            self.loop.call_later(SECOND_LOOK_S, self.watch)
            return
        self.suspected = False
        self.watching = bool(self.slots)
        if silence > self.timeout_s + GIVE_UP_S:
            self.close()
        elif self.slots:
            if silence >= self.timeout_s:
                self.expire(now)
            self.loop.call_later(max(self.timeout_s - max(silence, 0.0), self.timeout_s / 4), self.watch)

    def expire(self, now: float) -> None:
        for slot in self.slots:
            if now - slot.sent < self.timeout_s:
                return
            if not slot.answer.done():
                slot.answer.set_exception(StoreUnavailable(f"no answer within {self.timeout_s * 1000:.0f} ms"))

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Connection:
    """Stays connected, or tries to, from `open` to `close`. `greet` is sent first on every new connection."""

    def __init__(self, url: str, *, timeout_s: float, greet: Sequence[Command] = ()) -> None:
        self.address = Address.parse(url)
        self.timeout_s = timeout_s
        self.greet = [*self.address.greeting(), *greet]
        self.wire: Wire | None = None
        self.times_connected = 0
        self.connected = asyncio.Event()
        self.keeper: asyncio.Task[None] | None = None
        self.failure = ""

    async def open(self, wait_s: float) -> None:
        """Waits for the first connection, but no longer than this; raises StoreUnavailable then, and goes on trying."""
        self.keeper = asyncio.create_task(self.stay_connected())
        try:
            await asyncio.wait_for(self.connected.wait(), wait_s)
        except TimeoutError:
            place = f"{self.address.host}:{self.address.port}"
            raise StoreUnavailable(f"no connection to {place} within {wait_s:g} s: {self.failure or 'no answer'}") from None

    async def close(self) -> None:
        if self.keeper is not None:
            self.keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self.keeper
        if self.wire is not None:
            self.wire.close()
            self.wire = None

    async def call(self, command: Command) -> Any:
        """The reply to a command; raises StoreUnavailable, or hiredis.ReplyError where Redis refuses it."""
        if self.wire is None or self.wire.transport is None:
            raise NotSent("not connected")
        return await self.wire.send(command)

    async def stay_connected(self) -> None:
        failures = 0
        while True:
            lost = asyncio.Event()
            try:
                await self.connect(lost)
            except (OSError, TimeoutError, StoreUnavailable, hiredis.ReplyError) as error:
                self.failure = str(error) or type(error).__name__
                if failures == 0:
                    log.warning("redis does not answer", error=self.failure)
                await asyncio.sleep(RECONNECT_S[min(failures, len(RECONNECT_S) - 1)])
                failures += 1
                continue
            failures = 0
            await lost.wait()
            self.wire = None
            self.connected.clear()

    async def connect(self, lost: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(max(self.timeout_s, 1.0)):
            _, wire = await loop.create_connection(
                lambda: Wire(self.timeout_s, lost.set), self.address.host, self.address.port, ssl=self.address.context()
            )
            try:
                await asyncio.gather(*(wire.send(command) for command in self.greet))
            except BaseException:
                wire.close()
                raise
        self.wire = wire
        self.times_connected += 1
        self.connected.set()
