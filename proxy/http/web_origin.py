"""Web pages of other sites: which of them may call gateway routes.

Browsers let a page read a response only if the server allows the origin of the page (CORS, ADR 23). The
gateway allows DASHBOARD_URL, and the origins of the project whose key a request has. It uses no cookies on
its routes, so requests have no credentials in the sense of CORS.

A gateway without keys needs protection against pages that its user opens. A page of any site can send
requests to a gateway on the user's own machine. Without a key, such a request would be served and billed.
Browsers state the site in the header `Origin`, which a page cannot change.

A page can also let the name of its own site resolve to the user's machine (DNS rebinding). Its requests then
go to the same origin, and GET requests have no `Origin`. Their `Host` is the name of the foreign site.
"""

from ipaddress import ip_address
from urllib.parse import urlsplit

from django.conf import settings
from django.db import Error as DatabaseError

from keys import tokens
from keys.authentication import Principal, principals
from projects.allowed_origins import origins_of_all_projects
from projects.ids import uuid7
from proxy.http.asgi import ASGIMessage, Send
from proxy.http.request import GatewayRequest, extract_api_key
from proxy.http.request_id import choose_request_id
from proxy.http.responses import Response

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
PRIVATE_DOMAINS = (".localhost", ".local", ".internal", ".home.arpa", ".test")
"""Endings of names that nobody can register (RFC 6761, RFC 6762, RFC 8375, and ICANN's `.internal`)."""
OPAQUE_ORIGIN = "null"
"""Origin of sandboxed frames and of redirects from another site."""
USUAL_PORTS = {"http": ":80", "https": ":443"}

Headers = list[tuple[bytes, bytes]]

EXPOSED_HEADERS = (
    *(b"x-request-id", b"x-cost-usd", b"x-ratelimit-", b"x-gateway-"),
    *(b"anthropic-ratelimit-", b"retry-after", b"request-id"),
)
"""The beginnings of the names of response headers that pages may read."""
METHODS = "GET, POST, PUT, PATCH, DELETE"
MAX_AGE_S = 600
NOT_ALLOWED = (
    b"Pages of this origin may not call the gateway. Add the origin to the settings of the project, or set "
    b"DASHBOARD_URL to it.\n"
)


def may_come_from_foreign_site(origin: str) -> bool:
    """Return whether a page of another site may have sent a request.

    Programs other than browsers send no origin. Desktop applications have origins of their own schemes, such
    as `tauri://localhost`, which no site can have.
    """
    if not origin or not (origin == OPAQUE_ORIGIN or origin.startswith(("http://", "https://"))):
        return False
    env = settings.ENV
    own = {f"http://{name}:{env.port}" for name in LOOPBACK_NAMES}
    own |= {origin_of(url) for url in (env.public_url, env.dashboard_url) if url}
    return origin not in own


def may_be_rebound(host: str) -> bool:
    """Return whether a `Host` header may name a foreign site whose name resolves to this machine.

    Addresses, names without a dot, and names of private domains belong to no site of the Internet.
    """
    name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    if not name or "." not in name or name.endswith(PRIVATE_DOMAINS) or is_address(name):
        return False
    env = settings.ENV
    return name not in {urlsplit(url).hostname for url in (env.public_url, env.dashboard_url) if url}


def is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def origin_of(url: str) -> str:
    """Return the origin of a URL as browsers send it: in lower case, without the usual port."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower().removesuffix(USUAL_PORTS.get(parts.scheme, ""))


async def answer_preflight(request: GatewayRequest, send: Send) -> Send | None:
    """Respond to a preflight request, and return None.

    For other requests, return the `send` for their response.
    """
    if b"origin" not in request.raw_headers:
        return send
    if is_preflight(request):
        await respond_to_preflight(request, send)
        return None
    return add_headers(request, send)


def is_preflight(request: GatewayRequest) -> bool:
    """Return whether a request is a preflight request of a browser."""
    return request.method == "OPTIONS" and b"access-control-request-method" in request.raw_headers


async def respond_to_preflight(request: GatewayRequest, send: Send) -> None:
    """Respond before authentication, because browsers send no key with a preflight request."""
    origin = request.header(b"origin")
    headers = {"vary": "Origin", "x-request-id": choose_request_id(request, uuid7())}
    if not await is_known(origin):
        text = {"content-type": "text/plain; charset=utf-8", "x-gateway-error-type": "auth"}
        await Response(403, {**headers, **text}, NOT_ALLOWED).send_to(send)
        return
    headers |= {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": METHODS,
        "access-control-allow-headers": request.header(b"access-control-request-headers"),
        "access-control-max-age": str(MAX_AGE_S),
    }
    await Response(200, headers, b"").send_to(send)


def add_headers(request: GatewayRequest, send: Send) -> Send:
    """Return a `send` that adds the headers of CORS to the response."""

    async def send_with_headers(message: ASGIMessage) -> None:
        if message["type"] == "http.response.start":
            added = await headers_for(request, message["headers"])
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return send_with_headers


async def headers_for(request: GatewayRequest, headers: Headers) -> Headers:
    """Return the headers of CORS for a response with these headers."""
    vary = (b"vary", b"Origin")
    if not await may_read(request):
        return [vary]
    exposed = b", ".join(name for name, _ in headers if name.startswith(EXPOSED_HEADERS))
    return [
        vary,
        (b"access-control-allow-origin", request.raw_headers[b"origin"]),
        (b"access-control-expose-headers", exposed),
    ]


async def may_read(request: GatewayRequest) -> bool:
    """Return whether the page that sent a request may read the response.

    If the request has a key, its project decides. Otherwise, the origins of all projects may read the
    response, for example an error.
    """
    origin, principal = request.header(b"origin"), claimed_principal(request)
    if principal is None or origin == dashboard_origin():
        return await is_known(origin)
    return origin in principal.allowed_origins


def claimed_principal(request: GatewayRequest) -> Principal | None:
    """Return the principal of the request's key. A wrong key of a project counts as one of the project."""
    token = tokens.parse(extract_api_key(request))
    if token is None:
        return None
    return principals.values.get(token.public_id) or principals.get_stale(token.public_id)


async def is_known(origin: str) -> bool:
    """Return whether an origin is that of DASHBOARD_URL or of any project."""
    if origin == dashboard_origin():
        return True
    try:
        return origin in await origins_of_all_projects()
    except DatabaseError:
        return False


def dashboard_origin() -> str:
    url = settings.ENV.dashboard_url
    return origin_of(url) if url else ""
