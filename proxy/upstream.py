"""Calls to providers over HTTP/1.1: one pooled aiohttp session per process.

Addresses that tenants chose are resolved, checked and connected to in one step, so that a name cannot point into the
operator's network; redirects are not followed.
"""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from django.conf import settings
from yarl import URL

CONNECT_TIMEOUT_S = 10
KEEPALIVE_S = 60
MAX_ANSWER_BYTES = 64 * 1024 * 1024
LOOPBACK = ("localhost", "127.0.0.1", "::1")
NAME = re.compile(r"[a-z0-9._-]+", re.IGNORECASE)
NUMBERS = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*\.?", re.IGNORECASE)
"""What the C library's inet_aton may take for an IPv4 address: 2130706433, 0x7f.1, 127.1."""
EMBEDDING = tuple(map(IPv6Network, ("::/96", "::ffff:0:0/96", "64:ff9b::/96")))
"""Networks whose addresses end in the IPv4 address that they stand for (RFC 4291, section 2.5.5, and RFC 6052)."""
NO_ADDRESS = "Give an http or https address without a user name, query or fragment"


class BadUpstreamAddress(Exception):
    """The base URL is no http(s) address, or points where tenants may not send requests; the message says which."""


class UpstreamFailure(Exception):
    """`sent`: the request, or a part of it, has reached the provider, which may bill it."""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class UpstreamRefused(UpstreamFailure):
    """No connection, or it broke: a provider that cannot be reached."""


class UpstreamTimeout(UpstreamFailure):
    """The provider did not connect or did not send anything for too long."""


def private_hosts() -> tuple[str, ...]:
    """Hosts in private networks that tenants may call: GATEWAY_PRIVATE_UPSTREAMS. A gateway that listens on the loopback
    interface only and has no public name, as at a developer's desk, allows that interface by default; one that stands behind
    a proxy has a public name."""
    env = settings.ENV
    if env.gateway_private_upstreams is not None:
        return tuple(env.gateway_private_upstreams)
    return LOOPBACK if env.listens_on_loopback_only and URL(env.public_url).host in LOOPBACK else ()


def check_address(url: str) -> None:
    """Checks a base URL; raises BadUpstreamAddress for what can be seen without resolving its name."""
    if "?" in url or "#" in url:
        raise BadUpstreamAddress(NO_ADDRESS)
    check_host(url)


def check_host(url: str) -> None:
    """Checks where a URL leads, read as the client reads it that will connect: wide digits and dots are plain ones there."""
    try:
        parts = URL(url)
    except ValueError:
        raise BadUpstreamAddress(NO_ADDRESS) from None
    host = parts.raw_host
    if parts.scheme not in ("http", "https") or not host or parts.user is not None or parts.password is not None:
        raise BadUpstreamAddress(NO_ADDRESS)
    try:
        ip_address(host)
    except ValueError:
        check_name(host)
    else:
        check_ip(host, host)


def check_name(host: str) -> None:
    if not NAME.fullmatch(host):
        raise BadUpstreamAddress(NO_ADDRESS)
    if NUMBERS.fullmatch(host):
        raise BadUpstreamAddress(f"{host} is no IP address in its usual form")


def check_ip(host: str, address: str) -> None:
    ip = destination(address)
    if (not ip.is_global or ip.is_multicast) and host not in private_hosts():
        raise BadUpstreamAddress(f"{host} is a private address; the operator can allow it in GATEWAY_PRIVATE_UPSTREAMS")


def destination(address: str) -> IPv4Address | IPv6Address:
    """The address, or the IPv4 address that it embeds: translators and tunnels (NAT64, 6to4, Teredo) deliver to that one."""
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        return ip
    if any(ip in network for network in EMBEDDING):
        return IPv4Address(int(ip) % 2**32)
    return ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)


class GuardedResolver(AbstractResolver):
    """Resolves names for tenants' base URLs; what it returns is what is connected to."""

    def __init__(self) -> None:
        self.inner = aiohttp.ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        found = await self.inner.resolve(host, port, family)
        for result in found:
            check_ip(host, result["host"])
        return found

    async def close(self) -> None:
        await self.inner.close()


class HttpReply:
    """A provider's answer, of which the headers have arrived. Leaving its `async with` ends the call at the provider."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.status = response.status
        self.headers = response.headers

    async def read(self) -> bytes:
        parts, size = [], 0
        async for part in self.chunks():
            parts.append(part)
            size += len(part)
            if size > MAX_ANSWER_BYTES:
                raise UpstreamRefused(f"its answer is larger than {MAX_ANSWER_BYTES} bytes")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Bytes as they come. Raises UpstreamRefused where the stream breaks, UpstreamTimeout where it falls silent."""
        try:
            async for chunk in self.response.content.iter_any():
                yield chunk
        except aiohttp.ClientError as error:
            raise UpstreamRefused(f"the connection broke: {type(error).__name__}") from error
        except TimeoutError:
            raise UpstreamTimeout("nothing arrived for too long") from None

    async def __aenter__(self) -> "HttpReply":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # close() drops the connection of an answer that was not read to its end; a finished one is back in the pool.
        self.response.close()


class UpstreamReply(Protocol):
    """An answer of which the headers have arrived, from a provider or from the demo in this process."""

    status: int

    @property
    def headers(self) -> Mapping[str, str]: ...

    async def read(self) -> bytes: ...

    def chunks(self) -> AsyncIterator[bytes]: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class Upstream:
    """The process's connections to providers. `trusted` calls go to addresses that the operator configured."""

    def __init__(self, idle_timeout_s: float) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=idle_timeout_s)
        common: dict[str, Any] = {
            "timeout": timeout,
            "skip_auto_headers": ("User-Agent", "Accept", "Content-Type"),
            "cookie_jar": aiohttp.DummyCookieJar(),
        }
        self.trusted = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S), **common)
        guarded = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S, resolver=GuardedResolver())
        self.guarded = aiohttp.ClientSession(connector=guarded, **common)

    async def post(self, url: str, body: bytes, headers: dict[str, str], *, trusted: bool) -> HttpReply:
        """Sends a request; raises BadUpstreamAddress, UpstreamRefused or UpstreamTimeout."""
        if not trusted:
            check_host(url)
        session = self.trusted if trusted else self.guarded
        try:
            return HttpReply(await session.post(url, data=body, headers=headers, allow_redirects=False))
        except aiohttp.ClientConnectorError as error:
            raise UpstreamRefused(f"no connection: {error.os_error.strerror or error.os_error}", sent=False) from error
        except aiohttp.ConnectionTimeoutError:
            raise UpstreamTimeout("no connection in time", sent=False) from None
        except TimeoutError:
            raise UpstreamTimeout("no answer in time") from None
        except aiohttp.ClientError as error:
            raise UpstreamRefused(f"the connection broke: {type(error).__name__}") from error

    async def close(self) -> None:
        await asyncio.gather(self.trusted.close(), self.guarded.close())
