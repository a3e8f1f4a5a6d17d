"""Requests and tokens of the last minute, and requests under way, in the memory of one process.

A window slides: 60 seconds in buckets of a quarter of a second, with a running total. In no 60 seconds is more admitted than
the limit, and each bucket is visited once when it falls out. A place among the requests under way is held under the request's
own id, so that it is freed once, whatever happens.
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
"""When a place among the requests under way becomes free is not known."""


class SlidingWindow:
    """How much was counted in the last minute."""

    __slots__ = ("buckets", "total")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}  # in the order of time
        self.total = 0

    def expire(self, now: float) -> None:
        """A bucket counts until all that it holds is 60 seconds old."""
        oldest = math.floor(now / BUCKET_S) - BUCKETS
        while self.buckets and (first := next(iter(self.buckets))) < oldest:
            self.total -= self.buckets.pop(first)

    def add(self, amount: int, now: float) -> int:
        """Counts, and returns the bucket in which."""
        bucket = math.floor(now / BUCKET_S)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + amount
        self.total += amount
        return bucket

    def adjust(self, bucket: int, difference: int) -> None:
        """Changes what was counted earlier, if it still counts."""
        if bucket in self.buckets:
            self.buckets[bucket] += difference
            self.total += difference

    def seconds_until_room(self, excess: int, now: float) -> float:
        """Seconds until `excess` has fallen out."""
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
    """What a request under way occupies: whose limits, and where its tokens were counted."""

    owners: tuple[str, ...]
    bucket: int
    tokens: int


class RateLimiter:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.requests: dict[str, SlidingWindow] = {}
        self.tokens: dict[str, SlidingWindow] = {}
        self.in_flight: dict[str, set[UUID]] = {}
        self.slots: dict[UUID, Slot] = {}

    def acquire(self, request: ReserveRequest) -> RateLimitStatus:
        """Checks all limits, then counts the request in each; raises RateExceeded and has then counted nothing."""
        if not request.rate_limits:
            return NO_LIMITS
        if request.id not in self.slots:
            now = self.clock()
            for terms in request.rate_limits:
                self.check_rate_limit(terms, request.tokens, now)
            self.slots[request.id] = self.count_request(request, now)
        return self.status(request.rate_limits)

    def check_rate_limit(self, rate_limit: RateLimit, tokens: int, now: float) -> None:
        if (
            rate_limit.concurrent is not None
            and len(self.in_flight.get(rate_limit.owner, ())) >= rate_limit.concurrent
        ):
            raise self.limit_exceeded(rate_limit, "concurrent", rate_limit.concurrent, CONCURRENCY_RETRY_S)
        if rate_limit.requests is not None:
            window = self.window_for(self.requests, rate_limit.owner, now)
            if window.total + 1 > rate_limit.requests:
                raise self.limit_exceeded(
                    rate_limit,
                    "requests",
                    rate_limit.requests,
                    window.seconds_until_room(window.total + 1 - rate_limit.requests, now),
                )
        if rate_limit.tokens is not None:
            window = self.window_for(self.tokens, rate_limit.owner, now)
            if tokens > rate_limit.tokens:
                raise self.limit_exceeded(rate_limit, "tokens", rate_limit.tokens, None)
            if window.total + tokens > rate_limit.tokens:
                raise self.limit_exceeded(
                    rate_limit,
                    "tokens",
                    rate_limit.tokens,
                    window.seconds_until_room(window.total + tokens - rate_limit.tokens, now),
                )

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
        for terms in request.rate_limits:
            if terms.requests is not None:
                self.requests[terms.owner].add(1, now)
            if terms.tokens is not None:
                self.tokens[terms.owner].add(request.tokens, now)
            if terms.concurrent is not None:
                self.in_flight.setdefault(terms.owner, set()).add(request.id)
        return Slot(
            tuple(terms.owner for terms in request.rate_limits), math.floor(now / BUCKET_S), request.tokens
        )

    def release(self, id: UUID, tokens: int) -> None:
        """A request has ended, and used so many tokens."""
        slot = self.slots.pop(id, None)
        if slot is None:
            return
        for owner in slot.owners:
            self._release_slot(owner, id)
            if window := self.tokens.get(owner):
                window.adjust(slot.bucket, tokens - slot.tokens)

    def cancel(self, id: UUID) -> None:
        """A request was counted but not admitted after all."""
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
        now = self.clock()
        requests = [
            self.limit_status(self.requests, terms.owner, terms.requests, now)
            for terms in rate_limits
            if terms.requests is not None
        ]
        tokens = [
            self.limit_status(self.tokens, terms.owner, terms.tokens, now)
            for terms in rate_limits
            if terms.tokens is not None
        ]
        return RateLimitStatus(most_restrictive(requests), most_restrictive(tokens))

    def limit_status(
        self, windows: dict[str, SlidingWindow], owner: str, limit: int, now: float
    ) -> LimitStatus:
        window = self.window_for(windows, owner, now)
        return LimitStatus(limit, max(limit - window.total, 0), window.seconds_until_empty(now))

    def drop_idle(self) -> None:
        """Drops the windows of keys that have not asked for a minute."""
        now = self.clock()
        for windows in (self.requests, self.tokens):
            for owner, window in list(windows.items()):
                window.expire(now)
                if not window.buckets:
                    del windows[owner]


def most_restrictive(statuses: list[LimitStatus]) -> LimitStatus | None:
    return min(statuses, key=lambda allowance: allowance.remaining, default=None)
