"""What starts before the first request and ends after the last: the ledger, the connections, the schedule."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import structlog
from celery.beat import EmbeddedService
from django.conf import settings
from django.db import DatabaseError

from billing import ledger
from billing.ledger import Ledger, SqlLedger
from billing.ledger.redis import OutagePolicy, RedisLedger
from billing.ledger.sql.connection import connect, lock_file_for
from gateway_project.celery import app as celery
from projects import config_cache
from projects.db import durability
from projects.db.hang_detection import abort_hung_queries_if
from proxy import revocation
from proxy.http.asgi import Receive, Send
from proxy.http.client_stream import FINAL_WRITE_TIMEOUT_S
from proxy.http.handler import resolve_route
from proxy.pipeline.authenticate import in_flight
from proxy.providers.provider import HTTP_CLIENT
from proxy.routing import config_file, operator_routes
from proxy.runtime import runtime
from proxy.upstream.client import HttpUpstreamClient

SETTLE_POLL_INTERVAL_S = 0.02

log = structlog.get_logger()


class DatabaseInUse(Exception):
    """Another gateway process uses this SQLite database; the embedded ledger allows one."""


async def run(receive: Receive, send: Send) -> None:
    """The lifespan protocol around `running_services`."""
    await receive()
    try:
        async with running_services():
            await send({"type": "lifespan.startup.complete"})
            runtime.ready = True
            await receive()
            runtime.ready = False
    except Exception as error:
        log.error(
            "the gateway could not start or stop", reason=f"{type(error).__name__}: {error}", exc_info=error
        )
        await send({"type": "lifespan.startup.failed", "message": str(error)})
    else:
        await send({"type": "lifespan.shutdown.complete"})


@asynccontextmanager
async def running_services() -> AsyncIterator[None]:
    """Starts in the order in which things need each other, and stops in the reverse."""
    import_views_and_tasks()
    operator_routes.log_routes()
    async with AsyncExitStack() as stack:
        if not settings.ENV.database_url:
            stack.enter_context(sqlite_process_lock(settings.ENV.sqlite_path))
        stack.enter_context(abort_hung_queries_if(lambda: config_cache.database_health.is_down))
        http_client = HttpUpstreamClient(config_file.load().timeout_s)
        runtime.clients[HTTP_CLIENT] = http_client
        stack.push_async_callback(http_client.close)
        process_ledger = open_ledger()
        settled = await process_ledger.start()
        stack.push_async_callback(process_ledger.stop)
        stack.push_async_callback(wait_until_settled)
        ledger.install(process_ledger)
        if settled:
            log.warning("reservations of an earlier process were resolved", count=settled)
        with suppress(DatabaseError):
            await config_cache.run_query(durability.warn_of_unsafe_settings)
        await stack.enter_async_context(running_task(config_cache.poll_version()))
        await stack.enter_async_context(running_task(revocation.poll_revocations()))
        if settings.CELERY_TASK_ALWAYS_EAGER:
            await stack.enter_async_context(embedded_schedule())
        yield


def import_views_and_tasks() -> None:
    """Django would import the views at the first request, and Celery the tasks never: its beat sends those that it does not know to
    a broker, and here there is none.
    """
    celery.loader.import_default_modules()
    resolve_route("/health")


async def wait_until_settled() -> None:
    """Uvicorn ends what is still under way without waiting for it. A client that does not read has LAST_WORDS_S to hear why, and
    only then is its request settled.
    """
    for _ in range(int((FINAL_WRITE_TIMEOUT_S + 1) / SETTLE_POLL_INTERVAL_S)):
        if not in_flight:
            return
        await asyncio.sleep(SETTLE_POLL_INTERVAL_S)


def open_ledger() -> Ledger:
    """Redis serves any number of processes; SQL alone serves one."""
    env = settings.ENV
    if not env.redis_url:
        return SqlLedger(connect(exclusive=True))
    policy = OutagePolicy(
        timeout_s=env.gateway_redis_timeout_ms / 1000,
        allow_limited=env.gateway_redis_down_limits == "open",
        allow_budgeted=env.gateway_redis_down_budgets == "open",
    )
    return RedisLedger(env.redis_url, policy)


@contextmanager
def sqlite_process_lock(database: Path) -> Iterator[None]:
    with lock_file_for(database).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DatabaseInUse(f"another gateway process uses {database}") from None
        lock.write(str(os.getpid()))
        yield


@asynccontextmanager
async def running_task(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    background = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        background.cancel()
        with suppress(asyncio.CancelledError):
            await background


@asynccontextmanager
async def embedded_schedule() -> AsyncIterator[None]:
    """Celery's beat in a thread of this process, running the tasks itself: the same tasks and times as with workers."""
    service = EmbeddedService(celery, thread=True, scheduler_cls="celery.beat:Scheduler")
    service.start()
    try:
        yield
    finally:
        await asyncio.to_thread(service.stop)
