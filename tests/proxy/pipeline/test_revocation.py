"""Requests of revoked, expired and deleted keys are aborted within seconds, and charged."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from aiohttp import web
from django.utils import timezone

from billing.models import Outcome
from keys.models import ApiKey
from projects.models import Project
from proxy import revocation
from proxy.http import client_stream
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import LocalUpstream, chunk

pytestmark = pytest.mark.databases

MESSAGES = [{"role": "user", "content": "Hi"}]
CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES, "stream": True}
CLIENT_FORMATS: list[tuple[str, dict[str, Any], Callable[[str], Any]]] = [
    ("/v1/chat/completions", CHAT, lambda text: last_event(text)["error"]["code"] == "invalid_api_key"),
    (
        "/v1/responses",
        {"model": "gpt-4o-mini", "input": "Hi", "stream": True},
        lambda text: last_event(text)["type"] == "error",
    ),
    (
        "/v1/messages",
        {**CHAT, "max_tokens": 9},
        lambda text: last_event(text)["error"]["type"] == "authentication_error",
    ),
    (
        "/v1beta/models/gpt-4o-mini:streamGenerateContent?alt=sse",
        {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
        lambda text: last_event(text)["error"]["status"] == "UNAUTHENTICATED",
    ),
    (
        "/v1beta/models/gpt-4o-mini:streamGenerateContent",
        {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
        lambda text: json.loads(text)[-1]["error"]["status"] == "UNAUTHENTICATED",
    ),
]


def last_event(text: str) -> Any:
    return json.loads(
        [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")][-1]
    )


@pytest.fixture
def endless_stream(upstream: LocalUpstream) -> LocalUpstream:
    """Let the provider send a word every 20 ms, for a minute."""

    async def words(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(3000):
            await response.write(chunk({"content": " word"}))
            await asyncio.sleep(0.02)
        return response

    upstream.handler = words
    return upstream


@pytest.fixture
def short_poll_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation, "POLL_INTERVAL_S", 0.1)


def stream_until_aborted(
    live: LiveGateway, token: str, path: str, body: dict[str, Any], end_key: Callable[[], object]
) -> str:
    """Revoke the key after the stream has started, and return everything that the client received."""
    text = ""
    with httpx.stream(
        "POST", live.url + path, json=body, headers={"x-api-key": token}, timeout=15
    ) as response:
        for part in response.iter_text():
            if not text:
                threading.Thread(target=end_key).start()
            text += part
    return text


def revoke(key: ApiKey) -> None:
    key.revoke()


def delete(key: ApiKey) -> None:
    key.delete()


def delete_project(key: ApiKey) -> None:
    key.project.delete()


def let_expire(key: ApiKey) -> None:
    key.expires_at = timezone.now() + timedelta(seconds=0.5)
    key.save()


def test_open_stream_is_aborted_within_ten_seconds(
    live_gateway: LiveGateway, endless_stream: LocalUpstream, demo_project: Project
) -> None:
    key, token = ApiKey.objects.issue(demo_project, "app")
    started = time.monotonic()
    text = stream_until_aborted(live_gateway, token, "/v1/chat/completions", CHAT, key.revoke)
    assert time.monotonic() - started < 10
    assert last_event(text)["error"]["code"] == "invalid_api_key" and "[DONE]" not in text
    assert endless_stream.requests[0].closed.wait(1), "the provider was still being called"
    record = only_record()
    assert (record.outcome, record.status_code, record.error) == (
        Outcome.UNAUTHENTICATED,
        401,
        "invalid_api_key",
    )
    assert record.output_tokens == text.count(" word") and record.estimated
    assert record.cost_nano == record.input_tokens * 150 + record.output_tokens * 600


@pytest.mark.usefixtures("short_poll_interval")
@pytest.mark.parametrize("end", [revoke, delete, delete_project, let_expire])
def test_streams_end_with_their_key(
    live_gateway: LiveGateway,
    endless_stream: LocalUpstream,
    demo_project: Project,
    end: Callable[[ApiKey], None],
) -> None:
    key, token = ApiKey.objects.issue(demo_project, "app")
    text = stream_until_aborted(live_gateway, token, "/v1/chat/completions", CHAT, lambda: end(key))
    assert last_event(text)["error"]["code"] == "invalid_api_key"
    assert endless_stream.requests[0].closed.wait(1)


@pytest.mark.usefixtures("short_poll_interval")
@pytest.mark.parametrize(("path", "body", "says_so"), CLIENT_FORMATS)
def test_each_format_reports_why_the_stream_ended(
    live_gateway: LiveGateway,
    endless_stream: LocalUpstream,
    demo_project: Project,
    path: str,
    body: dict[str, Any],
    says_so: Callable[[str], bool],
) -> None:
    key, token = ApiKey.objects.issue(demo_project, "app")
    assert says_so(stream_until_aborted(live_gateway, token, path, body, key.revoke))
    assert only_record().outcome == Outcome.UNAUTHENTICATED


@pytest.mark.usefixtures("short_poll_interval")
def test_a_call_that_waits_for_its_response_is_aborted_too(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    async def slow(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        threading.Thread(target=key.revoke).start()
        await asyncio.sleep(60)
        return web.Response()

    upstream.handler = slow
    key, token = ApiKey.objects.issue(demo_project, "app")
    response = httpx.post(
        f"{live_gateway.url}/v1/chat/completions",
        json={**CHAT, "stream": False},
        headers={"x-api-key": token},
        timeout=15,
    )
    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
    assert upstream.requests[0].closed.wait(1)
    record = only_record()
    assert record.outcome == Outcome.UNAUTHENTICATED and record.estimated and record.cost_nano > 0


@pytest.mark.usefixtures("short_poll_interval")
def test_stalled_client_does_not_keep_its_reservation(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def flood(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        while True:
            await response.write(chunk({"content": " word" * 2000}))

    upstream.handler = flood
    monkeypatch.setattr(client_stream, "FINAL_WRITE_TIMEOUT_S", 0.5)
    key, token = ApiKey.objects.issue(demo_project, "app")
    body, address = json.dumps(CHAT).encode(), urlsplit(live_gateway.url)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
        f"x-api-key: {token}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        connection.sendall(head.encode() + body)
        time.sleep(1)
        key.revoke()
        assert upstream.requests[0].closed.wait(5)
        assert only_record().outcome == Outcome.UNAUTHENTICATED


@pytest.mark.usefixtures("short_poll_interval")
def test_streams_of_other_keys_continue(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    _, token = ApiKey.objects.issue(demo_project, "app")
    other, _ = ApiKey.objects.issue(demo_project, "other")
    body = {**CHAT, "model": "demo/chat", "max_tokens": 100}
    assert "[DONE]" in stream_until_aborted(live_gateway, token, "/v1/chat/completions", body, other.revoke)
    assert only_record().outcome == Outcome.OK
