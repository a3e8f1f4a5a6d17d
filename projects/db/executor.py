"""Threads in which ORM queries run, because a query would block the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connection

QUERY_TIMEOUT_S = 10
"""How long a caller waits for a query. Without this limit, a hung database could block it for minutes."""
T = TypeVar("T")

# Each thread keeps its database connection between queries.
db_executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix="config-reader")


def with_reconnect(query: Callable[..., T], *args: Any) -> T:
    """Run the query. If it fails because the connection is dead, reconnect and run it once more.

    Django closes dead connections at the end of each request, but these threads run outside of requests.
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
