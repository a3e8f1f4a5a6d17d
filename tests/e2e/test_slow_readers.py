"""Clients that read slowly: the memory of the process stays bounded, and other streams go on.

The long form prints the memory that each slow reader took.
"""

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway_project.server import WRITE_BUFFER_BYTES
from proxy.upstream.read_buffer import BUFFER_BYTES
from tests.support.gateway_server import GatewayProcess
from tests.support.live_gateway import LiveGateway, wait_until
from tests.support.sse_clients import END, read_slowly, read_stream, wait_for
from tests.support.upstream_server import LocalUpstream, chunk

MODEL = "gpt-4o-mini"
READERS, READER_BYTES_PER_S = 200, 1024
STREAMS, STREAM_S = 500, 40
MAX_BYTES_PER_READER = 256 * 1024
EVENTS = [chunk({"content": "x" * 16_000})] * 64


async def respond(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Send megabytes as fast as it is read, or one event each second if the request has a seed.

    `max_tokens` is the number of megabytes.
    """
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    if seconds := body.get("seed"):
        for _ in range(seconds):
            await response.write(chunk({"content": "word "}))
            await asyncio.sleep(1)
    else:
        for event in EVENTS * body.get("max_tokens", 1):
            await response.write(event)
    await response.write(chunk({}, "stop") + b"data: [DONE]\n\n")
    return response


def test_a_reader_that_stops_fills_only_small_buffers(
    live_gateway: LiveGateway, upstream: LocalUpstream, token: str
) -> None:
    upstream.handler = respond
    port = live_gateway.socket.getsockname()[1]
    connections = live_gateway.server.server_state.connections

    def largest_buffer() -> int:
        transports = [each.transport for each in connections]
        return max((each.get_write_buffer_size() for each in transports if not each.is_closing()), default=0)

    async def read_a_little() -> int:
        slow = read_slowly(port, token, READER_BYTES_PER_S, 1, model=f"openai/{MODEL}", max_tokens=20)
        reading, stored = asyncio.create_task(slow), 0
        while not reading.done():
            stored = max(stored, largest_buffer())
            await asyncio.sleep(0.01)
        return stored

    assert 0 < asyncio.run(read_a_little()) <= WRITE_BUFFER_BYTES + 2 * BUFFER_BYTES
    wait_until(lambda: not largest_buffer())


@pytest.fixture
def gateway_process(tmp_path: Path, upstream: LocalUpstream) -> Iterator[GatewayProcess]:
    upstream.handler = respond
    (tmp_path / "data").mkdir()
    variables = {"OPENAI_API_KEY": "sk-x", "OPENAI_BASE_URL": upstream.url}
    gateway = GatewayProcess(tmp_path / "data", **variables).start()
    yield gateway
    gateway.stop(signal.SIGKILL)


def memory_of(gateway: GatewayProcess) -> int:
    """Return the resident memory of the process, in bytes."""
    assert gateway.process is not None
    pages = int(Path(f"/proc/{gateway.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


@pytest.mark.long
def test_slow_readers_beside_slow_streams(gateway_process: GatewayProcess) -> None:
    (token,) = set(re.findall(r"sk-gw_\w+", gateway_process.output.read_text()))

    async def run() -> tuple[int, int, list[bytes]]:
        started = asyncio.Semaphore(0)
        streams = [
            asyncio.create_task(
                read_stream(gateway_process.port, token, started=started, model=MODEL, seed=STREAM_S)
            )
            for _ in range(STREAMS)
        ]
        await wait_for(started, STREAMS)
        before, peak = memory_of(gateway_process), 0
        readers = [
            asyncio.create_task(
                read_slowly(gateway_process.port, token, READER_BYTES_PER_S, STREAM_S / 2, model=MODEL)
            )
            for _ in range(READERS)
        ]
        while not all(reader.done() for reader in readers):
            peak = max(peak, memory_of(gateway_process))
            await asyncio.sleep(0.1)
        assert all(reader.result() >= READER_BYTES_PER_S * 2 for reader in readers)
        return before, peak, await asyncio.gather(*streams)

    before, peak, streams = asyncio.run(run())
    for stream in streams:
        assert stream.count(b"word ") == STREAM_S and stream.endswith(END)
    grown, per_reader = (peak - before) / 2**20, (peak - before) // READERS
    print(f"{STREAMS} streams: {before / 2**20:.0f} MiB.")
    print(f"{READERS} slow readers: {grown:.0f} MiB more, {per_reader / 1024:.0f} KiB each.")
    assert per_reader <= MAX_BYTES_PER_READER
