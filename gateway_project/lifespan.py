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
from billing.ledger.redis import Policy, RedisLedger
from billing.ledger.session import connect, lock_beside
from gateway_project.celery import app as celery
from projects import configcache, durability
from projects.patience import given_up_when
from proxy import exchange, lean, operator_config, operator_routes, revocation
from proxy.downstream import LAST_WORDS_S
from proxy.process import process
from proxy.upstream import Upstream

SETTLED_POLL_S = 0.02

log = structlog.get_logger()


class AlreadyServed(Exception):
    """Another gateway process uses this SQLite database; the embedded ledger allows one."""


async def run(receive: lean.Receive, send: lean.Send) -> None:
    """The lifespan protocol around `services`."""
    await receive()
    try:
        async with services():
            await send({"type": "lifespan.startup.complete"})
            process.ready = True
            await receive()
            process.ready = False
    except Exception as error:
        log.error("the gateway could not start or stop", reason=f"{type(error).__name__}: {error}", exc_info=error)
        await send({"type": "lifespan.startup.failed", "message": str(error)})
    else:
        await send({"type": "lifespan.shutdown.complete"})


@asynccontextmanager
async def services() -> AsyncIterator[None]:
    """Starts in the order in which things need each other, and stops in the reverse."""
    load_all()
    operator_routes.log_routes()
    async with AsyncExitStack() as stack:
        if not settings.ENV.database_url:
            stack.enter_context(only_process_on(settings.ENV.sqlite_path))
        stack.enter_context(given_up_when(lambda: configcache.database.is_away))
        process.upstream = Upstream(operator_config.current().timeout_s)
        stack.push_async_callback(process.upstream.close)
        book = open_ledger()
        resolved = await book.start()
        stack.push_async_callback(book.stop)
        stack.push_async_callback(all_settled)
        ledger.install(book)
        if resolved:
            log.warning("reservations of an earlier process were resolved", count=resolved)
        with suppress(DatabaseError):
            await configcache.read(durability.warn_of_unsafe_settings)
        await stack.enter_async_context(task(configcache.watch()))
        await stack.enter_async_context(task(revocation.watch()))
        if settings.CELERY_TASK_ALWAYS_EAGER:
            await stack.enter_async_context(embedded_schedule())
        yield


def load_all() -> None:
    """Django would import the views at the first request, and Celery the tasks never: its beat sends those that it does not know to
    a broker, and here there is none."""
    celery.loader.import_default_modules()
    lean.route("/health")


async def all_settled() -> None:
    """uvicorn ends what is still under way without waiting for it. A client that does not read has LAST_WORDS_S to hear why, and
    only then is its request settled."""
    for _ in range(int((LAST_WORDS_S + 1) / SETTLED_POLL_S)):
        if not exchange.under_way:
            return
        await asyncio.sleep(SETTLED_POLL_S)


def open_ledger() -> Ledger:
    """Redis serves any number of processes; SQL alone serves one."""
    env = settings.ENV
    if not env.redis_url:
        return SqlLedger(connect(exclusive=True))
    policy = Policy(
        timeout_s=env.gateway_redis_timeout_ms / 1000,
        limits_open=env.gateway_redis_down_limits == "open",
        budgets_open=env.gateway_redis_down_budgets == "open",
    )
    return RedisLedger(env.redis_url, policy)


@contextmanager
def only_process_on(database: Path) -> Iterator[None]:
    with lock_beside(database).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AlreadyServed(f"another gateway process uses {database}") from None
        lock.write(str(os.getpid()))
        yield


@asynccontextmanager
async def task(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    running = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


@asynccontextmanager
async def embedded_schedule() -> AsyncIterator[None]:
    """Celery's beat in a thread of this process, running the tasks itself: the same tasks and times as with workers."""
    service = EmbeddedService(celery, thread=True, scheduler_cls="celery.beat:Scheduler")
    service.start()
    try:
        yield
    finally:
        await asyncio.to_thread(service.stop)
