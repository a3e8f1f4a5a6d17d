"""Detect a hung PostgreSQL server.

A client cannot tell a hung server from a slow query. When a query has exceeded its timeout, the gateway
therefore checks whether other queries still succeed (docs/adr/0010-hung-database-servers.md).
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

POLL_INTERVAL_S = 0.1
"""How often a waiting connection checks whether its socket is still open."""
RECHECK_INTERVAL_S = 0.25
"""How often the gateway repeats that check while a query runs longer than its timeout."""

WaitGenerator = Generator[Any, Any, Any]
"""The generator with which psycopg runs one operation. It yields the socket states that it waits for."""


def _assume_up() -> bool:
    return False


class OutageProbe:
    """Reports whether the database is down.

    A gateway process asks its config poller. Commands and workers have no poller and always report that the
    database is up.
    """

    def __init__(self) -> None:
        self._is_down: Callable[[], bool] = _assume_up

    def is_down(self) -> bool:
        return self._is_down()


outage_probe = OutageProbe()


@contextmanager
def abort_hung_queries_if(is_down: Callable[[], bool]) -> Iterator[None]:
    """Within the block, abort queries that have exceeded their timeout if `is_down` returns True."""
    outage_probe._is_down = is_down
    try:
        yield
    finally:
        outage_probe._is_down = _assume_up


def wait_attempts(
    operation: WaitGenerator, timeout_s: float | None, is_down: Callable[[], bool]
) -> Iterator[tuple[WaitGenerator, float | None]]:
    """Yield the arguments of successive calls of psycopg's wait function.

    They are a generator and a timeout in seconds. The caller requests the next pair when a call has timed
    out. When there are no more pairs, the server hangs, and the caller must close the connection.
    """
    yield operation, timeout_s
    resumed = rewait(operation)
    while not is_down():
        yield resumed, RECHECK_INTERVAL_S


def rewait(operation: WaitGenerator) -> WaitGenerator:
    """Wrap a generator that has timed out, so that it can be passed to psycopg's wait function again.

    A wait function starts with `next`, which sends None. A generator that has already started does not accept
    None, so the wrapper sends it 0 (not ready) instead.
    """
    socket_state = 0
    while True:
        try:
            wait_for = operation.send(socket_state)
        except StopIteration as end:
            return end.value
        socket_state = (yield wait_for) or 0
