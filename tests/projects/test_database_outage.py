"""Database outages: cached keys keep working, and no valid key gets a 401.

Hung servers are detected, and the ledger recovers from commits whose reply was lost.
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import psycopg
import pytest
from django.conf import settings
from django.db import OperationalError, connection

from billing.ledger import LedgerUnavailable, SqlLedger
from billing.ledger.interface import DATABASE, REDIS
from billing.ledger.sql import sqlite
from billing.ledger.sql.connection import connect
from billing.ledger.sql.postgresql import BACKOFF_S, PostgresConnection, ServerUnresponsive
from billing.models import BudgetWindow, Reservation
from gateway_project.postgresql.base import HangDetectingConnection
from keys.models import ApiKey
from keys.tokens import Token
from projects import config_cache
from projects.config_cache import ConfigCache
from projects.db import executor
from projects.db.hang_detection import _assume_up, abort_hung_queries_if
from projects.db.health import database_health
from projects.models import Project
from proxy import errors
from tests.support.databases import postgresql_server
from tests.support.environment import ON_SERVERS
from tests.support.flaky_network import DisconnectAtCommit, FlakyProxy
from tests.support.ledger_harness import PRICE, budget, reserve_request
from tests.support.live_gateway import LiveGateway

pytestmark = pytest.mark.usefixtures("restore_database")

CHAT = {"model": "demo/chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}


original_with_reconnect = executor.with_reconnect


def database_down(*_: Any) -> None:
    raise OperationalError("connection refused")


def stale_after(seconds: float) -> None:
    settings.ENV = settings.ENV.model_copy(update={"gateway_stale_config_s": seconds})


def post(live: LiveGateway, token: str) -> httpx.Response:
    return httpx.post(f"{live.url}/v1/chat/completions", json=CHAT, headers={"x-api-key": token}, timeout=10)


def ready(live: LiveGateway) -> tuple[int, Any]:
    response = httpx.get(f"{live.url}/ready")
    return response.status_code, response.json()


def wait_for(condition: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.02)


@pytest.mark.databases
def test_a_cached_key_works_and_an_unknown_key_gets_a_503(
    live_gateway: LiveGateway, demo_project: Project
) -> None:
    (cached_key, cached), (_, unknown) = (
        ApiKey.objects.issue(demo_project, "cached"),
        ApiKey.objects.issue(demo_project, "unknown"),
    )
    assert post(live_gateway, cached).status_code == 200
    executor.with_reconnect = database_down  # type: ignore[assignment]
    assert post(live_gateway, cached).status_code == 200
    config_cache.invalidate_all()
    assert [post(live_gateway, cached).status_code for _ in range(3)] == [200] * 3, (
        "invalidated keys are served stale"
    )
    for token in (unknown, str(Token.generate())):
        response = post(live_gateway, token)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "service_unavailable")
        assert response.headers["retry-after"]
    assert post(live_gateway, str(Token(cached_key.public_id, "x" * 32))).status_code == 401, (
        "the key id is cached, so the secret is known to be wrong"
    )
    wait_for(lambda: ready(live_gateway) == (200, {"status": "ready", "degraded": ["database"]}))
    executor.with_reconnect = original_with_reconnect
    wait_for(lambda: ready(live_gateway) == (200, {"status": "ready"}))
    assert post(live_gateway, unknown).status_code == 200


@pytest.mark.databases
def test_cached_keys_expire_during_an_outage(live_gateway: LiveGateway, demo_project: Project) -> None:
    _, token = ApiKey.objects.issue(demo_project, "app")
    assert post(live_gateway, token).status_code == 200
    stale_after(4)
    executor.with_reconnect = database_down  # type: ignore[assignment]
    assert post(live_gateway, token).status_code == 200
    wait_for(lambda: post(live_gateway, token).status_code == 503, seconds=15)
    executor.with_reconnect = original_with_reconnect
    wait_for(lambda: post(live_gateway, token).status_code == 200)


@pytest.mark.databases
def test_hung_database_does_not_affect_cached_keys(
    live_gateway: LiveGateway, demo_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = threading.Event()
    monkeypatch.setattr(config_cache, "POLL_TIMEOUT_S", 0.2)
    monkeypatch.setattr(executor, "QUERY_TIMEOUT_S", 0.5)
    _, token = ApiKey.objects.issue(demo_project, "app")
    assert post(live_gateway, token).status_code == 200
    executor.with_reconnect = lambda query, *args: back.wait(20) and original_with_reconnect(query, *args)  # type: ignore[assignment]
    wait_for(lambda: database_health.is_down)
    config_cache.invalidate_all()
    started = time.monotonic()
    assert post(live_gateway, token).status_code == 200 and time.monotonic() - started < 2
    assert post(live_gateway, str(Token.generate())).status_code == 503
    back.set()
    wait_for(lambda: not database_health.is_down)


@pytest.mark.databases
def test_error_names_the_unavailable_component() -> None:
    def message(component: str | None) -> str:
        failure = LedgerUnavailable("FATAL: password of db-7.internal", component=component)
        return errors.from_exception(failure).api_error.message

    database = "The gateway's database does not answer. Try again in a moment."
    assert message(DATABASE) == database
    assert errors.from_exception(OperationalError("refused")).api_error.message == database
    store = "The store of the gateway's budgets and limits does not answer. Try again in a moment."
    assert message(REDIS) == store
    assert message(None) == "The gateway is still restoring its budgets. Try again in a moment."


@pytest.mark.databases
@pytest.mark.skipif(not ON_SERVERS, reason="needs PostgreSQL")
async def test_a_reservation_with_a_lost_reply_is_released(flaky_proxy: FlakyProxy, key: ApiKey) -> None:
    database = connection.settings_dict
    address = {
        "dbname": database["NAME"],
        "user": database["USER"],
        "host": "127.0.0.1",
        "port": flaky_proxy.port,
        "connect_timeout": 2,
    }
    network = DisconnectAtCommit(exclusive=True, query_timeout_s=0.3, **address)
    ledger = SqlLedger(network)
    await ledger.start()
    limit = await budget(key, 3)
    network.proxy_to_cut = flaky_proxy
    request = reserve_request(key, limit)
    started = time.monotonic()
    with pytest.raises(LedgerUnavailable):
        await ledger.reserve(request)
    assert time.monotonic() - started < 3
    with pytest.raises(LedgerUnavailable):
        await ledger.reserve(reserve_request(key, limit))
    flaky_proxy.is_swallowing = False
    await asyncio.sleep(BACKOFF_S)
    await ledger.flush_retries()
    flaky_proxy.flush_swallowed()
    await asyncio.sleep(0.2)
    reservation = await ledger.reserve(other := reserve_request(key, limit))
    assert await Reservation.objects.acount() == 1
    assert (await BudgetWindow.objects.aget()).reserved_nano == PRICE
    await ledger.release(reservation, other.estimate)
    await ledger.stop()


@pytest.mark.databases
@pytest.mark.skipif(not ON_SERVERS, reason="needs PostgreSQL")
def test_a_page_waits_for_a_slow_statement_but_not_a_hung_server() -> None:
    settings.ENV = settings.ENV.model_copy(update={"gateway_database_timeout_s": 0.3})
    is_down = False
    with (
        postgresql_server() as server,
        HangDetectingConnection.connect(server.url, autocommit=True) as conn,
        abort_hung_queries_if(lambda: is_down),
    ):
        assert conn.execute("SELECT 1 FROM pg_sleep(1)").fetchall() == [(1,)]
        server.pause()
        resume = threading.Timer(5, server.resume)
        resume.start()
        is_down, started = True, time.monotonic()
        with pytest.raises(psycopg.OperationalError):
            conn.execute("SELECT 1")
        assert time.monotonic() - started < 4
        resume.cancel()
        server.resume()


@pytest.mark.databases
@pytest.mark.skipif(not ON_SERVERS, reason="needs PostgreSQL")
async def test_ledger_waits_for_a_slow_statement_of_a_live_server(transactional_db: None) -> None:
    database = connection.settings_dict
    address = {
        "dbname": database["NAME"],
        "user": database["USER"],
        "host": database["HOST"],
        "port": database["PORT"],
    }
    ledgers = PostgresConnection(query_timeout_s=0.1, is_down=_assume_up, **address)
    await ledgers.begin()
    assert await ledgers.run("SELECT 1 FROM pg_sleep(%s)", (0.5,)) == [(1,)]
    await ledgers.close()


@pytest.mark.skipif(ON_SERVERS, reason="needs SQLite")
async def test_sqlite_lock_does_not_queue_waiters(
    transactional_db: None, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.3)
    ledger = SqlLedger(connect())
    writer = sqlite3.connect(str(connection.settings_dict["NAME"]), isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    errors_raised = await asyncio.gather(
        *(ledger.reserve(reserve_request(key)) for _ in range(20)), return_exceptions=True
    )
    assert {type(error) for error in errors_raised} == {LedgerUnavailable}
    assert time.monotonic() - started < 3
    writer.close()
    await ledger.stop()


@pytest.mark.databases
@pytest.mark.skipif(not ON_SERVERS, reason="needs PostgreSQL")
async def test_a_closed_connection_fails_no_request(transactional_db: None, key: ApiKey) -> None:
    """A restart of PostgreSQL closes all connections."""
    ledger = SqlLedger(connect())
    await ledger.release(await ledger.reserve(warm := reserve_request(key)), warm.estimate)
    assert isinstance(ledger.connection, PostgresConnection) and ledger.connection.connection is not None
    with psycopg.connect(ledger.connection.connection.info.dsn, autocommit=True) as server:
        server.execute(
            "SELECT pg_terminate_backend(%s, 5000)", [ledger.connection.connection.info.backend_pid]
        )
    await ledger.release(await ledger.reserve(request := reserve_request(key)), request.estimate)
    await ledger.stop()


@pytest.mark.databases
@pytest.mark.skipif(not ON_SERVERS, reason="needs PostgreSQL")
async def test_queued_statement_fails_fast_behind_a_hung_one() -> None:
    with postgresql_server() as server:
        conn = PostgresConnection(query_timeout_s=0.9, conninfo=server.url)
        await conn.begin()
        server.pause()
        with pytest.raises(ServerUnresponsive):
            await conn.run("SELECT 1")
        started = time.monotonic()
        with pytest.raises(ServerUnresponsive):
            await conn.begin()
        assert time.monotonic() - started < 0.8
        server.resume()
        await conn.close()


@pytest.mark.databases
@pytest.mark.skipif(not ON_SERVERS, reason="needs PostgreSQL")
def test_a_large_statement_may_be_sent_slowly() -> None:
    settings.ENV = settings.ENV.model_copy(update={"gateway_database_timeout_s": 0.2})
    with postgresql_server() as server, HangDetectingConnection.connect(server.url, autocommit=True) as conn:
        server.pause()
        threading.Timer(1, server.resume).start()
        assert conn.execute("SELECT length(%s)", ("x" * 50_000_000,)).fetchall() == [(50_000_000,)]


async def test_invalidated_value_is_reloaded(
    value_cache: ConfigCache[str, str], stored_values: dict[str, str]
) -> None:
    assert await value_cache.get("a") == "1"
    stored_values["a"] = "2"
    assert await value_cache.get("a") == "1"
    value_cache.invalidate()
    assert await value_cache.get("a") == "2"


async def test_deleted_value_is_not_served_stale(
    value_cache: ConfigCache[str, str], stored_values: dict[str, str]
) -> None:
    await value_cache.get("a")
    del stored_values["a"]
    value_cache.invalidate()
    with pytest.raises(LookupError):
        await value_cache.get("a")
    executor.with_reconnect = database_down  # type: ignore[assignment]
    with pytest.raises(OperationalError):
        await value_cache.get("a")


async def test_only_recent_values_are_served_stale(value_cache: ConfigCache[str, str]) -> None:
    await value_cache.get("a")
    value_cache.invalidate()
    value_cache.invalidate()
    executor.with_reconnect = database_down  # type: ignore[assignment]
    assert await value_cache.get("a") == "1"
    stale_after(-1)
    with pytest.raises(OperationalError):
        await value_cache.get("a")
    value_cache.invalidate()
    assert not value_cache.stale


async def test_stale_value_is_served_sooner_than_a_missing_one(
    value_cache: ConfigCache[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outage is not certain yet."""
    back = threading.Event()
    monkeypatch.setattr(config_cache, "POLL_TIMEOUT_S", 0.1)
    await value_cache.get("a")
    value_cache.invalidate()
    executor.with_reconnect = lambda *_: back.wait(5)  # type: ignore[assignment]
    started = time.monotonic()
    assert await value_cache.get("a") == "1" and time.monotonic() - started < 3
    back.set()


async def test_value_read_during_invalidation_is_served_stale_later() -> None:
    reading, may_finish = threading.Event(), threading.Event()

    def load(key: str) -> str:
        reading.set()
        assert may_finish.wait(5)
        return key.upper()

    cache = config_cache.ConfigCache(load)
    task = asyncio.create_task(cache.get("a"))
    await asyncio.to_thread(reading.wait, 5)
    cache.invalidate()
    may_finish.set()
    assert await task == "A" and "a" not in cache
    assert cache.get_stale("a") == "A"
