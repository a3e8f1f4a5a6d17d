"""The stage `lookup`: find the response of a request in the cache, or prepare to record it."""

import asyncio
from dataclasses import dataclass
from functools import partial

from billing.models import Outcome
from proxy import telemetry
from proxy.cache import store
from proxy.cache.entry import CachedResponse
from proxy.cache.key import cache_key
from proxy.cache.single_flight import Failure, Flight, Unshared, flights
from proxy.cache.store import Lease
from proxy.errors import GatewayError
from proxy.http.responses import ResponseWriter
from proxy.pipeline.response_cache.policy import CacheUse, cache_use, is_declined, is_requested
from proxy.pipeline.response_cache.recorder import (
    NO_RECORDING,
    CacheStatusWriter,
    Recording,
    RecordingWriter,
)
from proxy.pipeline.response_cache.replay import Hit, find_hit
from proxy.pipeline.route import Planned
from proxy.routing.calls import forwarded_headers

MAX_WAIT_S = 30.0
"""How long a request waits for the response of an identical request, before it fetches its own."""
LEASE_POLL_INTERVAL_S = 0.1
"""Seconds between two checks whether another process has fetched a response."""


@dataclass(frozen=True, slots=True)
class Miss:
    """The request must be sent to a provider.

    `recording` wraps its writer, and ends when the request ends.
    """

    recording: Recording


async def lookup(planned: Planned, writer: ResponseWriter) -> Hit | Miss:
    """Find the response in the cache, or wait for the response of an identical request.

    Raises GatewayError if the identical request failed at its provider, and ClientDisconnected.
    """
    parsed = planned.routed.parsed
    if not is_requested(parsed):
        return Miss(CacheStatusWriter(writer, "bypass") if is_declined(parsed) else NO_RECORDING)
    use = cache_use(planned)
    if use is None:
        telemetry.cache_looked_up("bypass")
        return Miss(CacheStatusWriter(writer, "bypass"))
    found = await CacheLookup(planned, writer, use).run()
    telemetry.cache_looked_up("hit" if isinstance(found, Hit) else "miss")
    return found


class CacheLookup:
    """Looks up the response of one request."""

    def __init__(self, planned: Planned, writer: ResponseWriter, use: CacheUse) -> None:
        self.planned, self.writer, self.use = planned, writer, use
        self.parsed, self.store = planned.routed.parsed, store.current()
        received, target = self.parsed.caller.received, planned.candidate.target
        self.project_id = self.parsed.caller.principal.project_id
        self.key = cache_key(
            self.project_id,
            received.operation,
            target.account,
            target.model,
            self.parsed.client_request,
            forwarded_headers(received.request, received.operation.format),
        )

    async def run(self) -> Hit | Miss:
        """Return the hit, or a miss."""
        if not self.use.reads:
            return self._miss()
        stored = await self.store.get(self.project_id, self.key)
        if stored is not None:
            return self._hit(stored) or self._miss()
        async with self.parsed.caller.received.request.disconnect_watcher:
            return await self._share()

    def _hit(self, stored: CachedResponse) -> Hit | None:
        if stored.age_s > self.use.max_age_s:
            return None
        return find_hit(stored, self.parsed.caller.received.operation.format, self.parsed.client_request)

    def _miss(self, flight: Flight | None = None, lease: Lease | None = None) -> Miss:
        return Miss(RecordingWriter(self.writer, self.planned, self.key, self.use, flight, lease))

    async def _share(self) -> Hit | Miss:
        """Wait for the response that an identical request fetches, or become the request that fetches it."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + MAX_WAIT_S
        while (flight := flights.find(self.key)) is not None:
            match await flight.wait(deadline - clock()):
                case CachedResponse() as shared:
                    return self._hit(shared) or self._miss()
                case Failure(api_error, headers):
                    raise GatewayError(Outcome.UPSTREAM_ERROR, api_error, dict(headers))
                case Unshared.NOT_STORABLE:
                    return self._miss()
                case Unshared.ABANDONED:
                    continue
        return await self._lead(flights.start(self.key), deadline)

    async def _lead(self, flight: Flight, deadline: float) -> Hit | Miss:
        """Fetch the response for this process, unless another process is fetching it."""
        watcher = self.parsed.caller.received.request.disconnect_watcher
        watcher.serves_others = partial(has_waiters, flight)
        claimed = await self._claim(deadline)
        if isinstance(claimed, CachedResponse):
            flight.end(claimed)
            return self._hit(claimed) or self._miss()
        watcher.serves_others = partial(has_waiters, flight, claimed)
        return self._miss(flight, claimed)

    async def _claim(self, deadline: float) -> CachedResponse | Lease | None:
        """Return the response that another process has fetched, or a lease, or None after the deadline."""
        clock = asyncio.get_running_loop().time
        while (claimed := await self.store.claim(self.project_id, self.key)) is None:
            if clock() > deadline:
                return None
            await asyncio.sleep(LEASE_POLL_INTERVAL_S)
        return claimed


async def has_waiters(flight: Flight, lease: Lease | None = None) -> bool:
    """Return whether requests of this or another process wait for the response."""
    return flight.waiters > 0 or (lease is not None and await lease.is_wanted())
