"""The HTTP client that calls providers, and the interface that it shares with the demo provider.

A process has two connection pools: one for URLs that the operator configured, and one for URLs of tenants.
The host of a tenant's URL is resolved and checked, and the client connects only to the checked addresses.
Therefore the host cannot lead into a private network that the operator has not allowed, even if its DNS
records change after the check. Redirects are not followed.
"""

import asyncio
from typing import Any, Protocol

import aiohttp

from projects.outbound import validate_host
from proxy.upstream.errors import UpstreamConnectionError, UpstreamTimeout
from proxy.upstream.read_buffer import BUFFER_BYTES, BoundedConnector
from proxy.upstream.resolver import SSRFSafeResolver, UncheckedResolver
from proxy.upstream.response import HttpUpstreamResponse, UpstreamResponse
from proxy.upstream.timeouts import Timeouts

POOL_KEEPALIVE_S = 60


class UpstreamClient(Protocol):
    """The interface of a client that calls providers: a server over HTTP, or the demo in this process."""

    async def request(
        self,
        method: str,
        url: str,
        body: bytes,
        headers: dict[str, str],
        *,
        trusted: bool,
        timeout_s: float | None = None,
        is_stream: bool = False,
    ) -> UpstreamResponse:
        """Send a request. Return the response as soon as its headers have arrived.

        `timeout_s` is the target's own timeout, and `is_stream` is true if a stream is expected.
        """


class HttpUpstreamClient:
    """Calls providers over HTTP/1.1 with pooled connections."""

    def __init__(self, timeouts: Timeouts) -> None:
        self.timeouts = timeouts
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect_s)
        session_options: dict[str, Any] = {
            "timeout": timeout,
            "skip_auto_headers": ("User-Agent", "Accept", "Content-Type"),
            "cookie_jar": aiohttp.DummyCookieJar(),
            "read_bufsize": BUFFER_BYTES,
        }
        trusted_connector = BoundedConnector(
            limit=0, keepalive_timeout=POOL_KEEPALIVE_S, resolver=UncheckedResolver()
        )
        self.trusted_session = aiohttp.ClientSession(connector=trusted_connector, **session_options)
        restricted_connector = BoundedConnector(
            limit=0, keepalive_timeout=POOL_KEEPALIVE_S, resolver=SSRFSafeResolver()
        )
        self.restricted_session = aiohttp.ClientSession(connector=restricted_connector, **session_options)

    async def request(
        self,
        method: str,
        url: str,
        body: bytes,
        headers: dict[str, str],
        *,
        trusted: bool,
        timeout_s: float | None = None,
        is_stream: bool = False,
    ) -> HttpUpstreamResponse:
        """Send a request.

        If `trusted` is true, the operator configured the URL, and it may be in a private network. Raises
        BlockedURL, UpstreamConnectionError or UpstreamTimeout.
        """
        if not trusted:
            validate_host(url)
        session = self.trusted_session if trusted else self.restricted_session
        timeouts = self.timeouts.for_call(timeout_s, is_stream=is_stream)
        started_at, head_s = asyncio.get_running_loop().time(), min(timeouts.first_chunk_s, timeouts.whole_s)
        try:
            async with asyncio.timeout(head_s):
                response = await session.request(
                    method, url, data=body, headers=headers, allow_redirects=False
                )
        except aiohttp.InvalidURL:
            text = "the URL is not valid"
            raise UpstreamConnectionError(text, may_be_billed=False, is_transient=False) from None
        except aiohttp.ClientConnectorError as error:
            reason = error.os_error.strerror or error.os_error
            raise UpstreamConnectionError(f"no connection: {reason}", may_be_billed=False) from error
        except aiohttp.ConnectionTimeoutError:
            raise UpstreamTimeout("the connection timed out", may_be_billed=False) from None
        except TimeoutError:
            raise UpstreamTimeout(f"it sent no response within {head_s:g} s") from None
        except aiohttp.ClientError as error:
            raise UpstreamConnectionError(f"the connection broke: {type(error).__name__}") from error
        return HttpUpstreamResponse(response, timeouts, started_at)

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(self.trusted_session.close(), self.restricted_session.close())
