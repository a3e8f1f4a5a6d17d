"""A provider that has fallen silent, or says no more than that it lives, is given up."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from proxy.upstream import MAX_ANSWER_BYTES, HttpReply, Upstream, UpstreamRefused, UpstreamTimeout
from tests.upstream import LocalUpstream

IDLE_S = 0.4


@pytest.fixture
async def ask(upstream: LocalUpstream) -> AsyncIterator[Callable[[], Any]]:
    connections = Upstream(idle_timeout_s=IDLE_S)
    yield lambda: connections.post(f"{upstream.url}/chat/completions", b"{}", {}, trusted=True)
    await connections.close()


def saying(word: bytes, pause_s: float, times: int) -> Any:
    async def answer(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(times):
            await response.write(word)
            await asyncio.sleep(pause_s)
        return response

    return answer


async def chunks_of(reply: HttpReply) -> int:
    async with reply:
        return len([chunk async for chunk in reply.chunks()])


@pytest.mark.parametrize("word", [b": keep-alive\n\n", b'event: ping\ndata: {"type": "ping"}\n\n'])
async def test_signs_of_life_alone_do_not_keep_an_answer_waiting(upstream: LocalUpstream, ask: Any, word: bytes) -> None:
    upstream.answer = saying(word, IDLE_S / 4, 40)
    begun = time.monotonic()
    with pytest.raises(UpstreamTimeout):
        await chunks_of(await ask())
    assert time.monotonic() - begun < 4 * IDLE_S


async def test_silence_is_a_timeout_in_a_stream_and_in_an_answer_in_one_piece(upstream: LocalUpstream, ask: Any) -> None:
    upstream.answer = saying(b"data: {}\n\n", 3 * IDLE_S, 2)
    with pytest.raises(UpstreamTimeout):
        await chunks_of(await ask())
    async with await ask() as reply:
        with pytest.raises(UpstreamTimeout):
            await reply.read()


async def test_an_answer_that_comes_slowly_is_waited_for(upstream: LocalUpstream, ask: Any) -> None:
    upstream.answer = saying(b'data: {"a": 1}\n\n', IDLE_S / 2, 6)
    assert await chunks_of(await ask()) == 6


@pytest.mark.parametrize("sized", [True, False])
async def test_an_answer_in_one_piece_has_a_cap(upstream: LocalUpstream, ask: Any, sized: bool) -> None:
    async def endless(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-length": str(MAX_ANSWER_BYTES + 1)} if sized else {})
        await response.prepare(request)
        for _ in range(MAX_ANSWER_BYTES // 2**20 + 2):
            await response.write(b"x" * 2**20)
        return response

    upstream.answer = endless
    async with await ask() as reply:
        with pytest.raises(UpstreamRefused, match="larger than"):
            await reply.read()
