"""Moving averages of the time until a target sends the headers of a response.

They are kept per process, by provider, base URL and model, so that all accounts at one place share them.
"""

import time
from collections.abc import Callable

from proxy.routing.accounts import Account

WEIGHT = 0.2
"""The weight of a new measurement in the average."""
FAILURE_S = 60.0
"""The time that a failure counts as."""
MAX_AGE_S = 60
"""An average that is older is measured again: the next request tries this target first."""
MAX_ENTRIES = 10_000

Place = tuple[str, str, str]


def place_of(account: Account, model: str) -> Place:
    return account.provider.slug, account.base_url, model


class LatencyAverages:
    """The averages of one process, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.averages: dict[Place, tuple[float, float]] = {}
        """For each place: the average in seconds, and the time of the last measurement."""

    def observe(self, account: Account, model: str, seconds: float) -> None:
        """Add the time until the headers of a response."""
        place = place_of(account, model)
        average, _ = self.averages.get(place, (seconds, 0.0))
        if len(self.averages) >= MAX_ENTRIES and place not in self.averages:
            self.averages.clear()
        self.averages[place] = average + WEIGHT * (seconds - average), self.clock()

    def observe_failure(self, account: Account, model: str) -> None:
        """Add a failure. It counts as a long time, because a target may fail quickly."""
        self.observe(account, model, FAILURE_S)

    def next_estimate(self, account: Account, model: str) -> float:
        """Return the average of a place; 0 if it is unknown or too old, so that it is measured.

        Of several requests at the same time, only one tries a place whose average is too old.
        """
        place = place_of(account, model)
        average, measured_at = self.averages.get(place, (0.0, 0.0))
        now = self.clock()
        if average and now - measured_at > MAX_AGE_S:
            self.averages[place] = average, now
            return 0.0
        return average


latency_averages = LatencyAverages()
