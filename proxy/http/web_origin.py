"""Protection of a gateway without keys against web pages that its user opens.

A page of any site can send requests to a gateway on the user's own machine. Without a key, such a request
would be served and billed. Browsers state the site in the header `Origin`, which a page cannot change.
"""

from urllib.parse import urlsplit

from django.conf import settings

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
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


def origin_of(url: str) -> str:
    """Return the origin of a URL as browsers send it, except that they omit the usual port."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
