"""SSRF guard: tenant-supplied URLs may reach the public internet, never the operator's network.

A URL is checked when it is stored, as far as that is possible without resolving its host name. The addresses
that the name resolves to are checked when a connection is opened, in the same step (`validate_ip`).
"""

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from django.conf import settings
from yarl import URL

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
HOSTNAME = re.compile(r"[a-z0-9._-]+", re.IGNORECASE)
MAX_LABEL_LENGTH, MAX_HOSTNAME_LENGTH = 63, 253
"""Longest label between dots, and longest name in its written form (RFC 1035, section 2.3.4).

Python raises UnicodeError for longer and for empty labels, which is not an OSError.
"""
NUMERIC_HOST = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*\.?", re.IGNORECASE)
"""Hosts that the C library's inet_aton may read as an IPv4 address: 2130706433, 0x7f.1, 127.1."""
IPV4_EMBEDDING_NETWORKS = tuple(
    map(IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96"))
)
"""Networks whose addresses end in an embedded IPv4 address.

RFC 4291, section 2.5.5; RFC 7915, section 4.1; RFC 6052.
"""
LOCAL_NAT64_NETWORK = IPv6Network("64:ff9b:1::/48")
"""Addresses of an operator's own translator, which may embed an IPv4 address anywhere (RFC 8215)."""
INVALID_URL = "Give an http or https address without a user name"


class BlockedURL(Exception):
    """Raised for a URL that is not http(s), or that tenants may not send requests to.

    The message says which of the two applies.
    """


def allowed_private_hosts() -> tuple[str, ...]:
    """Return the hosts in private networks that tenants may call: GATEWAY_PRIVATE_UPSTREAMS.

    By default, the loopback interface is allowed if the gateway listens on it alone and has no public name,
    as on a developer's machine. A gateway behind a proxy has a public name.
    """
    env = settings.ENV
    if env.gateway_private_upstreams is not None:
        return tuple(env.gateway_private_upstreams)
    return (
        LOOPBACK_HOSTS if env.listens_on_loopback_only and URL(env.public_url).host in LOOPBACK_HOSTS else ()
    )


def validate_base_url(url: str) -> None:
    """Check a base URL without resolving its host name; raise BlockedURL."""
    validate_host(url)
    if "?" in url or "#" in url:
        raise BlockedURL("Give an address without a query or fragment")


def validate_host(url: str) -> None:
    """Check the host of a URL without resolving it; raise BlockedURL.

    yarl parses the URL, as in the HTTP client that will connect: it maps fullwidth digits and dots to ASCII.
    """
    try:
        parts = URL(url)
    except ValueError:
        raise BlockedURL(INVALID_URL) from None
    host = parts.raw_host
    if (
        parts.scheme not in ("http", "https")
        or not host
        or parts.user is not None
        or parts.password is not None
    ):
        raise BlockedURL(INVALID_URL)
    try:
        ip_address(host)
    except ValueError:
        validate_hostname(host)
    else:
        validate_ip(host, host)


def validate_hostname(host: str) -> None:
    if not HOSTNAME.fullmatch(host):
        raise BlockedURL(INVALID_URL)
    if NUMERIC_HOST.fullmatch(host):
        raise BlockedURL(f"{host} is not an IP address in its usual form")
    name = host.removesuffix(".")
    if len(name) > MAX_HOSTNAME_LENGTH or not all(
        1 <= len(label) <= MAX_LABEL_LENGTH for label in name.split(".")
    ):
        raise BlockedURL(
            f"Give a host of at most {MAX_HOSTNAME_LENGTH} characters, "
            f"with 1 to {MAX_LABEL_LENGTH} between dots"
        )


def validate_ip(host: str, address: str) -> None:
    ip = effective_ip(address)
    is_site_local = isinstance(ip, IPv6Address) and (ip.is_site_local or ip in LOCAL_NAT64_NETWORK)
    if (not ip.is_global or ip.is_multicast or is_site_local) and host not in allowed_private_hosts():
        raise BlockedURL(
            f"{host} is a private address; the operator can allow it in GATEWAY_PRIVATE_UPSTREAMS"
        )


def effective_ip(address: str) -> IPv4Address | IPv6Address:
    """Return the address, or the IPv4 address that it embeds.

    Translators and tunnels (NAT64, 6to4, Teredo) deliver to the embedded address.
    """
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        return ip
    if any(ip in network for network in IPV4_EMBEDDING_NETWORKS):
        return IPv4Address(int(ip) % 2**32)
    return ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)
