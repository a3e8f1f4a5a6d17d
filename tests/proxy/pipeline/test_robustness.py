"""Faults that must not lose a record, leave a reservation open, or block other requests."""

import asyncio
import json
import socket
import sqlite3
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from asgiref.sync import sync_to_async
from django.conf import settings
from prometheus_client import REGISTRY

from billing.ledger import LedgerUnavailable, ReservationGrant, SqlLedger, UsageEntry
from billing.ledger.interface import MAX_RESERVATION_NANO
from billing.ledger.sql import transactions
from billing.ledger.sql.connection import connect
from billing.ledger.sql.sqlite import SqliteConnection
from billing.ledger.sql.transactions import Executor
from billing.models import Budget, BudgetWindow, Mode, Outcome, Period, UsageRecord
from billing.models import Reservation as StoredReservation
from keys.authentication import Principal
from keys.models import ApiKey
from projects import config_cache
from projects.ids import uuid7
from projects.models import Project
from proxy.endpoints.generate import chat_completions
from proxy.endpoints.models import openai_model_list
from proxy.http.asgi import ASGIMessage, Receive, Scope
from proxy.http.handler import GatewayView
from proxy.http.request import GatewayRequest
from proxy.http.responses import AsgiWriter
from proxy.models import Credential
from proxy.pipeline.authenticate import in_flight
from proxy.providers.catalog import PROVIDERS
from proxy.routing import resolve
from proxy.routing.routes.table import RoutingTable
from tests.support.environment import ON_SERVERS
from tests.support.gateway_server import GatewayProcess
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import LocalUpstream

pytestmark = pytest.mark.databases

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50}


@pytest.mark.parametrize("model", ["local/a\u0000b", "gpt\n4", "a\u2028b"])
def test_a_model_name_with_control_characters_is_rejected(
    gateway: httpx.Client, upstream: LocalUpstream, model: str
) -> None:
    response = gateway.post("/v1/chat/completions", json={**CHAT, "model": model})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "model")
    assert only_record().outcome == Outcome.INVALID_REQUEST and not upstream.requests


@pytest.mark.parametrize("status", [101, 204, 302, 304])
def test_unexpected_upstream_status_is_a_502(
    gateway: httpx.Client, upstream: LocalUpstream, status: int
) -> None:
    async def odd(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=status)

    upstream.handler = odd
    assert gateway.post("/v1/chat/completions", json=CHAT).status_code == 502
    assert only_record().status_code == 502


