"""Rate limit of requests without a valid key, per client network (GATEWAY_UNAUTHENTICATED_RPM).

Each process counts separately. The throttle counts and rejects only failed authentications, so valid keys
still work behind an IP address that many people share.

The throttle bounds the work that unauthenticated clients cause: a well-formed key that is not cached in this
process costs a query. Clients that are over their limit may together cause only LOOKUPS_PER_S such queries. A
new valid key from the network of such a client may therefore get a 429, which SDKs retry, but it is not
locked out. The limit does not apply to a valid key that this process has cached within
GATEWAY_STALE_CONFIG_S.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

from django.conf import settings

WINDOW_S = 60
MAX_CLIENTS = 20_000
"""Maximum number of client networks in memory. The least recently used one is evicted first."""
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


@dataclass(frozen=True, slots=True)
class ThrottleStatus:
    """The failures that a client may still cause. `resets_after` is the seconds until its window ends."""

    limit: int
    remaining: int
    resets_after: float


@dataclass(slots=True)
class FailureWindow:
    """Failures of one client in the current window of WINDOW_S seconds, and in the window before it."""

    window: int
    count: int = 0
    previous: int = 0


def unauthenticated_rpm() -> int:
    return settings.ENV.gateway_unauthenticated_rpm


def anonymous_rpm() -> int:
    limit: int = settings.ENV.ai_gateway_rate_limit_rpm
    return limit


class AuthThrottle:
    """Estimates the failures in the last WINDOW_S seconds from the counts of two fixed windows.

    The count of the previous window is weighted by the part of it that lies within the last WINDOW_S seconds.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, limit: Callable[[], int] = unauthenticated_rpm
    ) -> None:
        self.clock, self.limit = clock, limit
        self.clients: OrderedDict[str, FailureWindow] = OrderedDict()
        self.lookups = FailureWindow(0)

    def record_failure(self, client_ip: str) -> None:
        """Count a failure of a client. Raises TooManyFailures if the client has already reached its limit."""
        if not self.limit():
            return
        self.raise_if_limited(client_ip)
        self._window(client_network(client_ip)).count += 1
        while len(self.clients) > MAX_CLIENTS:
            self.clients.popitem(last=False)

    def check_lookup(self, client_ip: str) -> None:
        """Check whether a query for an unknown key is allowed. Raises TooManyFailures if it is not."""
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
        """Return the seconds until a client is below its limit again; 0 if it is below its limit now."""
        limit, client = self.limit(), client_network(client_ip)
        if not limit or client not in self.clients:
            return 0
        if self._count(client) < limit:
            return 0
        failures, elapsed = self._window(client), self.clock() % WINDOW_S
        if failures.count >= limit:
            return WINDOW_S - elapsed
        return max(WINDOW_S * (1 - (limit - failures.count) / failures.previous) - elapsed, MIN_WAIT_S)

    def status(self, client_ip: str) -> ThrottleStatus | None:
        """Return the status of a client; None if there is no limit."""
        limit, client = self.limit(), client_network(client_ip)
        if not limit:
            return None
        if client not in self.clients:
            return ThrottleStatus(limit, limit, 0)
        elapsed = self.clock() % WINDOW_S
        return ThrottleStatus(limit, max(limit - math.ceil(self._count(client)), 0), WINDOW_S - elapsed)

    def _count(self, client: str) -> float:
        """Return the estimated failures of a known client in the last WINDOW_S seconds."""
        failures, elapsed = self._window(client), self.clock() % WINDOW_S
        return failures.count + failures.previous * (1 - elapsed / WINDOW_S)

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
    """Return the network that one client usually has: an IPv4 address, or an IPv6 /64."""
    try:
        ip = ip_address(client_ip)
    except ValueError:
        return client_ip
    if isinstance(ip, IPv4Address):
        return client_ip
    return str(ip.ipv4_mapped or int(ip) >> IPV6_HOST_BITS)


auth_failures = AuthThrottle()
anonymous_requests = AuthThrottle(limit=anonymous_rpm)
"""Counts the free requests of callers without a key. The ledger counts their requests that have a cost."""
