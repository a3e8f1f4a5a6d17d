"""IP address of the client, which may be behind reverse proxies of the operator."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

from django.conf import settings

from proxy.http.asgi import Scope

IPAddress = IPv4Address | IPv6Address


def client_ip(scope: Scope) -> str:
    """Return the nearest address that is not one of GATEWAY_TRUSTED_PROXIES.

    Each trusted proxy appends the address from which it received the request to X-Forwarded-For. Entries to
    the left of the first untrusted address are ignored, because the client could have sent them.
    """
    peer: str = scope["client"][0] if scope.get("client") else ""
    address = parse_hop(peer)
    if address is None or not is_trusted_proxy(address):
        return peer
    for hop in forwarded_for(scope):
        candidate = parse_hop(hop)
        if candidate is None:
            break
        address = candidate
        if not is_trusted_proxy(address):
            break
    return str(address)


def is_trusted_proxy(address: IPAddress) -> bool:
    return any(address in network for network in settings.ENV.gateway_trusted_proxies)


def forwarded_for(scope: Scope) -> Iterator[str]:
    """Yield the entries of all X-Forwarded-For headers from right to left."""
    for name, value in reversed(scope["headers"]):
        if name == b"x-forwarded-for":
            yield from reversed(value.decode("latin-1").split(","))


def parse_hop(hop: str) -> IPAddress | None:
    """Return the address of an entry. Some proxies append a port: 192.0.2.1:1234, [2001:db8::1]:1234."""
    text = hop.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
