"""Detect a hung PostgreSQL server.

A slow query and a hung server look alike to the client, so after a timeout we check whether other queries
still succeed (docs/adr/0010-hung-database-servers.md).
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

POLL_INTERVAL_S = 0.1
"""How often a waiting connection checks whether its socket is still open."""
RECHECK_INTERVAL_S = 0.25
"""How often a query past its timeout checks again whether the server answers other queries."""

WaitGenerator = Generator[Any, Any, Any]
"""psycopg's state machine of one operation: it yields the socket states that it waits for."""


def _assume_up() -> bool:
    return False


class OutageProbe:
    """Reports whether the database is down.

    Gateway processes install the config poller's view. Commands and workers keep the default: always up.
    """

    def __init__(self) -> None:
        self._is_down: Callable[[], bool] = _assume_up

    def is_down(self) -> bool:
        return self._is_down()


outage_probe = OutageProbe()


@contextmanager
def abort_hung_queries_if(is_down: Callable[[], bool]) -> Iterator[None]:
    """Abort queries that exceed their timeout while `is_down` returns True, as long as the block runs."""
    outage_probe._is_down = is_down
    try:
        yield
    finally:
        outage_probe._is_down = _assume_up


def wait_attempts(
    operation: WaitGenerator, timeout_s: float | None, is_down: Callable[[], bool]
) -> Iterator[tuple[WaitGenerator, float | None]]:
    """Yield what to pass to psycopg's wait function, and its timeout in seconds, until the server is down.

    The caller takes the next attempt when the one before has timed out. If there is no further attempt, the
    server hangs, and the caller closes the connection.
    """
    yield operation, timeout_s
    resumed = rewait(operation)
    while not is_down():
        yield resumed, RECHECK_INTERVAL_S


def rewait(operation: WaitGenerator) -> WaitGenerator:
    """Restart psycopg's wait generator after a timeout.

    A wait function begins with `next`, which sends None. A generator that has started does not accept that;
    it gets 0 (not ready) instead.
    """
    socket_state = 0
    while True:
        try:
            wait_for = operation.send(socket_state)
        except StopIteration as end:
            return end.value
        socket_state = (yield wait_for) or 0
