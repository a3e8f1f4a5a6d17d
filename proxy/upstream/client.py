"""Calls to providers over HTTP/1.1: one pooled aiohttp session per process.

Addresses that tenants chose are resolved, checked and connected to in one step, so that a name cannot point into the
operator's network; redirects are not followed.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from projects import outbound
from projects.outbound import validate_host

CONNECT_TIMEOUT_S = 10
POOL_KEEPALIVE_S = 60
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
MAX_KEEPALIVE_BYTES = 64


class UpstreamError(Exception):
    """`may_be_billed`: the request, or a part of it, has reached the provider, which may bill it."""

    def __init__(self, message: str, *, may_be_billed: bool = True) -> None:
        super().__init__(message)
        self.may_be_billed = may_be_billed


class UpstreamConnectionError(UpstreamError):
    """No connection, or it broke: a provider that cannot be reached."""


class UpstreamTimeout(UpstreamError):
    """The provider did not connect or did not send anything for too long."""


class Resolver(AbstractResolver):
    """Resolves the hosts that the operator configured."""

    lookup = staticmethod(outbound.resolve)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address.ip,
                port=port,
                family=address.family,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self.lookup(host, family)
        ]

    async def close(self) -> None:
        """Nothing is open."""


class SSRFSafeResolver(Resolver):
    """Resolves the hosts of tenants' base URLs. aiohttp connects to the addresses that were checked."""

    lookup = staticmethod(outbound.resolve_public)


class HttpUpstreamResponse:
    """A provider's answer, of which the headers have arrived. Leaving its `async with` ends the call at the provider."""

    def __init__(self, response: aiohttp.ClientResponse, idle_timeout_s: float) -> None:
        self.response, self.idle_timeout_s = response, idle_timeout_s
        self.status = response.status
        self.headers = response.headers

    async def read(self) -> bytes:
        length = self.response.content_length
        if length is not None and length <= MAX_RESPONSE_BYTES:
            with map_errors():
                return await self.response.read()
        parts, size = [], 0
        async for part in self.chunks():
            parts.append(part)
            size += len(part)
            if size > MAX_RESPONSE_BYTES:
                raise UpstreamConnectionError(f"its answer is larger than {MAX_RESPONSE_BYTES} bytes")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Bytes as they come. Raises UpstreamRefused where the stream breaks, UpstreamTimeout where it falls silent, or says no more
        than that it lives.
        """
        spoke_at = time.monotonic()
        with map_errors():
            async for chunk in self.response.content.iter_any():
                now = time.monotonic()
                if not is_keepalive(chunk):
                    spoke_at = now
                elif now - spoke_at > self.idle_timeout_s:
                    raise UpstreamTimeout("nothing but signs of life arrived for too long")
                yield chunk

    async def __aenter__(self) -> "HttpUpstreamResponse":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # close() drops the connection of an answer that was not read to its end; a finished one is back in the pool.
        self.response.close()


@contextmanager
def map_errors() -> Iterator[None]:
    """While an answer is read: what breaks is the provider's failure."""
    try:
        yield
    except TimeoutError:  # aiohttp's is a ClientError too
        raise UpstreamTimeout("nothing arrived for too long") from None
    except aiohttp.ClientError as error:
        raise UpstreamConnectionError(f"the connection broke: {type(error).__name__}") from error


def is_keepalive(chunk: bytes) -> bool:
    """A comment of server-sent events, or a ping as Anthropic's API sends it."""
    return len(chunk) < MAX_KEEPALIVE_BYTES and (chunk.startswith(b":") or b"ping" in chunk)


class UpstreamResponse(Protocol):
    """An answer of which the headers have arrived, from a provider or from the demo in this process."""

    status: int

    @property
    def headers(self) -> Mapping[str, str]: ...

    async def read(self) -> bytes: ...

    def chunks(self) -> AsyncIterator[bytes]: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class UpstreamClient:
    """The process's connections to providers. `trusted` calls go to addresses that the operator configured."""

    def __init__(self, idle_timeout_s: float) -> None:
        self.idle_timeout_s = idle_timeout_s
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=idle_timeout_s)
        common: dict[str, Any] = {
            "timeout": timeout,
            "skip_auto_headers": ("User-Agent", "Accept", "Content-Type"),
            "cookie_jar": aiohttp.DummyCookieJar(),
        }
        trusted = aiohttp.TCPConnector(limit=0, keepalive_timeout=POOL_KEEPALIVE_S, resolver=Resolver())
        self.trusted = aiohttp.ClientSession(connector=trusted, **common)
        guarded = aiohttp.TCPConnector(
            limit=0, keepalive_timeout=POOL_KEEPALIVE_S, resolver=SSRFSafeResolver()
        )
        self.restricted = aiohttp.ClientSession(connector=guarded, **common)

    async def post(
        self, url: str, body: bytes, headers: dict[str, str], *, trusted: bool
    ) -> HttpUpstreamResponse:
        """Sends a request; raises BadAddress, UpstreamRefused or UpstreamTimeout."""
        if not trusted:
            validate_host(url)
        session = self.trusted if trusted else self.restricted
        try:
            return HttpUpstreamResponse(
                await session.post(url, data=body, headers=headers, allow_redirects=False),
                self.idle_timeout_s,
            )
        except aiohttp.InvalidURL:
            raise UpstreamConnectionError("its address is not valid", may_be_billed=False) from None
        except aiohttp.ClientConnectorError as error:
            raise UpstreamConnectionError(
                f"no connection: {error.os_error.strerror or error.os_error}", may_be_billed=False
            ) from error
        except aiohttp.ConnectionTimeoutError:
            raise UpstreamTimeout("no connection in time", may_be_billed=False) from None
        except TimeoutError:
            raise UpstreamTimeout("no answer in time") from None
        except aiohttp.ClientError as error:
            raise UpstreamConnectionError(f"the connection broke: {type(error).__name__}") from error

    async def close(self) -> None:
        await asyncio.gather(self.trusted.close(), self.restricted.close())
