"""Rate limit of requests without a valid key, by client address (GATEWAY_UNAUTHENTICATED_RPM).

Every process counts for itself. Only failures are counted and only failures are rejected: valid keys keep
working behind an address that many people share. The throttle bounds the work that unauthenticated clients
cause. A well-formed key that this process does not know costs a query. Clients over their limit get
LOOKUPS_PER_S such queries, all of them together. So a new key from there may get a 429, which SDKs retry, but
it is not locked out. Keys that were used recently are read again without a limit.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

from django.conf import settings

WINDOW_S = 60
MAX_CLIENTS = 20_000
"""Bounds memory: the least recently failing clients are evicted first."""
LOOKUPS_PER_S = 10
MIN_WAIT_S = 0.001
IPV6_HOST_BITS = 64


class TooManyFailures(Exception):
    """Raised if a client has sent too many requests without a valid key.

    `retry_after` is in seconds.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__("too many requests without a valid key")
        self.retry_after = retry_after


@dataclass(slots=True)
class FailureWindow:
    """Failures of one client in the current window and in the one before it."""

    window: int
    count: int = 0
    previous: int = 0


class AuthThrottle:
    """Counts failures in a sliding window of WINDOW_S seconds, from the counts of two fixed windows.

    The previous window counts in proportion to its overlap with the last WINDOW_S seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.clients: OrderedDict[str, FailureWindow] = OrderedDict()
        self.lookups = FailureWindow(0)

    def record_failure(self, client_ip: str) -> None:
        """Count a failure of this client, or raise TooManyFailures if it is over its limit."""
        limit = settings.ENV.gateway_unauthenticated_rpm
        if not limit:
            return
        self.raise_if_limited(client_ip)
        self._window(client_network(client_ip)).count += 1
        while len(self.clients) > MAX_CLIENTS:
            self.clients.popitem(last=False)

    def check_lookup(self, client_ip: str) -> None:
        """Allow a query for an unknown key, or raise TooManyFailures."""
        if not self.retry_after(client_ip):
            return
        second = int(self.clock())
        if self.lookups.window != second:
            self.lookups = FailureWindow(second)
        if self.lookups.count >= LOOKUPS_PER_S:
            raise TooManyFailures(1)
        self.lookups.count += 1

    def raise_if_limited(self, client_ip: str) -> None:
        if wait := self.retry_after(client_ip):
            raise TooManyFailures(wait)

    def retry_after(self, client_ip: str) -> float:
        """Return the seconds until this client may fail again; 0 if it may now."""
        limit, client = settings.ENV.gateway_unauthenticated_rpm, client_network(client_ip)
        if not limit or client not in self.clients:
            return 0
        failures, elapsed = self._window(client), self.clock() % WINDOW_S
        if failures.count + failures.previous * (1 - elapsed / WINDOW_S) < limit:
            return 0
        if failures.count >= limit:
            return WINDOW_S - elapsed
        return max(WINDOW_S * (1 - (limit - failures.count) / failures.previous) - elapsed, MIN_WAIT_S)

    def _window(self, client: str) -> FailureWindow:
        window = int(self.clock() // WINDOW_S)
        failures = self.clients.setdefault(client, FailureWindow(window))
        self.clients.move_to_end(client)
        if failures.window != window:
            failures.previous = failures.count if failures.window == window - 1 else 0
            failures.window, failures.count = window, 0
        return failures

    def clear(self) -> None:
        self.clients.clear()
        self.lookups = FailureWindow(0)


def client_network(client_ip: str) -> str:
    """Return the network that one subscriber usually has: an IPv4 address, or an IPv6 /64."""
    try:
        ip = ip_address(client_ip)
    except ValueError:
        return client_ip
    if isinstance(ip, IPv4Address):
        return client_ip
    return str(ip.ipv4_mapped or int(ip) >> IPV6_HOST_BITS)


auth_failures = AuthThrottle()
