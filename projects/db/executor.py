"""Executor for ORM queries, which must not run on the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connection

QUERY_TIMEOUT_S = 10
"""Longest time that a caller waits for a database that hangs. TCP alone would wait for minutes."""
T = TypeVar("T")

# Each thread keeps its database connection between queries.
db_executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix="config-reader")


def with_reconnect(query: Callable[..., T], *args: Any) -> T:
    """Run the query, and once more on a new connection if the old one is dead.

    Django closes dead connections at the end of a request; these threads serve none.
    """
    try:
        return query(*args)
    except (OperationalError, InterfaceError):
        connection.close()
        return query(*args)


async def run_query(query: Callable[..., T], *args: Any) -> T:
    """Run an ORM query off the event loop; raise OperationalError after QUERY_TIMEOUT_S."""
    try:
        async with asyncio.timeout(QUERY_TIMEOUT_S):
            return await asyncio.get_running_loop().run_in_executor(db_executor, with_reconnect, query, *args)
    except TimeoutError:
        raise OperationalError("the database did not answer in time") from None
