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

from billing.ledger.terms import UNLIMITED, Allowance, Demand, LimitTerms, RateExceeded, Standing

WINDOW_S = 60
BUCKET_S = 0.25
BUCKETS = int(WINDOW_S / BUCKET_S)
RETRY_CONCURRENT_S = 1.0
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

    def correct(self, bucket: int, difference: int) -> None:
        """Changes what was counted earlier, if it still counts."""
        if bucket in self.buckets:
            self.buckets[bucket] += difference
            self.total += difference

    def room_in(self, excess: int, now: float) -> float:
        """Seconds until `excess` has fallen out."""
        for bucket, amount in self.buckets.items():
            excess -= amount
            if excess <= 0:
                return max(_end(bucket) - now, BUCKET_S)
        return BUCKET_S

    def empty_in(self, now: float) -> float:
        last = next(reversed(self.buckets), None)
        return 0.0 if last is None else max(_end(last) - now, 0.0)


def _end(bucket: int) -> float:
    return (bucket + 1 + BUCKETS) * BUCKET_S


@dataclass(frozen=True, slots=True)
class Place:
    """What a request under way occupies: whose limits, and where its tokens were counted."""

    owners: tuple[str, ...]
    bucket: int
    tokens: int


class Limiter:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.requests: dict[str, SlidingWindow] = {}
        self.tokens: dict[str, SlidingWindow] = {}
        self.under_way: dict[str, set[UUID]] = {}
        self.places: dict[UUID, Place] = {}

    def enter(self, demand: Demand) -> Standing:
        """Checks all limits, then counts the request in each; raises RateExceeded and has then counted nothing."""
        if not demand.limits:
            return UNLIMITED
        if demand.id not in self.places:
            now = self.clock()
            for terms in demand.limits:
                self.check(terms, demand.tokens, now)
            self.places[demand.id] = self.count(demand, now)
        return self.standing(demand.limits)

    def check(self, terms: LimitTerms, tokens: int, now: float) -> None:
        if terms.concurrent is not None and len(self.under_way.get(terms.owner, ())) >= terms.concurrent:
            raise self.refusal(terms, "concurrent", terms.concurrent, RETRY_CONCURRENT_S)
        if terms.requests is not None:
            window = self.window(self.requests, terms.owner, now)
            if window.total + 1 > terms.requests:
                raise self.refusal(terms, "requests", terms.requests, window.room_in(window.total + 1 - terms.requests, now))
        if terms.tokens is not None:
            window = self.window(self.tokens, terms.owner, now)
            if tokens > terms.tokens:
                raise self.refusal(terms, "tokens", terms.tokens, None)
            if window.total + tokens > terms.tokens:
                raise self.refusal(terms, "tokens", terms.tokens, window.room_in(window.total + tokens - terms.tokens, now))

    def refusal(self, terms: LimitTerms, kind: str, limit: int, retry_after: float | None) -> RateExceeded:
        refusal = RateExceeded(terms, kind, limit, retry_after)
        refusal.standing = self.standing((terms,))
        return refusal

    def window(self, windows: dict[str, SlidingWindow], owner: str, now: float) -> SlidingWindow:
        window = windows.get(owner)
        if window is None:
            window = windows[owner] = SlidingWindow()
        window.expire(now)
        return window

    def count(self, demand: Demand, now: float) -> Place:
        for terms in demand.limits:
            if terms.requests is not None:
                self.requests[terms.owner].add(1, now)
            if terms.tokens is not None:
                self.tokens[terms.owner].add(demand.tokens, now)
            if terms.concurrent is not None:
                self.under_way.setdefault(terms.owner, set()).add(demand.id)
        return Place(tuple(terms.owner for terms in demand.limits), math.floor(now / BUCKET_S), demand.tokens)

    def leave(self, id: UUID, tokens: int) -> None:
        """A request has ended, and used so many tokens."""
        place = self.places.pop(id, None)
        if place is None:
            return
        for owner in place.owners:
            self.free(owner, id)
            if window := self.tokens.get(owner):
                window.correct(place.bucket, tokens - place.tokens)

    def undo(self, id: UUID) -> None:
        """A request was counted but not admitted after all."""
        place = self.places.get(id)
        if place is None:
            return
        self.leave(id, 0)
        for owner in place.owners:
            if window := self.requests.get(owner):
                window.correct(place.bucket, -1)

    def free(self, owner: str, id: UUID) -> None:
        if (ids := self.under_way.get(owner)) is not None:
            ids.discard(id)
            if not ids:
                del self.under_way[owner]

    def standing(self, limits: tuple[LimitTerms, ...]) -> Standing:
        now = self.clock()
        requests = [self.allowance(self.requests, terms.owner, terms.requests, now) for terms in limits if terms.requests is not None]
        tokens = [self.allowance(self.tokens, terms.owner, terms.tokens, now) for terms in limits if terms.tokens is not None]
        return Standing(tightest(requests), tightest(tokens))

    def allowance(self, windows: dict[str, SlidingWindow], owner: str, limit: int, now: float) -> Allowance:
        window = self.window(windows, owner, now)
        return Allowance(limit, max(limit - window.total, 0), window.empty_in(now))

    def forget_idle(self) -> None:
        """Drops the windows of keys that have not asked for a minute."""
        now = self.clock()
        for windows in (self.requests, self.tokens):
            for owner, window in list(windows.items()):
                window.expire(now)
                if not window.buckets:
                    del windows[owner]


def tightest(allowances: list[Allowance]) -> Allowance | None:
    return min(allowances, key=lambda allowance: allowance.left, default=None)
