"""Handle the cancellation of a request's task by a server that is shutting down.

The server cancels tasks only so that they end soon. A request still has to be settled and its client still
has to get an error, so the task marks the cancellation as handled and goes on.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def outliving_cancellation() -> Iterator[None]:
    """Leave the block early if this task is cancelled in it, and continue after the block."""
    try:
        yield
    except asyncio.CancelledError:
        outlive_cancellation()


def outlive_cancellation() -> None:
    """Mark the cancellation of the current task as handled."""
    if task := asyncio.current_task():
        task.uncancel()
