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
MAX_ADDRESSES = 20_000
"""Those that have failed longest ago are forgotten first: memory is bounded, whoever attacks from wherever."""
LOOKUPS_PER_S = 10
SHORTEST_WAIT_S = 0.001
IPV6_HOST_BITS = 64


class TooManyFailures(Exception):
    """`retry_after` is in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("too many requests without a valid key")
        self.retry_after = retry_after


@dataclass(slots=True)
class Failures:
    """Of one address, in the window that is running and in the one before it."""

    window: int
    count: int = 0
    before: int = 0


class Throttle:
    """A sliding window by two counts: the one before weighs as much as it still reaches into the last WINDOW_S seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.addresses: OrderedDict[str, Failures] = OrderedDict()
        self.lookups = Failures(0)

    def count(self, address: str) -> None:
        """Counts a failure of this address; raises TooManyFailures, and counts nothing, where it has had too many."""
        limit = settings.ENV.gateway_unauthenticated_rpm
        if not limit:
            return
        self.check(address)
        self.failures_of(network(address)).count += 1
        while len(self.addresses) > MAX_ADDRESSES:
            self.addresses.popitem(last=False)

    def check_lookup(self, address: str) -> None:
        """Before a query for a key that is not known here; raises TooManyFailures in its place."""
        if not self.wait(address):
            return
        second = int(self.clock())
        if self.lookups.window != second:
            self.lookups = Failures(second)
        if self.lookups.count >= LOOKUPS_PER_S:
            raise TooManyFailures(1)
        self.lookups.count += 1

    def check(self, address: str) -> None:
        if wait := self.wait(address):
            raise TooManyFailures(wait)

    def wait(self, address: str) -> float:
        """Seconds until this address may fail again; 0 where it may do so now."""
        limit, place = settings.ENV.gateway_unauthenticated_rpm, network(address)
        if not limit or place not in self.addresses:
            return 0
        failures, passed = self.failures_of(place), self.clock() % WINDOW_S
        if failures.count + failures.before * (1 - passed / WINDOW_S) < limit:
            return 0
        if failures.count >= limit:
            return WINDOW_S - passed
        return max(WINDOW_S * (1 - (limit - failures.count) / failures.before) - passed, SHORTEST_WAIT_S)

    def failures_of(self, place: str) -> Failures:
        window = int(self.clock() // WINDOW_S)
        failures = self.addresses.setdefault(place, Failures(window))
        self.addresses.move_to_end(place)
        if failures.window != window:
            failures.before = failures.count if failures.window == window - 1 else 0
            failures.window, failures.count = window, 0
        return failures

    def forget(self) -> None:
        self.addresses.clear()
        self.lookups = Failures(0)


def network(address: str) -> str:
    """What one subscriber has: an IPv4 address, or a /64 of IPv6."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, IPv4Address):
        return address
    return str(ip.ipv4_mapped or int(ip) >> IPV6_HOST_BITS)


strangers = Throttle()
