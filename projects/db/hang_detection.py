"""Waiting for a PostgreSQL that may be slow, or may say nothing for ever: only whoever asks can tell, by asking something else."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

RECHECK_INTERVAL_S = 0.25
"""How often whoever has waited in vain asks whether the server answers others."""


def _assume_up() -> bool:
    return False


class OutageProbe:
    """Who knows whether the server is away: in a gateway process the poll of the configuration; commands and workers do not poll."""

    def __init__(self) -> None:
        self._is_down: Callable[[], bool] = _assume_up

    def is_down(self) -> bool:
        return self._is_down()


outage_probe = OutageProbe()


@contextmanager
def abort_hung_queries_if(is_down: Callable[[], bool]) -> Iterator[None]:
    """While the block runs, statements that the server does not answer are given up where `is_down` says so."""
    outage_probe._is_down = is_down
    try:
        yield
    finally:
        outage_probe._is_down = _assume_up


def rewait(wait_generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """What psycopg waits for, to be waited for once more after a timeout: it takes a state of its socket, and not None."""
    socket_state = 0
    while True:
        try:
            wait_for = wait_generator.send(socket_state)
        except StopIteration as end:
            return end.value
        socket_state = (yield wait_for) or 0
