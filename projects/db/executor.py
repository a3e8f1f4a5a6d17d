"""ORM queries off the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connection

QUERY_TIMEOUT_S = 10
"""A database that neither answers nor refuses must not keep callers waiting for as long as TCP does."""
T = TypeVar("T")

# Cold reads leave the event loop through these threads; each keeps its database connection between reads.
db_executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix="config-reader")


def with_reconnect(query: Callable[..., T], *args: Any) -> T:
    """No signal closes connections in these threads: one that has died is replaced once."""
    try:
        return query(*args)
    except (OperationalError, InterfaceError):
        connection.close()
        return query(*args)


async def run_query(query: Callable[..., T], *args: Any) -> T:
    """Runs an ORM query off the event loop; raises OperationalError also where no answer comes."""
    try:
        async with asyncio.timeout(QUERY_TIMEOUT_S):
            return await asyncio.get_running_loop().run_in_executor(db_executor, with_reconnect, query, *args)
    except TimeoutError:
        raise OperationalError("no answer in time") from None
