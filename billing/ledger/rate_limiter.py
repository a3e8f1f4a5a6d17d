"""Rate limits in the memory of one process: requests and tokens per minute, concurrent requests.

A sliding window of 60 seconds consists of buckets of a quarter of a second, and of the sum over them. The
limit therefore holds for any 60 seconds, and each bucket costs time only when it is filled and when it
expires. Slots are stored by request id, so that each slot is released exactly once.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from billing.ledger.interface import (
    NO_LIMITS,
    LimitStatus,
    RateLimit,
    RateLimitExceeded,
    RateLimitStatus,
    ReserveRequest,
)

WINDOW_S = 60
BUCKET_S = 0.25
BUCKETS = int(WINDOW_S / BUCKET_S)
CONCURRENCY_RETRY_S = 1.0
"""The `retry_after` if a concurrency limit is used up. When a slot will be released is not known."""


class SlidingWindow:
    """A sum over the last 60 seconds."""

    __slots__ = ("buckets", "total")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}  # in the order of time
        self.total = 0

    def expire(self, now: float) -> None:
        """Delete the buckets that are completely older than 60 seconds."""
        oldest = math.floor(now / BUCKET_S) - BUCKETS
        while self.buckets and (first := next(iter(self.buckets))) < oldest:
            self.total -= self.buckets.pop(first)

    def add(self, amount: int, now: float) -> int:
        """Add an amount, and return the number of its bucket."""
        bucket = math.floor(now / BUCKET_S)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + amount
        self.total += amount
        return bucket

    def adjust(self, bucket: int, difference: int) -> None:
        """Change the amount of an earlier bucket, unless the bucket has expired."""
        if bucket in self.buckets:
            self.buckets[bucket] += difference
            self.total += difference

    def seconds_until_room(self, excess: int, now: float) -> float:
        """Return the seconds until at least the amount `excess` has expired."""
        for bucket, amount in self.buckets.items():
            excess -= amount
            if excess <= 0:
                return max(_bucket_expires_at(bucket) - now, BUCKET_S)
        return BUCKET_S

    def seconds_until_empty(self, now: float) -> float:
        last = next(reversed(self.buckets), None)
        return 0.0 if last is None else max(_bucket_expires_at(last) - now, 0.0)


def _bucket_expires_at(bucket: int) -> float:
    return (bucket + 1 + BUCKETS) * BUCKET_S


@dataclass(frozen=True, slots=True)
class Slot:
    """A request in flight: the owners of its limits, the bucket that counts it, and its estimated tokens."""

    owners: tuple[str, ...]
    bucket: int
    tokens: int


class RateLimiter:
    """The counters of the rate limits of all keys and projects, by owner (`k12`, `p3`)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.requests: dict[str, SlidingWindow] = {}
        self.tokens: dict[str, SlidingWindow] = {}
        self.in_flight: dict[str, set[UUID]] = {}
        self.slots: dict[UUID, Slot] = {}

    def acquire(self, request: ReserveRequest) -> RateLimitStatus:
        """Check all limits of a request, then count the request in each of them.

        Raises RateLimitExceeded. In this case, no limit counts the request.
        """
        if not request.rate_limits:
            return NO_LIMITS
        if request.id not in self.slots:
            now = self.clock()
            for rate_limit in request.rate_limits:
                self.check_rate_limit(rate_limit, request.tokens, now)
            self.slots[request.id] = self.count_request(request, now)
        return self.status(request.rate_limits)

    def check_rate_limit(self, rate_limit: RateLimit, tokens: int, now: float) -> None:
        owner = rate_limit.owner
        concurrent = rate_limit.concurrent
        if concurrent is not None and len(self.in_flight.get(owner, ())) >= concurrent:
            raise self.limit_exceeded(rate_limit, "concurrent", concurrent, CONCURRENCY_RETRY_S)
        if rate_limit.requests is not None:
            window = self.window_for(self.requests, owner, now)
            self.check_window(rate_limit, "requests", rate_limit.requests, window, 1, now)
        if rate_limit.tokens is not None:
            window = self.window_for(self.tokens, owner, now)
            if tokens > rate_limit.tokens:
                raise self.limit_exceeded(rate_limit, "tokens", rate_limit.tokens, None)
            self.check_window(rate_limit, "tokens", rate_limit.tokens, window, tokens, now)

    def check_window(
        self, rate_limit: RateLimit, kind: str, limit: int, window: SlidingWindow, amount: int, now: float
    ) -> None:
        excess = window.total + amount - limit
        if excess > 0:
            raise self.limit_exceeded(rate_limit, kind, limit, window.seconds_until_room(excess, now))

    def limit_exceeded(
        self, rate_limit: RateLimit, kind: str, limit: int, retry_after: float | None
    ) -> RateLimitExceeded:
        denial = RateLimitExceeded(rate_limit, kind, limit, retry_after)
        denial.rate_limit_status = self.status((rate_limit,))
        return denial

    def window_for(self, windows: dict[str, SlidingWindow], owner: str, now: float) -> SlidingWindow:
        window = windows.get(owner)
        if window is None:
            window = windows[owner] = SlidingWindow()
        window.expire(now)
        return window

    def count_request(self, request: ReserveRequest, now: float) -> Slot:
        for rate_limit in request.rate_limits:
            if rate_limit.requests is not None:
                self.requests[rate_limit.owner].add(1, now)
            if rate_limit.tokens is not None:
                self.tokens[rate_limit.owner].add(request.tokens, now)
            if rate_limit.concurrent is not None:
                self.in_flight.setdefault(rate_limit.owner, set()).add(request.id)
        owners = tuple(rate_limit.owner for rate_limit in request.rate_limits)
        return Slot(owners, math.floor(now / BUCKET_S), request.tokens)

    def release(self, id: UUID, tokens: int | None) -> None:
        """Release the slot of a request that has ended, and replace its estimated tokens by the used ones.

        If `tokens` is None, the used tokens are not known, and the estimate remains.
        """
        slot = self.slots.pop(id, None)
        if slot is None:
            return
        for owner in slot.owners:
            self._release_slot(owner, id)
            if tokens is not None and (window := self.tokens.get(owner)):
                window.adjust(slot.bucket, tokens - slot.tokens)

    def cancel(self, id: UUID) -> None:
        """Undo `acquire` because the request was denied for another reason."""
        slot = self.slots.get(id)
        if slot is None:
            return
        self.release(id, 0)
        for owner in slot.owners:
            if window := self.requests.get(owner):
                window.adjust(slot.bucket, -1)

    def _release_slot(self, owner: str, id: UUID) -> None:
        if (ids := self.in_flight.get(owner)) is not None:
            ids.discard(id)
            if not ids:
                del self.in_flight[owner]

    def status(self, rate_limits: tuple[RateLimit, ...]) -> RateLimitStatus:
        """Return the most restrictive limit on requests, and the most restrictive limit on tokens."""
        now = self.clock()
        requests = [
            self.limit_status(self.requests, rate_limit.owner, rate_limit.requests, now)
            for rate_limit in rate_limits
            if rate_limit.requests is not None
        ]
        tokens = [
            self.limit_status(self.tokens, rate_limit.owner, rate_limit.tokens, now)
            for rate_limit in rate_limits
            if rate_limit.tokens is not None
        ]
        return RateLimitStatus(most_restrictive(requests), most_restrictive(tokens))

    def limit_status(
        self, windows: dict[str, SlidingWindow], owner: str, limit: int, now: float
    ) -> LimitStatus:
        window = self.window_for(windows, owner, now)
        return LimitStatus(limit, max(limit - window.total, 0), window.seconds_until_empty(now))

    def drop_idle(self) -> None:
        """Delete the windows of owners without requests in the last minute, to free memory."""
        now = self.clock()
        for windows in (self.requests, self.tokens):
            for owner, window in list(windows.items()):
                window.expire(now)
                if not window.buckets:
                    del windows[owner]


def most_restrictive(statuses: list[LimitStatus]) -> LimitStatus | None:
    """Return the limit with the least remaining amount; None if there is no limit."""
    return min(statuses, key=lambda status: status.remaining, default=None)
