"""HTTP client for URLs of tenants outside the request path: webhooks and tests of credentials.

The SSRF guard checks the addresses of a host when a connection is opened. Redirects are not followed.
"""

import ssl
from functools import lru_cache

import httpx

from projects.outbound import BlockedURL, resolve_public

CONNECT_TIMEOUT_S = 5.0
EXPECTED_FAILURES = (BlockedURL, TimeoutError, httpx.HTTPError, httpx.InvalidURL)
"""Exceptions of a request that `failure_reason` describes."""


def safe_client(timeout_s: float) -> httpx.AsyncClient:
    """Return a client that connects only to public hosts, or to those that the operator allows."""
    timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
    return httpx.AsyncClient(
        transport=SSRFSafeTransport(verify=tls_context()),
        timeout=timeout,
        trust_env=False,
        follow_redirects=False,
    )


@lru_cache(maxsize=1)
def tls_context() -> ssl.SSLContext:
    """Return the TLS settings with the bundled certificates, which take some time to load."""
    return httpx.create_ssl_context(trust_env=False)


def failure_reason(error: Exception, timeout_s: float) -> str:
    """Return why a request failed, for the tenant who entered the URL."""
    match error:
        case BlockedURL():
            return str(error)
        case TimeoutError() | httpx.TimeoutException():
            return f"no response within {timeout_s:.0f} seconds"
        case httpx.ConnectError():
            return f"connection failed: {error}"
        case httpx.RemoteProtocolError():
            return "the response is not valid HTTP"
        case httpx.InvalidURL():
            return "the URL is not valid"
        case _:
            return f"the connection was interrupted: {type(error).__name__}"


class SSRFSafeTransport(httpx.AsyncHTTPTransport):
    """Resolves a host once, and connects only to the addresses that the SSRF guard has checked.

    TLS verifies the certificate for the host name in the URL, not for the IP address.
    """

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.raw_host.decode("ascii").strip("[]")
        extensions = {**request.extensions, "sni_hostname": host}
        try:
            addresses = await resolve_public(host)
        except OSError as error:
            raise httpx.ConnectError(f"{host} cannot be resolved") from error
        failure: httpx.ConnectError | None = None
        for address in addresses:
            pinned = httpx.Request(
                request.method,
                request.url.copy_with(host=address.ip),
                headers=request.headers,
                stream=request.stream,
                extensions=extensions,
            )
            try:
                return await super().handle_async_request(pinned)
            except httpx.ConnectError as error:
                failure = error
        raise failure or httpx.ConnectError(f"{host} has no address")