def test_an_interrupted_response_is_charged_as_an_estimate(
    gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    async def broken(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/json", "content-length": "1000"})
        await response.prepare(request)
        await response.write(b'{"choices": [')
        assert request.transport is not None
        request.transport.abort()
        return response

    upstream.handler = broken
    assert gateway.post("/v1/chat/completions", json=CHAT).status_code == 502
    record = only_record()
    assert record.estimated and record.cost_nano > 0


def test_a_key_that_is_deleted_during_a_stream_is_still_charged(
    gateway: httpx.Client, demo_project: Project
) -> None:
    key, token = ApiKey.objects.issue(demo_project, "short-lived")
    demo_project.budgets.create(period="day", limit_nano=10**9)
    body = {**CHAT, "model": "demo/chat", "stream": True, "max_tokens": 30}
    with gateway.stream(
        "POST", "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {token}"}
    ) as response:
        parts = response.iter_raw()
        next(parts)
        key.delete()
        ending = b"".join(parts)
        assert b"[DONE]" in ending or b"invalid_api_key" in ending, "it may be cut before its end"
    assert only_record().cost_nano > 2000
    assert not StoredReservation.objects.exists()


def test_a_request_whose_key_is_deleted_during_it_is_recorded(
    live_gateway: LiveGateway, demo_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, token = ApiKey.objects.issue(demo_project, "short-lived")
    look_up = resolve.routing_table

    async def slowly(principal: Principal) -> RoutingTable:
        found = await look_up(principal)
        await asyncio.to_thread(ApiKey.objects.filter(pk=key.pk).delete)
        config_cache.invalidate_all()
        return found

    monkeypatch.setattr(resolve, "routing_table", slowly)
    response = httpx.get(f"{live_gateway.url}/v1/models", headers={"x-api-key": token})
    assert response.status_code == 200
    assert only_record().operation == "models"


async def respond(view: GatewayView, scope: Scope, receive: Receive, sent: list[ASGIMessage]) -> None:
    """Run a view, and collect the messages that it sends."""

    async def send(message: ASGIMessage) -> None:
        sent.append(message)

    await view(GatewayRequest(scope, receive), AsgiWriter(send))


async def test_a_request_cancelled_before_its_body_arrived_is_recorded(
    ledger: SqlLedger, demo_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("billing.ledger._current", [ledger])
    _, token = await sync_to_async(ApiKey.objects.issue)(demo_project, "app")

    request_arrived = asyncio.Event()

    async def never() -> ASGIMessage:
        request_arrived.set()
        return await asyncio.Future()

    headers = [(b"authorization", f"Bearer {token}".encode())]
    scope = {
        "path": "/v1/chat/completions",
        "method": "POST",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
    }
    sent: list[ASGIMessage] = []
    answering = asyncio.create_task(respond(chat_completions, scope, never, sent))
    async with asyncio.timeout(5):
        await request_arrived.wait()
    answering.cancel()
    await answering
    start, body = sent
    answered, error = dict(start["headers"]), json.loads(body["body"])["error"]
    assert start["status"] == 503 and error["code"] == "service_unavailable"
    assert answered[b"retry-after"] and answered[b"x-request-id"].decode() == error["request_id"]
    record = await UsageRecord.objects.aget()
    assert (record.outcome, record.status_code, record.error) == (
        Outcome.UNAVAILABLE,
        503,
        "service_unavailable",
    )
    assert not in_flight


async def test_cancellation_while_recording_changes_no_response(
    ledger: SqlLedger, demo_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("billing.ledger._current", [ledger])
    _, token = await sync_to_async(ApiKey.objects.issue)(demo_project, "app")
    recording, begin = asyncio.Event(), ledger.connection.begin

    async def slow() -> None:
        recording.set()
        await asyncio.sleep(0.05)
        await begin()

    monkeypatch.setattr(ledger.connection, "begin", slow)
    headers = [(b"authorization", f"Bearer {token}".encode())]
    scope = {
        "path": "/v1/models",
        "method": "GET",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
    }
    before = REGISTRY.get_sample_value("gateway_outcomes_total", {"outcome": "ok"}) or 0
    sent: list[ASGIMessage] = []
    answering = asyncio.create_task(respond(openai_model_list, scope, asyncio.Future, sent))
    async with asyncio.timeout(5):
        await recording.wait()
    answering.cancel()
    await answering
    assert sent[0]["status"] == 200
    await asyncio.sleep(0.2)
    record = await UsageRecord.objects.aget()
    assert (record.outcome, record.status_code) == (Outcome.OK, 200)
    assert REGISTRY.get_sample_value("gateway_outcomes_total", {"outcome": "ok"}) == before + 1
    assert not in_flight


def entry_of(key: ApiKey, **fields: Any) -> UsageEntry:
    now = datetime.now(UTC)
    common: dict[str, Any] = {
        "id": uuid7(),
        "project_id": key.project_id,
        "key_id": key.pk,
        "day": now.date(),
        "created_at": now,
    }
    return UsageEntry(**common, request_id="r", operation="chat", format="openai_chat", **fields)


async def test_a_record_with_nul_is_written(ledger: SqlLedger, key: ApiKey) -> None:
    await ledger.record(entry_of(key, requested_model="a\0b"))
    assert (await UsageRecord.objects.aget()).requested_model == "ab"


async def test_rejected_record_is_written_when_the_database_recovers(
    ledger: SqlLedger, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down() -> None:
        raise sqlite3.OperationalError("disk full")

    with monkeypatch.context() as broken:
        broken.setattr(ledger.connection, "begin", down)
        await ledger.record(entry_of(key))
    assert not await UsageRecord.objects.aexists()
    await ledger.flush_retries()
    assert await UsageRecord.objects.acount() == 1


async def test_permanently_failing_transaction_does_not_block_records(ledger: SqlLedger, key: ApiKey) -> None:
    async def respond(_session: Executor) -> None:
        raise sqlite3.DataError("too long")

    ledger.retry_queue.append(respond)
    ledger.retry_queue.append(partial(transactions.insert_record, entry=entry_of(key)))
    for _ in range(2):
        with suppress(LedgerUnavailable):
            await ledger.flush_retries()
    assert await UsageRecord.objects.acount() == 1 and ledger.retry_queue == [respond]


async def test_full_window_counter_is_capped_and_blocks_no_record(ledger: SqlLedger, key: ApiKey) -> None:
    budget = await Budget.objects.acreate(
        project=key.project, key=key, period=Period.TOTAL, limit_nano=1, mode=Mode.SOFT
    )
    window = await BudgetWindow.objects.acreate(
        budget=budget, name="total", spent_nano=transactions.MAX_COUNTED_SPENT_NANO - 1
    )
    for _ in range(3):
        entry = entry_of(key, cost_nano=MAX_RESERVATION_NANO)
        await ledger.settle(ReservationGrant(entry.id, MAX_RESERVATION_NANO), entry)
    await window.arefresh_from_db()
    assert window.spent_nano == transactions.MAX_COUNTED_SPENT_NANO - 1 + MAX_RESERVATION_NANO
    assert await UsageRecord.objects.acount() == 3


@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk full"), OverflowError("int too large")])
async def test_a_record_is_written_although_its_writer_is_cancelled(
    ledger: SqlLedger, key: ApiKey, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def down() -> None:
        await asyncio.sleep(0.05)
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(ledger.connection, "begin", down)
        writing = asyncio.create_task(ledger.record(entry_of(key)))
        await asyncio.sleep(0.01)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await asyncio.sleep(0.1)
    await ledger.flush_retries()
    assert await UsageRecord.objects.acount() == 1


async def test_shutdown_during_retry_flush_loses_nothing(
    ledger: SqlLedger, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = ledger.connection.begin

    async def slow() -> None:
        await asyncio.sleep(0.02)
        await begin()

    monkeypatch.setattr(ledger.connection, "begin", slow)
    ledger.retry_queue += [partial(transactions.insert_record, entry=entry_of(key)) for _ in range(5)]
    writing = asyncio.create_task(ledger.flush_retries())
    await asyncio.sleep(0.01)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await ledger.stop()
    assert await UsageRecord.objects.acount() == 5


async def test_waiters_get_the_error_even_if_rollback_fails(
    ledger: SqlLedger, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down() -> None:
        raise sqlite3.OperationalError("disk full")

    with monkeypatch.context() as broken:
        broken.setattr(ledger.connection, "begin", down)
        broken.setattr(ledger.connection, "rollback", down)
        async with asyncio.timeout(5):
            await ledger.record(entry_of(key))
    await ledger.flush_retries()
    assert await UsageRecord.objects.acount() == 1


async def test_unreadable_orphan_does_not_block_others(transactional_db: None, key: ApiKey) -> None:
    for draft in ("garbage", json.dumps({})):
        await StoredReservation.objects.acreate(
            id=uuid7(), project_id=key.project_id, key_id=key.pk, amount_nano=1, estimate=draft
        )
    heir = SqlLedger(connect())
    assert await heir.start() == 0
    await heir.stop()


async def test_another_writer_does_not_stop_the_event_loop(ledger: SqlLedger, key: ApiKey) -> None:
    if not isinstance(ledger.connection, SqliteConnection):
        return
    path = str(settings.DATABASES["default"]["NAME"])
    locked, release = threading.Event(), threading.Event()

    def hold() -> None:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        locked.set()
        release.wait(5)
        other.execute("ROLLBACK")
        other.close()

    writer = threading.Thread(target=hold)
    writer.start()
    locked.wait(5)
    kept = asyncio.create_task(ledger.record(entry_of(key)))
    started = time.monotonic()
    await asyncio.sleep(0.2)
    assert time.monotonic() - started < 2 and not kept.done()
    release.set()
    await asyncio.wait_for(kept, 5)
    writer.join()
    assert await UsageRecord.objects.acount() == 1


@pytest.mark.skipif(ON_SERVERS, reason="starts its own gateway on SQLite")
def test_model_routes_need_no_provider_key(tmp_path: Path, upstream: LocalUpstream) -> None:
    data = tmp_path / "data"
    data.mkdir()
    gateway = GatewayProcess(data, AI_GATEWAY_MODEL_ROUTES=f"llama3:{upstream.url}").start()
    try:
        token = gateway.demo_key()
        assert gateway.post(token, model="llama3").status_code == 200
        listed = httpx.get(f"{gateway.url}/v1/models", headers={"x-api-key": token}).json()
        assert "llama3" in [model["id"] for model in listed["data"]]
        assert gateway.post(token, model="other").status_code == 404
    finally:
        gateway.stop()


def test_endless_request_headers_are_aborted(
    live_gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_project.server.HEADER_TIMEOUT_S", 0.3)
    for sent in (b"", b"GET /v1/models HTTP/1.1\r\nhost:"):
        with socket.create_connection(
            ("127.0.0.1", live_gateway.socket.getsockname()[1]), timeout=5
        ) as client:
            client.sendall(sent)
            assert client.recv(100) == b""


def test_stalled_request_body_is_aborted(
    live_gateway: LiveGateway, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_project.server.BODY_IDLE_TIMEOUT_S", 0.3)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
        f"authorization: Bearer {token}\r\ncontent-length: 100\r\n\r\n{{"
    )
    with socket.create_connection(("127.0.0.1", live_gateway.socket.getsockname()[1]), timeout=5) as client:
        client.sendall(head.encode())
        assert client.recv(1000) == b""
    assert only_record().outcome == Outcome.CLIENT_CLOSED


def test_every_provider_of_the_catalog_can_be_called(demo_project: Project) -> None:
    for slug, provider in PROVIDERS.items():
        assert provider.base_urls and provider.name
        if slug != "demo":
            Credential(
                project=demo_project,
                slug=slug,
                provider=slug,
                base_url=provider.base_url or "https://example.org/v1",
            ).full_clean(exclude=["sealed_secret", "secret_suffix"])
