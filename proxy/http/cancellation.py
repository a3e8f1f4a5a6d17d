"""Handle the cancellation of a request's task by a server that is shutting down.

The server cancels tasks only so that they end soon. The request must still be settled, and its client must
still get an error, so the task marks the cancellation as handled and continues.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def outliving_cancellation() -> Iterator[None]:
    """Leave the `with` block if this task is cancelled in it, and continue after the block."""
    try:
        yield
    except asyncio.CancelledError:
        outlive_cancellation()


def outlive_cancellation() -> None:
    """Mark the cancellation of the current task as handled, so that the task can continue to await."""
    if task := asyncio.current_task():
        task.uncancel()
