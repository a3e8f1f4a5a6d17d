"""SSRF guard: URLs of tenants may not lead into private networks, unless the operator allows the host.

When a URL is stored, it is checked without resolving its host. When an HTTP client opens a connection, it
resolves the host with `resolve_public`, and connects only to an address that this call returned. An earlier
check would not suffice, because the DNS records can change after it (DNS rebinding).
"""

import asyncio
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple

from django.conf import settings
from yarl import URL

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
HOSTNAME = re.compile(r"[a-z0-9._-]+", re.IGNORECASE)
MAX_LABEL_LENGTH, MAX_HOSTNAME_LENGTH = 63, 253
"""Maximum lengths of a label (the text between two dots) and of a host name (RFC 1035, section 2.3.4).

For longer or empty labels, Python's resolver raises UnicodeError, which is not an OSError.
"""
NUMERIC_HOST = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*\.?", re.IGNORECASE)
"""Spellings that inet_aton of the C library may accept as an IPv4 address: 2130706433, 0x7f.1, 127.1."""
IPV4_EMBEDDING_NETWORKS = tuple(
    map(IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96"))
)
"""Networks whose addresses end with an IPv4 address (RFC 4291, section 2.5.5; RFC 7915, 4.1; RFC 6052)."""
GLOBAL_UNICAST = IPv6Network("2000::/3")
"""The only IPv6 addresses that IANA assigns to public hosts (RFC 4291, section 2.4)."""
SPECIAL_NETWORKS = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "3fff::/20")))
"""Networks without public hosts that `ipaddress` in Python 3.11 does not mark as special.

They are the protocol assignments (RFC 6890), in which Oracle's cloud has a metadata server, former 6to4
relays (RFC 7526), the address at which Azure's platform serves its machines
(learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16), and documentation (RFC 9637).
"""
INVALID_URL = "Enter an http or https URL without a user name or password"
DNS_EXECUTOR = ThreadPoolExecutor(100, "dns")
"""Threads for DNS look-ups, separate from the executor of the event loop.

An event loop that stops waits for the threads of its executor, so a hung name server would delay the stop. It
could also occupy the few threads that other blocking calls need.
"""


class BlockedURL(Exception):
    """Raised if a URL is not valid, or if tenants may not send requests to its host. The message says why."""


class ResolvedAddress(NamedTuple):
    """An IP address of a host. `ip` includes the zone of a link-local address: `fe80::1%2`."""

    family: socket.AddressFamily
    ip: str


def allowed_private_hosts() -> tuple[str, ...]:
    """Return the private hosts that tenants may call, as listed in GATEWAY_PRIVATE_UPSTREAMS.

    If it is not set, no private host is allowed, with one exception so that a developer can use a local
    model: a gateway that listens only on the loopback interface allows that interface. The exception does not
    apply if the public URL has another host, because then the gateway runs behind a proxy.
    """
    env = settings.ENV
    if env.gateway_private_upstreams is not None:
        return tuple(env.gateway_private_upstreams)
    is_local = env.listens_on_loopback_only and URL(env.public_url).host in LOOPBACK_HOSTS
    return LOOPBACK_HOSTS if is_local else ()


def validate_base_url(url: str) -> None:
    """Check a base URL without resolving its host. Raises BlockedURL."""
    validate_host(url)
    if "?" in url or "#" in url:
        raise BlockedURL("Enter a URL without a query or fragment")


def validate_host(url: str) -> None:
    """Raise BlockedURL if a URL is not valid, or if its host is a private IP address.

    The URL is parsed with the library of the HTTP client, which also converts full-width digits and dots to
    ASCII.
    """
    try:
        parts = URL(url)
    except ValueError:
        raise BlockedURL(INVALID_URL) from None
    host = parts.raw_host
    has_credentials = parts.user is not None or parts.password is not None
    if parts.scheme not in ("http", "https") or not host or has_credentials:
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
        raise BlockedURL(f"{host} is not a valid IP address; write it as 192.0.2.1")
    name = host.removesuffix(".")
    label_lengths = [len(label) for label in name.split(".")]
    if len(name) > MAX_HOSTNAME_LENGTH or min(label_lengths) < 1 or max(label_lengths) > MAX_LABEL_LENGTH:
        raise BlockedURL(
            f"Enter a host name of at most {MAX_HOSTNAME_LENGTH} characters, "
            f"with 1 to {MAX_LABEL_LENGTH} characters between dots"
        )


def validate_ip(host: str, address: str) -> None:
    """Raise BlockedURL if `address` is not public, unless the operator allows its host."""
    ip = effective_ip(address)
    if not is_public(ip) and host not in allowed_private_hosts():
        raise BlockedURL(
            f"{host} is a private address; the operator can allow it in GATEWAY_PRIVATE_UPSTREAMS"
        )


def is_public(ip: IPv4Address | IPv6Address) -> bool:
    if isinstance(ip, IPv6Address) and ip not in GLOBAL_UNICAST:
        return False
    is_special = any(ip in network for network in SPECIAL_NETWORKS)
    return ip.is_global and not ip.is_multicast and not is_special


def effective_ip(address: str) -> IPv4Address | IPv6Address:
    """Return the address to which packets go: the IPv4 address inside a NAT64, 6to4 or Teredo address."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv4Address):
        return ip
    if any(ip in network for network in IPV4_EMBEDDING_NETWORKS):
        return IPv4Address(int(ip) % 2**32)
    return ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)


async def resolve_public(host: str, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolvedAddress]:
    """Resolve a host that a tenant chose.

    Raises:
        BlockedURL: One of its addresses is private and not allowed.
        OSError: The host cannot be resolved.
    """
    addresses = await resolve(host, family)
    for address in addresses:
        validate_ip(host, address.ip)
    return addresses


async def resolve(host: str, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolvedAddress]:
    """Resolve a host that the operator chose. Raises OSError if it cannot be resolved."""
    loop = asyncio.get_running_loop()
    try:
        infos = await loop.run_in_executor(DNS_EXECUTOR, getaddrinfo, host, family)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, "the name is not valid") from error
    addresses = [ResolvedAddress(found, with_zone(sockaddr)) for found, *_, sockaddr in infos]
    return list(dict.fromkeys(addresses))


def getaddrinfo(host: str, family: socket.AddressFamily) -> list[tuple[Any, ...]]:
    """Resolve a host in a blocking call. Omit addresses of an IP version that this machine does not use."""
    return socket.getaddrinfo(host, None, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)


def with_zone(sockaddr: tuple[Any, ...]) -> str:
    """Return the address of a socket name, with the zone, which IPv6 has in the fourth element."""
    zone = sockaddr[3] if len(sockaddr) > 3 else 0
    return f"{sockaddr[0]}%{zone}" if zone else str(sockaddr[0])
