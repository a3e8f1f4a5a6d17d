"""Clients that call providers: over HTTP/1.1 with one pool of connections per process.

URLs that tenants chose are resolved, validated and connected to in one step, so that a name cannot point into
the operator's network. Redirects are not followed.
"""

import asyncio
from typing import Any, Protocol

import aiohttp

from projects.outbound import validate_host
from proxy.upstream.errors import UpstreamConnectionError, UpstreamTimeout
from proxy.upstream.resolver import SSRFSafeResolver, UncheckedResolver
from proxy.upstream.response import HttpUpstreamResponse, UpstreamResponse

CONNECT_TIMEOUT_S = 10
POOL_KEEPALIVE_S = 60


class UpstreamClient(Protocol):
    """Calls one kind of provider: a server over HTTP, or the demo in this process."""

    async def request(
        self, method: str, url: str, body: bytes, headers: dict[str, str], *, trusted: bool
    ) -> UpstreamResponse:
        """Send a request, and return the response as soon as its headers have arrived."""


class HttpUpstreamClient:
    """Pooled connections to providers' servers."""

    def __init__(self, idle_timeout_s: float) -> None:
        self.idle_timeout_s = idle_timeout_s
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=idle_timeout_s)
        session_options: dict[str, Any] = {
            "timeout": timeout,
            "skip_auto_headers": ("User-Agent", "Accept", "Content-Type"),
            "cookie_jar": aiohttp.DummyCookieJar(),
        }
        trusted_connector = aiohttp.TCPConnector(
            limit=0, keepalive_timeout=POOL_KEEPALIVE_S, resolver=UncheckedResolver()
        )
        self.trusted_session = aiohttp.ClientSession(connector=trusted_connector, **session_options)
        restricted_connector = aiohttp.TCPConnector(
            limit=0, keepalive_timeout=POOL_KEEPALIVE_S, resolver=SSRFSafeResolver()
        )
        self.restricted_session = aiohttp.ClientSession(connector=restricted_connector, **session_options)

    async def request(
        self, method: str, url: str, body: bytes, headers: dict[str, str], *, trusted: bool
    ) -> HttpUpstreamResponse:
        """Send a request. `trusted`: the operator configured the URL, which may then be in a private network.

        Raises BlockedURL, UpstreamConnectionError or UpstreamTimeout.
        """
        if not trusted:
            validate_host(url)
        session = self.trusted_session if trusted else self.restricted_session
        try:
            return HttpUpstreamResponse(
                await session.request(method, url, data=body, headers=headers, allow_redirects=False),
                self.idle_timeout_s,
            )
        except aiohttp.InvalidURL:
            raise UpstreamConnectionError("its address is not valid", may_be_billed=False) from None
        except aiohttp.ClientConnectorError as error:
            reason = error.os_error.strerror or error.os_error
            raise UpstreamConnectionError(f"no connection: {reason}", may_be_billed=False) from error
        except aiohttp.ConnectionTimeoutError:
            raise UpstreamTimeout("no connection in time", may_be_billed=False) from None
        except TimeoutError:
            raise UpstreamTimeout("no response in time") from None
        except aiohttp.ClientError as error:
            raise UpstreamConnectionError(f"the connection broke: {type(error).__name__}") from error

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(self.trusted_session.close(), self.restricted_session.close())
