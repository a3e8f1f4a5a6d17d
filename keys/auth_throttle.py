"""How often requests without a valid key may come from one address: GATEWAY_UNAUTHENTICATED_RPM, in the memory of each process.

Only failures are counted and only failures are refused: behind an address that many people share, good keys go on working.
What must stay bounded is the work that strangers cause. A well-formed key that this process does not know costs a query; from an
address over its limit, all such keys together get LOOKUPS_PER_S of them. So a new key that comes from there may be asked to
try again, as SDKs do, but is not locked out, and keys that were in use lately are read anew without any limit.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

from django.conf import settings

WINDOW_S = 60
MAX_CLIENTS = 20_000
"""Those that have failed longest ago are forgotten first: memory is bounded, whoever attacks from wherever."""
LOOKUPS_PER_S = 10
MIN_WAIT_S = 0.001
IPV6_HOST_BITS = 64


class TooManyFailures(Exception):
    """`retry_after` is in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("too many requests without a valid key")
        self.retry_after = retry_after


@dataclass(slots=True)
class FailureWindow:
    """Of one address, in the window that is running and in the one before it."""

    window: int
    count: int = 0
    previous: int = 0


class AuthThrottle:
    """A sliding window by two counts: the one before weighs as much as it still reaches into the last WINDOW_S seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.clients: OrderedDict[str, FailureWindow] = OrderedDict()
        self.lookups = FailureWindow(0)

    def record_failure(self, client_ip: str) -> None:
        """Counts a failure of this address; raises TooManyFailures, and counts nothing, where it has had too many."""
        limit = settings.ENV.gateway_unauthenticated_rpm
        if not limit:
            return
        self.raise_if_limited(client_ip)
        self._window(client_network(client_ip)).count += 1
        while len(self.clients) > MAX_CLIENTS:
            self.clients.popitem(last=False)

    def check_lookup(self, client_ip: str) -> None:
        """Before a query for a key that is not known here; raises TooManyFailures in its place."""
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
        """Seconds until this address may fail again; 0 where it may do so now."""
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
    """What one subscriber has: an IPv4 address, or a /64 of IPv6."""
    try:
        ip = ip_address(client_ip)
    except ValueError:
        return client_ip
    if isinstance(ip, IPv4Address):
        return client_ip
    return str(ip.ipv4_mapped or int(ip) >> IPV6_HOST_BITS)


auth_failures = AuthThrottle()
