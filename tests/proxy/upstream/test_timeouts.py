"""Timeouts of providers that send nothing, or only keep-alives."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from proxy.upstream.client import HttpUpstreamClient
from proxy.upstream.errors import UpstreamConnectionError, UpstreamTimeout
from proxy.upstream.response import MAX_RESPONSE_BYTES, HttpUpstreamResponse, is_keepalive
from proxy.upstream.timeouts import Timeouts
from tests.support.upstream_server import LocalUpstream

IDLE_S = 0.4


@pytest.fixture
async def post_request(upstream: LocalUpstream) -> AsyncIterator[Callable[[], Any]]:
    connections = HttpUpstreamClient(Timeouts(first_chunk_s=IDLE_S, idle_s=IDLE_S))
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
    assert time.monotonic() - begun < 40 * IDLE_S / 4


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


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [
        (b": keep-alive\n\n", True),
        (b": OPENROUTER PROCESSING\r\n\r\n: OPENROUTER PROCESSING\r\n\r\n", True),
        (b'event: ping\ndata: {"type": "ping"}\n\n', True),
        (b'data: {"type":"ping"}\n\n: x\n\n', True),
        (b": keep-alive\n\ndata: {}\n\n", False),
        (b'event: ping\ndata: {"type": "ping"}\n\nevent: x\ndata: 1\n\n', False),
        (b'data: {"type": "ping", "more": 1}\n\n', False),
        (b"data: {}\n\n", False),
    ],
)
def test_keepalives_are_recognized_unless_data_follows(chunk: bytes, expected: bool) -> None:
    assert is_keepalive(chunk) == expected


@pytest.fixture
async def client(upstream: LocalUpstream) -> AsyncIterator[Callable[..., Any]]:
    clients: list[HttpUpstreamClient] = []

    def request(timeouts: Timeouts, **options: Any) -> Any:
        clients.append(HttpUpstreamClient(timeouts))
        return clients[-1].request("POST", f"{upstream.url}/x", b"{}", {}, trusted=True, **options)

    yield request
    for each in clients:
        await each.close()


async def test_a_response_that_does_not_start_is_a_timeout(upstream: LocalUpstream, client: Any) -> None:
    upstream.handler = slow_head_handler(10)
    with pytest.raises(UpstreamTimeout, match=r"no response within 0\.1 s"):
        await client(Timeouts(first_chunk_s=0.1))
    assert await asyncio.to_thread(upstream.requests[-1].closed.wait, 1)


async def test_a_stream_without_a_first_chunk_is_a_timeout(upstream: LocalUpstream, client: Any) -> None:
    upstream.handler = repeating_handler(b": keep-alive\n\n", 0.02, 300)
    with pytest.raises(UpstreamTimeout):
        await chunks_of(await client(Timeouts(first_chunk_s=0.2, idle_s=10)))
    assert await asyncio.to_thread(upstream.requests[-1].closed.wait, 1)


async def test_a_pause_may_be_longer_than_the_first_chunk(upstream: LocalUpstream, client: Any) -> None:
    upstream.handler = repeating_handler(b"data: {}\n\n", 0.3, 2)
    assert await chunks_of(await client(Timeouts(first_chunk_s=0.2, idle_s=10))) == 2


async def test_a_pause_may_be_shorter_than_the_first_chunk(upstream: LocalUpstream, client: Any) -> None:
    upstream.handler = repeating_handler(b"data: {}\n\n", 60, 2)
    begun = time.monotonic()
    with pytest.raises(UpstreamTimeout):
        await chunks_of(await client(Timeouts(first_chunk_s=30, idle_s=0.2)))
    assert time.monotonic() - begun < 15


async def test_a_timeout_of_a_target_bounds_a_whole_response(upstream: LocalUpstream, client: Any) -> None:
    upstream.handler = repeating_handler(b" ", 0.02, 300)
    reply = await client(Timeouts(), timeout_s=0.2)
    async with reply:
        with pytest.raises(UpstreamTimeout, match=r"longer than 0\.2 s"):
            await reply.read()
    assert await asyncio.to_thread(upstream.requests[-1].closed.wait, 1)


async def test_a_timeout_of_a_target_bounds_the_first_chunk_of_a_stream(
    upstream: LocalUpstream, client: Any
) -> None:
    upstream.handler = repeating_handler(b"data: {}\n\n", 0.1, 4)
    assert await chunks_of(await client(Timeouts(), timeout_s=0.2, is_stream=True)) == 4
    upstream.handler = slow_head_handler(10)
    with pytest.raises(UpstreamTimeout):
        await client(Timeouts(), timeout_s=0.2, is_stream=True)


async def test_a_slow_client_does_not_cause_a_timeout(upstream: LocalUpstream, client: Any) -> None:
    upstream.handler = repeating_handler(b"data: {}\n\n", 0.05, 4)
    count = 0
    async with await client(Timeouts(first_chunk_s=0.2, idle_s=0.2)) as reply:
        async for _ in reply.chunks():
            await asyncio.sleep(0.25)
            count += 1
    assert count


def slow_head_handler(pause_s: float) -> Any:
    async def answer(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(pause_s)
        return web.Response()

    return answer
