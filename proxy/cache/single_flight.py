"""Single-flight: of identical requests at the same time, one fetches the response for all of them."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto

from proxy.cache.entry import CachedResponse
from proxy.formats.neutral import ApiError


class Unshared(Enum):
    """The reasons why a flight has no result for the requests that wait for it."""

    ABANDONED = auto()
    """The request that fetched was denied or aborted, so the next one must fetch."""
    NOT_STORABLE = auto()
    """The response may not be shared, so each request must fetch its own."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The provider's error, with the headers for the client. Waiting requests get the same error."""

    api_error: ApiError
    headers: dict[str, str]


FlightResult = CachedResponse | Failure | Unshared


class Flight:
    """A fetch in progress. `waiters` is the number of requests that wait for its result."""

    def __init__(self, flights: "Flights", key: str) -> None:
        self.flights, self.key, self.waiters = flights, key, 0
        self.result: asyncio.Future[FlightResult] = asyncio.get_running_loop().create_future()

    async def wait(self, timeout_s: float) -> FlightResult:
        """Wait for the result. A request that waited until the timeout must fetch its own response."""
        self.waiters += 1
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    return await asyncio.shield(self.result)
            return Unshared.NOT_STORABLE
        finally:
            self.waiters -= 1

    def end(self, result: FlightResult) -> None:
        """Set the result, once. The next identical request starts a new flight."""
        if not self.result.done():
            self.flights.by_key.pop(self.key, None)
            self.result.set_result(result)


class Flights:
    """The flights of this process by cache key."""

    def __init__(self) -> None:
        self.by_key: dict[str, Flight] = {}

    def find(self, key: str) -> Flight | None:
        """Return the flight of a key, or None."""
        return self.by_key.get(key)

    def start(self, key: str) -> Flight:
        """Start a flight for the current task. It is abandoned if the task ends without a result."""
        flight = self.by_key[key] = Flight(self, key)
        if task := asyncio.current_task():
            task.add_done_callback(lambda _: abandon(flight))
        return flight


def abandon(flight: Flight) -> None:
    """End a flight without a result, if it has none."""
    if not flight.result.get_loop().is_closed():
        flight.end(Unshared.ABANDONED)


flights = Flights()
