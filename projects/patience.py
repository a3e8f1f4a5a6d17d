"""Waiting for a PostgreSQL that may be slow, or may say nothing for ever: only whoever asks can tell, by asking something else."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

LOOK_AGAIN_S = 0.25
"""How often whoever has waited in vain asks whether the server answers others."""


def never() -> bool:
    return False


class Watch:
    """Who knows whether the server is away: in a gateway process the poll of the configuration; commands and workers do not poll."""

    def __init__(self) -> None:
        self.found_away: Callable[[], bool] = never

    def is_away(self) -> bool:
        return self.found_away()


watch = Watch()


@contextmanager
def given_up_when(is_away: Callable[[], bool]) -> Iterator[None]:
    """While the block runs, statements that the server does not answer are given up where `is_away` says so."""
    watch.found_away = is_away
    try:
        yield
    finally:
        watch.found_away = never


def resumed(generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """What psycopg waits for, to be waited for once more after a timeout: it takes a state of its socket, and not None."""
    ready = 0
    while True:
        try:
            state = generator.send(ready)
        except StopIteration as end:
            return end.value
        ready = (yield state) or 0
