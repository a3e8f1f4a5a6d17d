"""Retry budget of a target: it bounds the load that retries add to a provider that is down."""

RATIO = 0.2
"""Retries for each request. A provider that fails on every call gets at most 1.2 calls for each request."""
FLOOR = 10
"""Retries that a window always allows, so that a lone request gets all its retries."""
WINDOW_S = 10


class RetryBudget:
    """The requests and retries of one target within a window."""

    def __init__(self) -> None:
        self.window_start = 0.0
        self.requests = self.retries = 0

    def add_request(self, now: float) -> None:
        """Count the first call of a request."""
        self.start_window(now)
        self.requests += 1

    def take_retry(self, now: float) -> bool:
        """Count a retry, and return True, if the budget allows it."""
        self.start_window(now)
        if self.retries >= max(FLOOR, RATIO * self.requests):
            return False
        self.retries += 1
        return True

    def start_window(self, now: float) -> None:
        if now - self.window_start >= WINDOW_S:
            self.window_start, self.requests, self.retries = now, 0, 0
