"""Where a request comes from, also where proxies of the operator's stand before the gateway."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

from django.conf import settings

from proxy.http.handler import Scope

IPAddress = IPv4Address | IPv6Address


def client_ip(scope: Scope) -> str:
    """The nearest address that is no proxy of GATEWAY_TRUSTED_PROXIES: each of those adds, at the right end of X-Forwarded-For, whom
    it got the request from. What stands left of the first stranger is that stranger's own claim.
    """
    peer: str = scope["client"][0] if scope.get("client") else ""
    address = parse_hop(peer)
    if address is None or not is_trusted_proxy(address):
        return peer
    for hop in forwarded_for(scope):
        nearer = parse_hop(hop)
        if nearer is None:
            break
        address = nearer
        if not is_trusted_proxy(address):
            break
    return str(address)


def is_trusted_proxy(address: IPAddress) -> bool:
    return any(address in network for network in settings.ENV.gateway_trusted_proxies)


def forwarded_for(scope: Scope) -> Iterator[str]:
    """From right to left, over all header fields of that name."""
    for name, value in reversed(scope["headers"]):
        if name == b"x-forwarded-for":
            yield from reversed(value.decode("latin-1").split(","))


def parse_hop(hop: str) -> IPAddress | None:
    """Some proxies add a port: 192.0.2.1:1234, [2001:db8::1]:1234."""
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
