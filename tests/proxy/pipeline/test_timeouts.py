"""Timeouts of requests: an error in the client's format, a charge, and a closed connection."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from aiohttp import web

from proxy.providers.provider import HTTP_CLIENT
from proxy.runtime import runtime
from proxy.upstream.client import HttpUpstreamClient
from tests.support.live_gateway import only_record
from tests.support.upstream_server import LocalUpstream, chunk

TIMEOUT_S = 0.2
MESSAGES = [{"role": "user", "content": "Hi"}]
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai_chat": ("/v1/chat/completions", {"model": "openai/gpt-4o-mini", "messages": MESSAGES}),
    "openai_responses": ("/v1/responses", {"model": "openai/gpt-4o-mini", "input": "Hi"}),
    "anthropic": ("/v1/messages", {"model": "openai/gpt-4o-mini", "messages": MESSAGES, "max_tokens": 9}),
    "gemini": (
        "/v1beta/models/openai/gpt-4o-mini:generateContent",
        {"contents": [{"parts": [{"text": "Hi"}]}]},
    ),
}
ERROR_TYPES = {
    "openai_chat": ("type", "timeout"),
    "openai_responses": ("type", "timeout"),
    "anthropic": ("type", "timeout_error"),
    "gemini": ("status", "DEADLINE_EXCEEDED"),
}


@pytest.fixture
def upstream_client(gateway: httpx.Client, change_environment: Callable[..., None]) -> HttpUpstreamClient:
    change_environment(ai_gateway_retry_attempts=0)
    client = runtime.clients[HTTP_CLIENT]
    assert isinstance(client, HttpUpstreamClient)
    return client


@pytest.fixture
def short_timeouts(upstream_client: HttpUpstreamClient) -> Iterator[None]:
    before = upstream_client.timeouts
    upstream_client.timeouts = replace(before, first_chunk_s=TIMEOUT_S, idle_s=TIMEOUT_S)
    yield
    upstream_client.timeouts = before


async def hang(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    await asyncio.sleep(30)
    return web.Response()


async def pause_in_stream(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await response.write(chunk({"content": "Hello"}))
    await asyncio.sleep(30)
    return response


async def trickle(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(300):
        await response.write(chunk({"content": "Hello"}))
        await asyncio.sleep(0.05)
    return response


def ask(gateway: httpx.Client, format: str, *, stream: bool) -> httpx.Response:
    path, body = REQUESTS[format]
    if format == "gemini" and stream:
        path = path.replace(":generateContent", ":streamGenerateContent?alt=sse")
    elif stream:
        body = {**body, "stream": True}
    return gateway.post(path, json=body)


@pytest.mark.parametrize(
    ("format", "stream"),
    [("openai_chat", False), ("openai_responses", True), ("anthropic", False), ("gemini", True)],
)
def test_a_silent_provider_is_a_504_in_the_client_format(
    gateway: httpx.Client, upstream: LocalUpstream, short_timeouts: None, format: str, stream: bool
) -> None:
    upstream.handler = hang
    response = ask(gateway, format, stream=stream)
    field, kind = ERROR_TYPES[format]
    assert response.status_code == 504
    assert response.json()["error"][field] == kind and "respond in time" in response.text
    assert upstream.requests[-1].closed.wait(1)
    record = only_record()
    assert (record.outcome, record.status_code, record.error) == ("upstream_error", 504, "upstream_timeout")
    assert record.estimated and record.input_tokens and record.cost_nano


@pytest.mark.parametrize("format", ["openai_chat", "anthropic", "gemini"])
def test_a_pause_in_a_stream_is_an_error_event(
    gateway: httpx.Client, upstream: LocalUpstream, short_timeouts: None, format: str
) -> None:
    upstream.handler = pause_in_stream
    response = ask(gateway, format, stream=True)
    assert response.status_code == 200 and "Hello" in response.text
    last = [line for line in response.text.splitlines() if line.startswith("data: ")][-1]
    assert "respond in time" in json.loads(last.removeprefix("data: "))["error"]["message"]
    assert upstream.requests[-1].closed.wait(1)
    record = only_record()
    assert (record.outcome, record.status_code) == ("upstream_error", 504)
    assert record.estimated and record.cost_nano


@pytest.mark.parametrize(("handler", "status"), [(hang, 504), (trickle, 200)])
def test_the_total_timeout_ends_a_request_in_every_phase(
    gateway: httpx.Client,
    upstream: LocalUpstream,
    upstream_client: HttpUpstreamClient,
    change_environment: Callable[..., None],
    handler: Any,
    status: int,
) -> None:
    change_environment(gateway_total_timeout_s=TIMEOUT_S)
    upstream.handler = handler
    response = ask(gateway, "openai_chat", stream=True)
    assert response.status_code == status and "longer than 0.2 s" in response.text
    assert upstream.requests[-1].closed.wait(1)
    record = only_record()
    assert (record.outcome, record.error) == ("upstream_error", "upstream_timeout")
    assert len(upstream.requests) == 1
