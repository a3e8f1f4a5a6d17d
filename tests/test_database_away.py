"""While the database is away, keys that were seen lately keep working from memory, and nobody is told that their key is wrong."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest
import redis
from django.conf import settings
from django.db import OperationalError, connection

from billing.ledger import LedgerUnavailable, SqlLedger, session
from billing.ledger.redis.connection import StoreUnavailable
from billing.ledger.session import PAUSE_S, PostgresConnection, Silent, connect
from billing.models import BudgetWindow, Reservation
from gateway_project.postgresql.base import Line
from keys.models import ApiKey
from keys.tokens import Token
from projects import configcache
from projects.configcache import ConfigCache, database
from projects.models import Project
from projects.patience import given_up_when, never
from proxy import errors
from tests.environment import ON_SERVERS
from tests.ledgers import PRICE, budget, demand
from tests.live import LiveGateway
from tests.services import postgresql_server

CHAT = {"model": "demo/chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
really_run = configcache.run


def away(*_: Any) -> None:
    raise OperationalError("connection refused")


@pytest.fixture(autouse=True)
def database_comes_back() -> Iterator[None]:
    before = settings.ENV
    yield
    settings.ENV = before
    configcache.run = really_run
    database.is_away = False


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
def test_a_key_seen_lately_works_and_an_unknown_one_is_a_503(live_gateway: LiveGateway, demo_project: Project) -> None:
    (known, seen), (_, unseen) = ApiKey.objects.mint(demo_project, "seen"), ApiKey.objects.mint(demo_project, "unseen")
    assert post(live_gateway, seen).status_code == 200
    configcache.run = away  # type: ignore[assignment]
    assert post(live_gateway, seen).status_code == 200
    configcache.drop_all()
    assert [post(live_gateway, seen).status_code for _ in range(3)] == [200] * 3, "what was dropped is remembered"
    for token in (unseen, str(Token.mint())):
        answer = post(live_gateway, token)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "service_unavailable")
        assert answer.headers["retry-after"]
    assert post(live_gateway, str(Token(known.public_id, "x" * 32))).status_code == 401, "it is known to be wrong"
    wait_for(lambda: ready(live_gateway) == (200, {"status": "ready", "degraded": ["database"]}))
    configcache.run = really_run
    wait_for(lambda: ready(live_gateway) == (200, {"status": "ready"}))
    assert post(live_gateway, unseen).status_code == 200


@pytest.mark.databases
def test_after_a_while_nothing_is_served_from_memory(live_gateway: LiveGateway, demo_project: Project) -> None:
    _, token = ApiKey.objects.mint(demo_project, "app")
    assert post(live_gateway, token).status_code == 200
    stale_after(4)
    configcache.run = away  # type: ignore[assignment]
    assert post(live_gateway, token).status_code == 200
    wait_for(lambda: post(live_gateway, token).status_code == 503, seconds=15)
    configcache.run = really_run
    wait_for(lambda: post(live_gateway, token).status_code == 200)


@pytest.mark.databases
def test_a_database_that_says_nothing_keeps_known_keys_from_nothing(
    live_gateway: LiveGateway, demo_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = threading.Event()
    monkeypatch.setattr(configcache, "POLL_TIMEOUT_S", 0.2)
    monkeypatch.setattr(configcache, "READ_TIMEOUT_S", 0.5)
    _, token = ApiKey.objects.mint(demo_project, "app")
    assert post(live_gateway, token).status_code == 200
    configcache.run = lambda query, *args: back.wait(20) and really_run(query, *args)  # type: ignore[assignment]
    wait_for(lambda: database.is_away)
    configcache.drop_all()
    started = time.monotonic()
    assert post(live_gateway, token).status_code == 200 and time.monotonic() - started < 0.4
    assert post(live_gateway, str(Token.mint())).status_code == 503
    back.set()
    wait_for(lambda: not database.is_away)


@pytest.mark.databases
def test_what_a_refused_request_is_told_is_what_is_missing() -> None:
    def told(cause: Exception | None) -> str:
        failure = LedgerUnavailable("FATAL: password of db-7.internal")
        failure.__cause__ = cause
        return errors.of(failure).failure.message

    database = "The gateway's database does not answer. Try again in a moment."
    assert told(psycopg.OperationalError("refused")) == told(sqlite3.OperationalError("locked")) == database
    assert errors.of(OperationalError("refused")).failure.message == database
    store = "The store of the gateway's budgets and limits does not answer. Try again in a moment."
    assert told(StoreUnavailable("no answer")) == told(redis.ConnectionError("refused")) == store
    assert told(None) == "The gateway's budgets are being brought up to date. Try again in a moment."


class Cut:
    """A network before PostgreSQL that can swallow what it is given, and deliver it much later."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.outside = 0
        self.swallows = False
        self.swallowed: list[tuple[asyncio.StreamWriter, bytes]] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection(self.host, self.port)
        self.writers += [writer, back_writer]
        self.tasks += [asyncio.create_task(self.carry(reader, back_writer)), asyncio.create_task(self.carry(back_reader, writer))]

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The end of a connection that was cut does not arrive either."""
        lost = False
        while data := await reader.read(65536):
            lost = lost or self.swallows
            if lost:
                self.swallowed.append((writer, data))
            else:
                writer.write(data)

    def deliver(self) -> None:
        for writer, data in self.swallowed:
            writer.write(data)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for writer in self.writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self.writers), return_exceptions=True)


class CutAtCommit(PostgresConnection):
    """The network swallows everything from a COMMIT on, if it is told to."""

    cut: Cut | None = None

    async def commit(self) -> None:
        if self.cut is not None:
            self.cut.swallows, self.cut = True, None
        await super().commit()


@pytest.fixture
async def cut(transactional_db: None) -> AsyncIterator[Cut]:
    given = connection.settings_dict
    cut = Cut(given["HOST"], int(given["PORT"]))
    async with await asyncio.start_server(cut.accept, "127.0.0.1", 0) as server:
        cut.outside = server.sockets[0].getsockname()[1]
        yield cut
        await cut.close()


@pytest.mark.databases
@pytest.mark.skipif(not ON_SERVERS, reason="needs PostgreSQL")
async def test_a_reservation_that_is_committed_unseen_is_given_back(cut: Cut, key: ApiKey) -> None:
    given = connection.settings_dict
    address = {"dbname": given["NAME"], "user": given["USER"], "host": "127.0.0.1", "port": cut.outside, "connect_timeout": 2}
    network = CutAtCommit(exclusive=True, patience_s=0.3, **address)
    ledger = SqlLedger(network)
    await ledger.start()
    terms = await budget(key, 3)
    network.cut = cut
    wanted = demand(key, terms)
    begun = time.monotonic()
    with pytest.raises(LedgerUnavailable):
        await ledger.reserve(wanted)
    assert time.monotonic() - begun < 1
    with pytest.raises(LedgerUnavailable):
        await ledger.reserve(demand(key, terms))
    cut.swallows = False
    await asyncio.sleep(PAUSE_S)
    await ledger.write_owed()
    cut.deliver()
    await asyncio.sleep(0.2)
    held = await ledger.reserve(other := demand(key, terms))
    assert await Reservation.objects.acount() == 1
    assert (await BudgetWindow.objects.aget()).reserved_nano == PRICE
    await ledger.release(held, other.draft)
    await ledger.stop()


@pytest.mark.databases
@pytest.mark.skipif(not ON_SERVERS, reason="needs PostgreSQL")
def test_a_page_waits_for_a_slow_statement_and_not_for_a_server_that_hangs() -> None:
    settings.ENV = settings.ENV.model_copy(update={"gateway_database_timeout_s": 0.3})
    is_away = False
    with postgresql_server() as server, Line.connect(server.url, autocommit=True) as line, given_up_when(lambda: is_away):
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
async def test_the_ledger_waits_for_a_slow_statement_of_a_server_that_answers_others(transactional_db: None) -> None:
    given = connection.settings_dict
    address = {"dbname": given["NAME"], "user": given["USER"], "host": given["HOST"], "port": given["PORT"]}
    ledgers = PostgresConnection(patience_s=0.1, is_away=never, **address)
    await ledgers.begin()
    assert await ledgers.run("SELECT 1 FROM pg_sleep(%s)", (0.5,)) == [(1,)]
    await ledgers.close()


@pytest.mark.skipif(ON_SERVERS, reason="needs SQLite")
async def test_while_another_writer_keeps_sqlite_nobody_waits_for_those_before_him(
    transactional_db: None, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "BUSY_S", 0.3)
    ledger = SqlLedger(connect())
    writer = sqlite3.connect(str(connection.settings_dict["NAME"]), isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    begun = time.monotonic()
    refusals = await asyncio.gather(*(ledger.reserve(demand(key)) for _ in range(20)), return_exceptions=True)
    assert {type(refusal) for refusal in refusals} == {LedgerUnavailable}
    assert time.monotonic() - begun < 3 * 0.3
    writer.close()
    await ledger.stop()


@pytest.mark.databases
@pytest.mark.skipif(not ON_SERVERS, reason="needs PostgreSQL")
async def test_a_connection_that_the_server_has_ended_costs_no_request(transactional_db: None, key: ApiKey) -> None:
    """As after a restart of PostgreSQL."""
    ledger = SqlLedger(connect())
    await ledger.release(await ledger.reserve(warm := demand(key)), warm.draft)
    assert isinstance(ledger.connection, PostgresConnection) and ledger.connection.connection is not None
    with psycopg.connect(ledger.connection.connection.info.dsn, autocommit=True) as server:
        server.execute("SELECT pg_terminate_backend(%s, 5000)", [ledger.connection.connection.info.backend_pid])
    await ledger.release(await ledger.reserve(wanted := demand(key)), wanted.draft)
    await ledger.stop()


@pytest.mark.databases
@pytest.mark.skipif(not ON_SERVERS, reason="needs PostgreSQL")
async def test_who_stands_in_line_behind_a_statement_without_an_answer_is_told_at_once() -> None:
    with postgresql_server() as server:
        line = PostgresConnection(patience_s=0.3, conninfo=server.url)
        await line.begin()
        server.pause()
        with pytest.raises(Silent):
            await line.run("SELECT 1")
        begun = time.monotonic()
        with pytest.raises(Silent):
            await line.begin()
        assert time.monotonic() - begun < 0.2
        server.resume()
        await line.close()


@pytest.mark.databases
@pytest.mark.skipif(not ON_SERVERS, reason="needs PostgreSQL")
def test_a_large_statement_may_be_sent_slowly() -> None:
    settings.ENV = settings.ENV.model_copy(update={"gateway_database_timeout_s": 0.2})
    with postgresql_server() as server, Line.connect(server.url, autocommit=True) as line:
        server.pause()
        threading.Timer(1, server.resume).start()
        assert line.execute("SELECT length(%s)", ("x" * 50_000_000,)).fetchall() == [(50_000_000,)]


@pytest.fixture
def rows() -> dict[str, str]:
    return {"a": "1"}


@pytest.fixture
def cache(rows: dict[str, str]) -> ConfigCache[str, str]:
    return ConfigCache(rows.__getitem__)


async def test_what_was_dropped_is_read_again_while_the_database_answers(cache: ConfigCache[str, str], rows: dict[str, str]) -> None:
    assert await cache.get("a") == "1"
    rows["a"] = "2"
    assert await cache.get("a") == "1"
    cache.drop()
    assert await cache.get("a") == "2"


async def test_what_is_gone_does_not_come_back_when_the_database_goes_away(cache: ConfigCache[str, str], rows: dict[str, str]) -> None:
    await cache.get("a")
    del rows["a"]
    cache.drop()
    with pytest.raises(LookupError):
        await cache.get("a")
    configcache.run = away  # type: ignore[assignment]
    with pytest.raises(OperationalError):
        await cache.get("a")


async def test_only_what_was_known_lately_is_remembered(cache: ConfigCache[str, str]) -> None:
    await cache.get("a")
    cache.drop()
    cache.drop()
    configcache.run = away  # type: ignore[assignment]
    assert await cache.get("a") == "1"
    stale_after(-1)
    with pytest.raises(OperationalError):
        await cache.get("a")
    cache.drop()
    assert not cache.dropped


async def test_what_was_known_is_not_waited_for_as_long_as_what_was_not(
    cache: ConfigCache[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is clear that the database is away."""
    back = threading.Event()
    monkeypatch.setattr(configcache, "POLL_TIMEOUT_S", 0.1)
    await cache.get("a")
    cache.drop()
    configcache.run = lambda *_: back.wait(5)  # type: ignore[assignment]
    begun = time.monotonic()
    assert await cache.get("a") == "1" and time.monotonic() - begun < 1
    back.set()


async def test_a_value_that_is_read_while_all_are_dropped_is_known_when_the_database_goes_away() -> None:
    reading, go_on = threading.Event(), threading.Event()

    def load(key: str) -> str:
        reading.set()
        assert go_on.wait(5)
        return key.upper()

    cache = configcache.ConfigCache(load)
    asking = asyncio.create_task(cache.get("a"))
    await asyncio.to_thread(reading.wait, 5)
    cache.drop()
    go_on.set()
    assert await asking == "A" and not cache.holds("a")
    assert cache.recall("a") == "A"
