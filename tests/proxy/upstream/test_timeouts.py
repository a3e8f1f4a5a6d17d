"""Timeouts of providers that send nothing, or nothing but keep-alives."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from proxy.upstream.client import HttpUpstreamClient
from proxy.upstream.errors import UpstreamConnectionError, UpstreamTimeout
from proxy.upstream.response import MAX_RESPONSE_BYTES, HttpUpstreamResponse
from tests.support.upstream_server import LocalUpstream

IDLE_S = 0.4


@pytest.fixture
async def post_request(upstream: LocalUpstream) -> AsyncIterator[Callable[[], Any]]:
    connections = HttpUpstreamClient(idle_timeout_s=IDLE_S)
    yield lambda: connections.request("POST", f"{upstream.url}/chat/completions", b"{}", {}, trusted=True)
    await connections.close()


def repeating_handler(chunk: bytes, pause_s: float, times: int) -> Any:
    async def answer(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(times):
            await response.write(chunk)
            await asyncio.sleep(pause_s)
        return response

    return answer


async def chunks_of(response: HttpUpstreamResponse) -> int:
    async with response:
        return len([chunk async for chunk in response.chunks()])


@pytest.mark.parametrize("word", [b": keep-alive\n\n", b'event: ping\ndata: {"type": "ping"}\n\n'])
async def test_keepalives_alone_do_not_prevent_a_timeout(
    upstream: LocalUpstream, post_request: Any, word: bytes
) -> None:
    upstream.handler = repeating_handler(word, IDLE_S / 4, 40)
    begun = time.monotonic()
    with pytest.raises(UpstreamTimeout):
        await chunks_of(await post_request())
    assert time.monotonic() - begun < 4 * IDLE_S


async def test_silence_is_a_timeout_with_and_without_streaming(
    upstream: LocalUpstream, post_request: Any
) -> None:
    upstream.handler = repeating_handler(b"data: {}\n\n", 3 * IDLE_S, 2)
    with pytest.raises(UpstreamTimeout):
        await chunks_of(await post_request())
    async with await post_request() as response:
        with pytest.raises(UpstreamTimeout):
            await response.read()


@pytest.mark.parametrize("text", [b"a", b"ping", b"shopping"])
async def test_slow_response_is_not_a_timeout(
    upstream: LocalUpstream, post_request: Any, text: bytes
) -> None:
    upstream.handler = repeating_handler(b'data: {"content": "%s"}\n\n' % text, IDLE_S / 2, 6)
    assert await chunks_of(await post_request()) == 6


@pytest.mark.parametrize("sized", [True, False])
async def test_non_streaming_response_size_is_limited(
    upstream: LocalUpstream, post_request: Any, sized: bool
) -> None:
    async def endless(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"content-length": str(MAX_RESPONSE_BYTES + 1)} if sized else {}
        )
        await response.prepare(request)
        for _ in range(MAX_RESPONSE_BYTES // 2**20 + 2):
            await response.write(b"x" * 2**20)
        return response

    upstream.handler = endless
    async with await post_request() as reply:
        with pytest.raises(UpstreamConnectionError, match="larger than"):
            await reply.read()
