"""Start and stop the services of a gateway process: ledger, connections, pollers, schedule."""

import asyncio
import atexit
import gc
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import structlog
from celery.beat import EmbeddedService
from django.conf import settings
from django.db import DatabaseError

from billing import ledger
from billing.ledger import Ledger, SqlLedger
from billing.ledger.redis import OutagePolicy, RedisLedger
from billing.ledger.sql.connection import connect
from billing.ledger.sql.process_lock import sqlite_process_lock
from gateway_project.celery import app as celery
from projects import config_cache
from projects.db import durability, executor
from projects.db.hang_detection import abort_hung_queries_if
from projects.db.health import database_health
from proxy import revocation
from proxy.cache import store as response_cache
from proxy.cache.redis_store import RedisStore
from proxy.cache.store import CacheStore
from proxy.http.asgi import Receive, Send
from proxy.http.client_stream import FINAL_WRITE_TIMEOUT_S
from proxy.http.handler import resolve_route
from proxy.http.load_shedder import monitor_load
from proxy.pipeline.authenticate import in_flight
from proxy.pipeline.background.poller import Poller
from proxy.prompt_log.writer import prompt_log_writer
from proxy.providers.provider import HTTP_CLIENT
from proxy.routing import config_file, operator_routes
from proxy.routing.health import background as health_background
from proxy.routing.health.shared_state import SharedState
from proxy.routing.health.target_health import health
from proxy.runtime import runtime
from proxy.upstream.client import HttpUpstreamClient
from proxy.upstream.timeouts import Timeouts

GC_GEN0_THRESHOLD = 10_000
SETTLE_POLL_INTERVAL_S = 0.02
SCHEDULE_POLL_INTERVAL_S = 0.05

log = structlog.get_logger()


