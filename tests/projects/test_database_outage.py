"""While the database is away, keys that were seen lately keep working from memory, and nobody is told that their key is wrong."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import psycopg
import pytest
import redis
from django.conf import settings
from django.db import OperationalError, connection

from billing.ledger import LedgerUnavailable, SqlLedger
from billing.ledger.redis.client.connection import RedisUnavailable
from billing.ledger.sql import connection as session
from billing.ledger.sql.connection import BACKOFF_S, PostgresConnection, ServerUnresponsive, connect
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
    answer = httpx.get(f"{live.url}/ready")
    return answer.status_code, answer.json()


def wait_for(condition: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


@pytest.mark.databases
def test_a_key_seen_lately_works_and_an_unknown_one_is_a_503(
    live_gateway: LiveGateway, demo_project: Project
) -> None:
    (known, seen), (_, unseen) = (
        ApiKey.objects.issue(demo_project, "seen"),
        ApiKey.objects.issue(demo_project, "unseen"),
    )
    assert post(live_gateway, seen).status_code == 200
    executor.with_reconnect = database_down  # type: ignore[assignment]
    assert post(live_gateway, seen).status_code == 200
    config_cache.invalidate_all()
    assert [post(live_gateway, seen).status_code for _ in range(3)] == [200] * 3, (
        "what was dropped is remembered"
    )
    for token in (unseen, str(Token.generate())):
        answer = post(live_gateway, token)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "service_unavailable")
        assert answer.headers["retry-after"]
    assert post(live_gateway, str(Token(known.public_id, "x" * 32))).status_code == 401, (
        "it is known to be wrong"
    )
    wait_for(lambda: ready(live_gateway) == (200, {"status": "ready", "degraded": ["database"]}))
    executor.with_reconnect = original_with_reconnect
    wait_for(lambda: ready(live_gateway) == (200, {"status": "ready"}))
    assert post(live_gateway, unseen).status_code == 200


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
    assert post(live_gateway, token).status_code == 200 and time.monotonic() - started < 0.4
    assert post(live_gateway, str(Token.generate())).status_code == 503
    back.set()
    wait_for(lambda: not database_health.is_down)


@pytest.mark.databases
def test_error_names_the_unavailable_component() -> None:
    def told(cause: Exception | None) -> str:
        failure = LedgerUnavailable("FATAL: password of db-7.internal")
        failure.__cause__ = cause
        return errors.from_exception(failure).api_error.message

    database = "The gateway's database does not answer. Try again in a moment."
    assert told(psycopg.OperationalError("refused")) == told(sqlite3.OperationalError("locked")) == database
    assert errors.from_exception(OperationalError("refused")).api_error.message == database
    store = "The store of the gateway's budgets and limits does not answer. Try again in a moment."
    assert told(RedisUnavailable("no answer")) == told(redis.ConnectionError("refused")) == store
    assert told(None) == "The gateway's budgets are being brought up to date. Try again in a moment."


@pytest.mark.databases
@pytest.mark.skipif(not ON_SERVERS, reason="needs PostgreSQL")
async def test_a_reservation_that_is_committed_unseen_is_given_back(
    flaky_proxy: FlakyProxy, key: ApiKey
) -> None:
    given = connection.settings_dict
    address = {
        "dbname": given["NAME"],
        "user": given["USER"],
        "host": "127.0.0.1",
        "port": flaky_proxy.outside,
        "connect_timeout": 2,
    }
    network = DisconnectAtCommit(exclusive=True, query_timeout_s=0.3, **address)
    ledger = SqlLedger(network)
    await ledger.start()
    terms = await budget(key, 3)
    network.proxy_to_cut = flaky_proxy
    wanted = reserve_request(key, terms)
    begun = time.monotonic()
    with pytest.raises(LedgerUnavailable):
        await ledger.reserve(wanted)
    assert time.monotonic() - begun < 1
    with pytest.raises(LedgerUnavailable):
        await ledger.reserve(reserve_request(key, terms))
    flaky_proxy.is_swallowing = False
    await asyncio.sleep(BACKOFF_S)
    await ledger.flush_retries()
    flaky_proxy.flush_swallowed()
    await asyncio.sleep(0.2)
    held = await ledger.reserve(other := reserve_request(key, terms))
    assert await Reservation.objects.acount() == 1
    assert (await BudgetWindow.objects.aget()).reserved_nano == PRICE
    await ledger.release(held, other.estimate)
    await ledger.stop()


@pytest.mark.databases
@pytest.mark.skipif(not ON_SERVERS, reason="needs PostgreSQL")
def test_a_page_waits_for_a_slow_statement_and_not_for_a_server_that_hangs() -> None:
    settings.ENV = settings.ENV.model_copy(update={"gateway_database_timeout_s": 0.3})
    is_away = False
    with (
        postgresql_server() as server,
        HangDetectingConnection.connect(server.url, autocommit=True) as line,
        abort_hung_queries_if(lambda: is_away),
    ):
        assert line.execute("SELECT 1 FROM pg_sleep(1)").fetchall() == [(1,)]
        server.pause()
        threading.Timer(1, server.resume).start()
        is_away, begun = True, time.monotonic()
        with pytest.raises(psycopg.OperationalError):
            line.execute("SELECT 1")
        assert time.monotonic() - begun < 0.8
        time.sleep(1)


@pytest.mark.databases
@pytest.mark.skipif(not ON_SERVERS, reason="needs PostgreSQL")
async def test_ledger_waits_for_a_slow_statement_of_a_live_server(transactional_db: None) -> None:
    given = connection.settings_dict
    address = {"dbname": given["NAME"], "user": given["USER"], "host": given["HOST"], "port": given["PORT"]}
    ledgers = PostgresConnection(query_timeout_s=0.1, is_down=_assume_up, **address)
    await ledgers.begin()
    assert await ledgers.run("SELECT 1 FROM pg_sleep(%s)", (0.5,)) == [(1,)]
    await ledgers.close()


@pytest.mark.skipif(ON_SERVERS, reason="needs SQLite")
async def test_sqlite_lock_does_not_queue_waiters(
    transactional_db: None, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "BUSY_TIMEOUT_S", 0.3)
    ledger = SqlLedger(connect())
    writer = sqlite3.connect(str(connection.settings_dict["NAME"]), isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    begun = time.monotonic()
    refusals = await asyncio.gather(
        *(ledger.reserve(reserve_request(key)) for _ in range(20)), return_exceptions=True
    )
    assert {type(refusal) for refusal in refusals} == {LedgerUnavailable}
    assert time.monotonic() - begun < 3 * 0.3
    writer.close()
    await ledger.stop()


@pytest.mark.databases
@pytest.mark.skipif(not ON_SERVERS, reason="needs PostgreSQL")
async def test_a_connection_that_the_server_has_ended_costs_no_request(
    transactional_db: None, key: ApiKey
) -> None:
    """As after a restart of PostgreSQL."""
    ledger = SqlLedger(connect())
    await ledger.release(await ledger.reserve(warm := reserve_request(key)), warm.estimate)
    assert isinstance(ledger.connection, PostgresConnection) and ledger.connection.connection is not None
    with psycopg.connect(ledger.connection.connection.info.dsn, autocommit=True) as server:
        server.execute(
            "SELECT pg_terminate_backend(%s, 5000)", [ledger.connection.connection.info.backend_pid]
        )
    await ledger.release(await ledger.reserve(wanted := reserve_request(key)), wanted.estimate)
    await ledger.stop()


@pytest.mark.databases
@pytest.mark.skipif(not ON_SERVERS, reason="needs PostgreSQL")
async def test_queued_statement_fails_fast_behind_a_hung_one() -> None:
    with postgresql_server() as server:
        line = PostgresConnection(query_timeout_s=0.3, conninfo=server.url)
        await line.begin()
        server.pause()
        with pytest.raises(ServerUnresponsive):
            await line.run("SELECT 1")
        begun = time.monotonic()
        with pytest.raises(ServerUnresponsive):
            await line.begin()
        assert time.monotonic() - begun < 0.2
        server.resume()
        await line.close()


@pytest.mark.databases
@pytest.mark.skipif(not ON_SERVERS, reason="needs PostgreSQL")
def test_a_large_statement_may_be_sent_slowly() -> None:
    settings.ENV = settings.ENV.model_copy(update={"gateway_database_timeout_s": 0.2})
    with postgresql_server() as server, HangDetectingConnection.connect(server.url, autocommit=True) as line:
        server.pause()
        threading.Timer(1, server.resume).start()
        assert line.execute("SELECT length(%s)", ("x" * 50_000_000,)).fetchall() == [(50_000_000,)]


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
    """Before it is clear that the database is away."""
    back = threading.Event()
    monkeypatch.setattr(config_cache, "POLL_TIMEOUT_S", 0.1)
    await value_cache.get("a")
    value_cache.invalidate()
    executor.with_reconnect = lambda *_: back.wait(5)  # type: ignore[assignment]
    begun = time.monotonic()
    assert await value_cache.get("a") == "1" and time.monotonic() - begun < 1
    back.set()


async def test_value_read_during_invalidation_is_served_stale_later() -> None:
    reading, go_on = threading.Event(), threading.Event()

    def load(key: str) -> str:
        reading.set()
        assert go_on.wait(5)
        return key.upper()

    cache = config_cache.ConfigCache(load)
    asking = asyncio.create_task(cache.get("a"))
    await asyncio.to_thread(reading.wait, 5)
    cache.invalidate()
    go_on.set()
    assert await asking == "A" and "a" not in cache
    assert cache.get_stale("a") == "A"
