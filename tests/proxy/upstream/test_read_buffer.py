"""Backpressure: a slow client slows its provider down, and the gateway stores little of the response."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from proxy.upstream.client import HttpUpstreamClient
from proxy.upstream.read_buffer import BUFFER_BYTES, READ_BYTES, BoundedReader
from proxy.upstream.timeouts import Timeouts
from tests.support.upstream_server import LocalUpstream

TOTAL = 8 * 2**20
LIMIT = READ_BYTES + 2 * BUFFER_BYTES


@pytest.fixture
async def client() -> AsyncIterator[HttpUpstreamClient]:
    client = HttpUpstreamClient(Timeouts())
    yield client
    await client.close()


async def send_much(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for number in range(TOTAL // 2**16):
        await response.write(bytes([number]) * 2**16)
    return response


async def test_a_slow_reader_stores_a_bounded_part(
    upstream: LocalUpstream, client: HttpUpstreamClient
) -> None:
    upstream.handler = send_much
    reply = await client.request("POST", f"{upstream.url}/chat/completions", b"{}", {}, trusted=True)
    connection = reply.response.connection
    assert connection is not None and connection.transport is not None
    assert isinstance(connection.transport.get_protocol(), BoundedReader)
    content, stored, received = reply.response.content, [], bytearray()
    async with reply:
        async for chunk in reply.chunks():
            received += chunk
            if len(received) < 2**20:
                await asyncio.sleep(0.001)
            stored.append(content._size)
            assert len(chunk) <= BUFFER_BYTES
    assert bytes(received) == b"".join(bytes([number]) * 2**16 for number in range(TOTAL // 2**16))
    assert max(stored) <= LIMIT
