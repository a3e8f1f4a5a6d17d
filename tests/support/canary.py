"""A server in the private network that must never be reached, and the URLs that try to reach it."""

import asyncio
import socket
import threading
from asyncio.selector_events import BaseSelectorEventLoop
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web

from projects import outbound
from tests.support.upstream_server import LocalUpstream

PUBLIC = "93.184.215.14"
"""A public address. Tests never connect to it (`recorded_connections`)."""
NAMES = {
    "localhost": ["127.0.0.1"],
    "localhost.": ["127.0.0.1"],
    "loopback.test": ["127.0.0.1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "both.test": [PUBLIC, "127.0.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
    "redirect.test": ["127.0.0.1"],
}
"""Addresses of names. `rebinding.test` is not in this table: see `Resolver`."""
HOSTS = (
    # Usual spellings.
    "127.0.0.1 127.255.255.254 0.0.0.0 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 "
    "100.100.100.200 192.0.0.192 192.88.99.1 198.18.0.1 168.63.129.16 224.0.0.1 240.0.0.1 255.255.255.255 "
    # Spellings that inet_aton accepts: decimal, hexadecimal, octal and short.
    "2130706433 017700000001 0x7f000001 0X7F000001 0x7f.1 0177.0.0.1 0177.1 127.1 127.0.1 0 "
    "0xa9fea9fe 2852039166 0251.0376.0251.0376 127.0.0.1. 2130706433. "
    # Full-width and enclosed digits, other dots, percent-encoding.
    "１２７.0.0.1 127。0。0。1 ①②⑦.⓪.⓪.① 127.0.0%2e1 %31%32%37.0.0.1 ⓛocalhost "
    # IPv6: loopback, unspecified, unique local, link-local, site-local, and IPv4 inside it.
    "[::1] [::] [0:0:0:0:0:0:0:1] [fd00::1] [fd00:ec2::254] [fe80::1] [fec0::1] [ff02::1] "
    "[3fff::1] [5f00::1] "
    "[::ffff:127.0.0.1] [::ffff:7f00:1] [::127.0.0.1] [::ffff:0:127.0.0.1] [64:ff9b::127.0.0.1] "
    "[64:ff9b:1::7f00:1] [2002:7f00:1::] [2001:0:4136:e378:8000:63bf:80ff:fffe] [::ffff:169.254.169.254] "
    # Names.
    "localhost LOCALHOST localhost. loopback.test mapped.test both.test metadata.google.internal"
)
"""Hosts whose requests would reach the own machine or the private network."""
FORMS = (
    *(f"http://{host}:{{port}}/v1" for host in HOSTS.split()),
    "http://public.test#@127.0.0.1:{port}/v1",
    "http://public.test@127.0.0.1:{port}/v1",
    "http://user:password@127.0.0.1:{port}/v1",
    "http://127.0.0.1:{port}#@public.test/v1",
    "http://127.0.0.1:{port}\\@public.test/v1",
    "http:\\\\127.0.0.1:{port}/v1",
    "http://127.0.0.1:{port}/v1?x=@public.test",
    "//127.0.0.1:{port}/v1",
    " http://127.0.0.1:{port}/v1",
    "http://\t127.0.0.1:{port}/v1",
    "gopher://127.0.0.1:{port}/v1",
    "file://127.0.0.1:{port}/etc/passwd",
    "http://rebinding.test:{port}/v1",
    *(f"http://redirect.test:{{redirect_port}}/{status}" for status in (301, 302, 303, 307, 308)),
)
"""URLs of tenants. `port` is that of the canary, `redirect_port` that of an allowed host that redirects."""


class Canary:
    """Server on the loopback interface that counts its connections."""

    def __init__(self) -> None:
        self.connections = 0
        self.sockets = [socket.create_server(("127.0.0.1", 0))]
        self.port: int = self.sockets[0].getsockname()[1]
        with suppress(OSError):  # A machine may have no IPv6.
            self.sockets.append(socket.create_server(("::1", self.port), family=socket.AF_INET6))
        for server in self.sockets:
            threading.Thread(target=self.accept, args=(server,), daemon=True).start()

    def accept(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()

    def close(self) -> None:
        for server in self.sockets:
            server.close()


class Resolver:
    """Replaces DNS. `rebinding.test` has a public address at the first look-up, and then a private one."""

    def __init__(self) -> None:
        self.lookups: Counter[str] = Counter()

    def getaddrinfo(self, host: str, family: socket.AddressFamily) -> list[tuple[Any, ...]]:
        name = host.lower()
        self.lookups[name] += 1
        if name == "rebinding.test":
            addresses = [PUBLIC if self.lookups[name] == 1 else "127.0.0.1"]
        else:
            addresses = NAMES.get(name, [host])
        found: list[tuple[Any, ...]] = []
        for address in addresses:
            found += socket.getaddrinfo(
                address, None, socket.AF_UNSPEC, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        return found


@pytest.fixture
def canary() -> Iterator[Canary]:
    canary = Canary()
    yield canary
    canary.close()


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    resolver = Resolver()
    monkeypatch.setattr(outbound, "getaddrinfo", resolver.getaddrinfo)
    return resolver


@pytest.fixture
def recorded_connections(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the addresses of connections, and refuse those that are not to the own machine."""
    addresses: list[str] = []
    connect = BaseSelectorEventLoop.sock_connect

    async def record(loop: BaseSelectorEventLoop, sock: socket.socket, address: tuple[Any, ...]) -> None:
        addresses.append(address[0])
        if not address[0].startswith(("127.", "::")):
            raise ConnectionRefusedError
        await connect(loop, sock, address)

    monkeypatch.setattr(BaseSelectorEventLoop, "sock_connect", record)
    return addresses


@pytest.fixture
def redirecting_server(canary: Canary) -> Iterator[LocalUpstream]:
    """Server that redirects to the canary, with the status that the path names."""

    async def redirect(request: web.Request, _body: object) -> web.StreamResponse:
        status = next((int(part) for part in request.path.split("/") if part.isdecimal()), 302)
        return web.Response(status=status, headers={"location": f"http://127.0.0.1:{canary.port}/secret"})

    server = LocalUpstream().start()
    server.handler = redirect
    yield server
    server.stop()


@pytest.fixture
def ssrf_urls(canary: Canary, redirecting_server: LocalUpstream) -> list[str]:
    port = redirecting_server.url.rpartition(":")[2].partition("/")[0]
    return [form.format(port=canary.port, redirect_port=port) for form in FORMS]


async def gather_results(*calls: Any) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)
