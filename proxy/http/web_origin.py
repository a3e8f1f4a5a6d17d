"""Protection of a gateway without keys against web pages that its user opens.

A page of any site can send requests to a gateway on the user's own machine. Without a key, such a request
would be served and billed. Browsers state the site in the header `Origin`, which a page cannot change.

A page can also let the name of its own site resolve to the user's machine (DNS rebinding). Its requests then
go to the same origin, and GET requests have no `Origin`. Their `Host` is the name of the foreign site.
"""

from ipaddress import ip_address
from urllib.parse import urlsplit

from django.conf import settings

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
PRIVATE_DOMAINS = (".localhost", ".local", ".internal", ".home.arpa", ".test")
"""Endings of names that nobody can register (RFC 6761, RFC 6762, RFC 8375, and ICANN's `.internal`)."""
OPAQUE_ORIGIN = "null"
"""Origin of sandboxed frames and of redirects from another site."""


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
    """Return the origin of a URL as browsers send it, except that they omit the usual port."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