class Services:
    """The services of this process. They start once: with the server, or with the first request.

    uvicorn, hypercorn and granian send lifespan events when they start and stop (`run`). daphne does not, so
    the services start with the first request, and stop when the process exits.
    """

    def __init__(self) -> None:
        self.have_started = False
        self._start: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started_on_demand = AsyncExitStack()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the services while the block runs, and set `runtime.ready`, on which `/ready` depends."""
        async with running_services():
            self.have_started = runtime.ready = True
            try:
                yield
            finally:
                runtime.ready = False

    async def start_on_demand(self) -> None:
        """Start the services, or wait if another request has already begun to start them.

        If the start fails, every request that waits for it raises the error. The next request tries again.
        """
        if self._start is None or self._start.done():
            self._start = asyncio.create_task(self._start_until_exit())
        await asyncio.shield(self._start)

    async def _start_until_exit(self) -> None:
        await self._started_on_demand.enter_async_context(self.running())
        self._loop = asyncio.get_running_loop()
        atexit.register(self.stop_on_demand)

    def stop_on_demand(self) -> None:
        """Stop the services that `start_on_demand` has started, if any, on their event loop.

        Call this in the thread of the loop, when the loop no longer runs but is not closed. Otherwise, the
        services cannot be stopped. The next start then settles the open
        reservations, as after a kill.
        """
        loop = self._loop
        if loop is not None and not loop.is_closed() and not loop.is_running():
            loop.run_until_complete(self._started_on_demand.aclose())


services = Services()


async def run(receive: Receive, send: Send) -> None:
    """Start and stop the services when the server sends its lifespan events."""
    await receive()
    try:
        async with services.running():
            await send({"type": "lifespan.startup.complete"})
            await receive()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        message = "The gateway could not start or stop."
        log.error("gateway_start_or_stop_failed", message=message, reason=reason, exc_info=error)
        await send({"type": "lifespan.startup.failed", "message": str(error)})
    else:
        await send({"type": "lifespan.shutdown.complete"})


@asynccontextmanager
async def running_services() -> AsyncIterator[None]:
    """Start the services in the order of their dependencies, and stop them in the reverse order."""
    import_views_and_tasks()
    operator_routes.log_routes()
    async with AsyncExitStack() as stack:
        if not settings.ENV.database_url:
            stack.enter_context(sqlite_process_lock(settings.ENV.sqlite_path))
        stack.enter_context(abort_hung_queries_if(lambda: database_health.is_down))
        http_client = HttpUpstreamClient(upstream_timeouts())
        runtime.clients[HTTP_CLIENT] = http_client
        stack.push_async_callback(http_client.close)
        process_ledger = await start_ledger()
        stack.push_async_callback(process_ledger.stop)
        stack.push_async_callback(prompt_log_writer.stop)
        stack.push_async_callback((await start_response_cache()).close)
        stack.push_async_callback(wait_until_settled)
        with suppress(DatabaseError):
            await executor.run_query(durability.warn_of_unsafe_settings)
        if settings.CELERY_TASK_ALWAYS_EAGER:
            await stack.enter_async_context(embedded_schedule())
        await stack.enter_async_context(running_task(config_cache.poll_version()))
        await stack.enter_async_context(running_task(revocation.poll_revocations()))
        await stack.enter_async_context(running_task(Poller().run()))
        await stack.enter_async_context(running_task(prompt_log_writer.run()))
        shared_health = await stack.enter_async_context(shared_target_health())
        await stack.enter_async_context(running_task(health_background.run(health, shared_health)))
        await stack.enter_async_context(running_task(monitor_load()))
        yield


def upstream_timeouts() -> Timeouts:
    """Return the timeouts of calls. A timeout that no variable sets has the value of the config file."""
    env, silence_s = settings.ENV, config_file.load().timeout_s
    return Timeouts(
        env.gateway_connect_timeout_s,
        env.gateway_first_chunk_timeout_s or silence_s,
        env.gateway_idle_timeout_s or silence_s,
    )


def import_views_and_tasks() -> None:
    """Import views and tasks now.

    Otherwise, Django would import the views at the first request, and Celery would import no tasks. Celery's
    beat sends a task that it does not know to a broker, which does not exist if beat runs in this process.
    """
    celery.loader.import_default_modules()
    resolve_route("/health")


async def start_ledger() -> Ledger:
    """Start the ledger, and install it for requests."""
    process_ledger = open_ledger()
    settled = await process_ledger.start()
    ledger.install(process_ledger)
    if settled:
        message = "Reservations that an earlier process had not settled were settled by estimates."
        log.warning("orphaned_reservations_settled", message=message, count=settled)
    return process_ledger


async def start_response_cache() -> CacheStore:
    """Start the response cache, in Redis or in this process, and install it for requests."""
    env = settings.ENV
    if not env.redis_url:
        return response_cache.current()
    redis_store = RedisStore(
        env.redis_url, timeout_s=env.gateway_redis_timeout_ms / 1000, max_bytes=response_cache.max_bytes
    )
    await redis_store.open()
    response_cache.install(redis_store)
    return redis_store


def open_ledger() -> Ledger:
    """Return the Redis ledger, which any number of processes share, or the SQL ledger of one process."""
    env = settings.ENV
    if not env.redis_url:
        return SqlLedger(connect(exclusive=True))
    policy = OutagePolicy(
        timeout_s=env.gateway_redis_timeout_ms / 1000,
        allow_limited=env.gateway_redis_down_limits == "open",
        allow_budgeted=env.gateway_redis_down_budgets == "open",
    )
    return RedisLedger(env.redis_url, policy)


async def wait_until_settled() -> None:
    """Wait until no request is in flight, at most FINAL_WRITE_TIMEOUT_S plus one second.

    At the shutdown timeout, uvicorn cancels requests and does not wait for them. Each request still sends an
    error to its client, which may take FINAL_WRITE_TIMEOUT_S, and is then settled.
    """
    for _ in range(int((FINAL_WRITE_TIMEOUT_S + 1) / SETTLE_POLL_INTERVAL_S)):
        if not in_flight:
            return
        await asyncio.sleep(SETTLE_POLL_INTERVAL_S)


@asynccontextmanager
async def shared_target_health() -> AsyncIterator[SharedState | None]:
    """Yield the health of targets that all processes share through Redis; None without Redis."""
    env = settings.ENV
    if not env.redis_url:
        yield None
        return
    shared = SharedState(env.redis_url, timeout_s=env.gateway_redis_timeout_ms / 1000)
    await shared.open()
    try:
        yield shared
    finally:
        await shared.close()


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
    """Run Celery's beat in a thread of this process. The same thread runs the tasks.

    The schedule is the same as with workers.
    """
    beat = EmbeddedService(celery, thread=True, scheduler_cls="celery.beat:Scheduler")
    beat.start()
    try:
        yield
    finally:
        beat.service.stop()
        # Poll instead of calling `join` in a worker thread, because an exiting interpreter cannot start a
        # thread.
        while beat.is_alive():  # noqa: ASYNC110
            await asyncio.sleep(SCHEDULE_POLL_INTERVAL_S)


def tune_gc() -> None:
    """Exclude all existing objects from garbage collection.

    Objects that exist after the start are never freed. The garbage collector would traverse them repeatedly,
    which took half of the CPU time of a request.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_GEN0_THRESHOLD, 20, 50)
