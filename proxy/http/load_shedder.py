"""Load shedding: refuse requests that this process could not serve in time, before it works on them."""

import asyncio
import math
import time
from collections import Counter
from enum import StrEnum

import structlog
from django.conf import settings

FAIR_SHARE_FRACTION = 0.8
"""The part of the limit that the projects share equally.

The rest is left to projects below their share, so that one busy project cannot lock out the others.
"""
MAX_LAG_S = 0.08
"""The maximum lag: how long the event loop works before it handles a due timer.

If the lag stays above this value, the process has more work than its CPU core can do.
"""
SUSTAINED_LAG_S = 1
"""A lag must last this long: many requests that arrive at once are not an overload."""
RECENT_LAG_S = 5
"""If the CPU was overloaded within this time, a lag counts at once."""
MIN_IN_FLIGHT_FOR_LAG = 64
"""With fewer requests in flight, a lag is not an overload, because a single large request can cause it."""
LAG_INTERVAL_S = 0.01
LOG_INTERVAL_S = 10

log = structlog.get_logger()


class ShedReason(StrEnum):
    """The reason to shed a request, which is also a label in the metrics."""

    LIMIT = "limit"
    FAIR_SHARE = "fair_share"
    LAG = "event_loop_lag"


class LoadShedder:
    """Counts the requests in flight, and decides which requests to shed.

    `limit` is the maximum number of requests in flight. Near the limit, or while the event loop lags, a
    project may not have more requests in flight than its fair share. All projects with requests in flight
    have equal shares. There is no queue: a shed request costs almost nothing, and its client tries again
    later.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_flight: Counter[str] = Counter()
        self.total = 0
        self.lag_s = self.on_time_at = 0.0
        self.overloaded_at = -math.inf
        self.is_cpu_overloaded = False
        self.shed_counts: Counter[ShedReason] = Counter()

    @property
    def is_loaded(self) -> bool:
        """Return whether a request may have to be shed. This is cheap enough for every request."""
        return self.total >= self.limit * FAIR_SHARE_FRACTION or self.is_lagging

    @property
    def is_lagging(self) -> bool:
        """Return whether the requests in flight make the event loop late."""
        return self.is_cpu_overloaded and self.total >= MIN_IN_FLIGHT_FOR_LAG

    def measure(self, lag_s: float, now: float) -> None:
        """Note the lag of the event loop at this time."""
        self.lag_s, is_late = lag_s, lag_s > MAX_LAG_S
        self.on_time_at = self.on_time_at if is_late else now
        is_sustained = now - self.on_time_at >= SUSTAINED_LAG_S or now - self.overloaded_at < RECENT_LAG_S
        self.is_cpu_overloaded = is_late and is_sustained
        if self.is_cpu_overloaded:
            self.overloaded_at = now

    def reason_to_shed(self, project: str) -> ShedReason | None:
        """Return why a request of a project must be shed now; None if it may run."""
        if self.total >= self.limit:
            return ShedReason.LIMIT
        if not self.is_loaded:
            return None
        shared = min(self.limit * FAIR_SHARE_FRACTION, self.total)
        if self.in_flight[project] < shared / max(len(self.in_flight), 1):
            return None
        return ShedReason.LAG if self.is_lagging else ShedReason.FAIR_SHARE

    def enter(self, project: str) -> bool:
        """Count a request of a project as in flight. Return False if it must be shed instead."""
        if self.is_loaded and (reason := self.reason_to_shed(project)) is not None:
            self.shed_counts[reason] += 1
            return False
        self.in_flight[project] += 1
        self.total += 1
        return True

    def leave(self, project: str) -> None:
        """Count a request as ended."""
        self.total -= 1
        self.in_flight[project] -= 1
        if not self.in_flight[project]:
            del self.in_flight[project]


load_shedder = LoadShedder(settings.ENV.gateway_max_concurrent_requests)


async def monitor_load(shedder: LoadShedder = load_shedder) -> None:
    """Measure the lag of the event loop until cancelled, and log how many requests are shed.

    The lag is measured in CPU time of this thread. Measured in real time, the loop would also be late if
    other processes keep the machine busy.
    """
    loop = asyncio.get_running_loop()
    shedder.measure(0.0, loop.time())
    logged, log_at, cpu_s = 0, loop.time(), time.thread_time()
    while True:
        await asyncio.sleep(LAG_INTERVAL_S)
        now, before_s, cpu_s = loop.time(), cpu_s, time.thread_time()
        shedder.measure(max(cpu_s - before_s - LAG_INTERVAL_S, 0.0), now)
        if now >= log_at and (count := shedder.shed_counts.total()) > logged:
            log_shed(shedder, count - logged)
            logged, log_at = count, now + LOG_INTERVAL_S


def log_shed(shedder: LoadShedder, count: int) -> None:
    """Write one log line for all requests that were shed since the last one."""
    log.warning(
        "requests_shed",
        message="The gateway was overloaded and answered requests with 503. Add processes, or raise "
        "GATEWAY_MAX_CONCURRENT_REQUESTS if the CPU is not busy.",
        count=count,
        in_flight=shedder.total,
        limit=shedder.limit,
        event_loop_lag_ms=round(shedder.lag_s * 1000),
    )
