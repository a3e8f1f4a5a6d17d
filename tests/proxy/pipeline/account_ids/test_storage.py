"""Storage of ids: a response ends only when its ids are stored, unless the database is down."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from aiohttp import web
from django.db import OperationalError

from billing.models import Outcome
from projects.db.health import database_health
from projects.models import Project
from proxy.models import IssuedId, IssuedIdQuerySet
from proxy.pipeline import account_ids
from tests.proxy.pipeline.account_ids.requests import (
    BEGIN,
    CHAT,
    ISSUED,
    MESSAGES,
    MODELS,
    RESPONSE,
    RESPONSES,
    answer,
    begin,
    error_of,
    event,
    events_of,
    issued_id,
    post,
    stream,
)
from tests.support.live_gateway import only_record
from tests.support.upstream_server import LocalUpstream

pytestmark = pytest.mark.databases
LAST = {RESPONSES: b"response.completed", CHAT: b"[DONE]", MESSAGES: b"message_stop"}


@pytest.mark.parametrize("path", LAST)
@pytest.mark.parametrize("pause", [0, 0.1], ids=["one chunk", "two chunks"])
def test_a_stream_ends_when_its_ids_are_stored(
    gateway: httpx.Client, upstream: LocalUpstream, gate: threading.Event, path: str, pause: float
) -> None:
    async def paused(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        *first, last = events_of(path)
        response = await stream(request, first)
        await asyncio.sleep(pause)
        await response.write(last)
        return response

    upstream.handler = paused
    early, received = b"", b""
    threading.Timer(0.5, gate.set).start()
    with gateway.stream("POST", path, json={"model": MODELS[path], "stream": True} | BEGIN[path]) as streamed:
        for part in streamed.iter_raw():
            received += part
            early += b"" if gate.is_set() else part
            if LAST[path] in received:
                assert gate.is_set(), "the last event came before the ids were stored"
                assert IssuedId.objects.exists()
    assert LAST[path] in received
    assert early or not pause, "what comes before the last event is not delayed"


def test_a_response_ends_when_its_ids_are_stored(gateway: httpx.Client, gate: threading.Event) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(begin, gateway, RESPONSES)
        time.sleep(0.3)
        assert not waiting.done()
        gate.set()
        assert waiting.result().json() == RESPONSE


def test_ids_of_a_disconnected_stream_are_stored(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    async def endless(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = await stream(request, events_of(RESPONSES)[:-1])
        while True:
            await response.write(event("response.output_text.delta", item_id="msg_1", delta="Hi "))

    upstream.handler = endless
    with gateway.stream(
        "POST", RESPONSES, json={"model": "gpt-4o", "input": "Hi", "stream": True}
    ) as streamed:
        received = b""
        for part in streamed.iter_raw():
            received += part
            if b'"msg_1", "role"' in received:
                break
    only_record()
    upstream.handler = answer
    deadline = time.monotonic() + 5
    while post(gateway, *ISSUED["previous_response_id"]).status_code != 200:
        assert time.monotonic() < deadline, "the id was not stored"


def test_a_database_outage_loses_the_id_but_not_the_response(
    gateway: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def raise_error(*_: Any) -> None:
        raise OperationalError("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(IssuedIdQuerySet, "store", raise_error)
        begun = begin(gateway, RESPONSES)
    assert begun.json() == RESPONSE and only_record().outcome == Outcome.OK
    error_of(post(gateway, *ISSUED["previous_response_id"]), RESPONSES)
    monkeypatch.setattr(IssuedIdQuerySet, "known", raise_error)
    response = post(gateway, *ISSUED["previous_response_id"])
    assert response.status_code == 503 and "retry-after" in response.headers


def test_a_hung_database_delays_a_response_for_a_bounded_time(
    gateway: httpx.Client, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_ids, "STORE_TIMEOUT_S", 0.3)
    begun = time.monotonic()
    begin(gateway, RESPONSES)
    assert 0.3 <= time.monotonic() - begun < 3
    monkeypatch.setattr(account_ids, "STORE_TIMEOUT_S", 20)
    # The poll of the config version still succeeds and would mark the database as up again.
    monkeypatch.setattr(database_health, "mark_up", lambda: None)
    monkeypatch.setattr(database_health, "is_down", True)
    begun = time.monotonic()
    begin(gateway, RESPONSES)
    assert time.monotonic() - begun < 3, "nobody waits for a database that is known to be away"
    monkeypatch.setattr(database_health, "is_down", False)
    gate.set()
    begin(gateway, RESPONSES)
    assert post(gateway, *ISSUED["previous_response_id"]).status_code == 200


def test_ids_beyond_the_queue_limit_are_dropped(
    gate: threading.Event, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_ids, "MAX_QUEUED_IDS", 2)
    writer = account_ids.Writer()
    futures = [writer.submit([issued_id(project, number)]) for number in range(6)]
    rejected = [future for future in futures if future.done()]
    assert rejected and all(isinstance(future.exception(), account_ids.QueueFull) for future in rejected)
    gate.set()
    writer.executor.shutdown()
    assert IssuedId.objects.count() == 6 - len(rejected)


def test_ids_of_a_deleted_project_do_not_fail_those_of_others(
    gate: threading.Event, project: Project, demo_project: Project
) -> None:
    writer = account_ids.Writer()
    writer.submit(
        [issued_id(project, 0)]
    )  # This write occupies the thread, so that the next two are written together.
    time.sleep(0.1)
    gone = Project(pk=10**9)
    futures = [writer.submit([issued_id(gone, 1)]), writer.submit([issued_id(demo_project, 2)])]
    gate.set()
    writer.executor.shutdown()
    assert futures[0].exception() is not None and futures[1].exception() is None
    assert set(IssuedId.objects.values_list("project", flat=True)) == {project.pk, demo_project.pk}


def test_many_concurrent_responses_store_their_ids(
    gateway: httpx.Client, other: httpx.Client, upstream: LocalUpstream
) -> None:
    async def numbered(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(RESPONSE | {"id": body["input"], "conversation": None})

    upstream.handler = numbered
    clients = {"a": gateway, "b": other}
    names = [f"resp_{owner}_{number}" for number in range(20) for owner in clients]

    def first(name: str) -> int:
        return post(clients[name[5]], RESPONSES, {"input": name}).status_code

    def later(name: str, client: httpx.Client) -> int:
        return post(client, RESPONSES, {"input": "resp_x", "previous_response_id": name}).status_code

    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(first, names)) == {200}
        assert set(pool.map(lambda name: later(name, clients[name[5]]), names)) == {200}
        assert set(pool.map(lambda name: later(name, clients["a" if name[5] == "b" else "b"]), names)) == {
            404
        }
