"""SIGTERM with streams in flight: they finish, all is settled, and the process ends in time."""

import asyncio
import re
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from tests.support.gateway_server import CHAT, GatewayProcess
from tests.support.sse_clients import END, read_stream, wait_for
from tests.support.upstream_server import LocalUpstream, chunk

MODEL = "gpt-4o-mini"
DRAIN_S = 1.0


def slow_stream(seconds: float) -> Any:
    """Return a provider whose streams last this long."""

    async def answer(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(10):
            await response.write(chunk({"content": "word "}))
            await asyncio.sleep(seconds / 10)
        await response.write(chunk({}, "stop") + b"data: [DONE]\n\n")
        return response

    return answer


@pytest.mark.parametrize(("count", "seconds"), [(20, 2.5), pytest.param(100, 20.0, marks=pytest.mark.long)])
def test_streams_finish_after_sigterm(
    tmp_path: Path, upstream: LocalUpstream, count: int, seconds: float
) -> None:
    upstream.handler = slow_stream(seconds)
    (tmp_path / "data").mkdir()
    variables = {"OPENAI_API_KEY": "sk-x", "OPENAI_BASE_URL": upstream.url, "GATEWAY_DRAIN_S": str(DRAIN_S)}
    gateway = GatewayProcess(tmp_path / "data", **variables).start()
    try:
        (token,) = set(re.findall(r"sk-gw_\w+", gateway.output.read_text()))
        responses, seconds_to_exit = asyncio.run(stop_during_streams(gateway, token, count))
    finally:
        if gateway.is_running:
            gateway.stop(signal.SIGKILL)
    for response in responses:
        assert response.startswith(b"HTTP/1.1 200") and response.count(b"word ") == 10
        assert b"data: [DONE]\n\n" in response and response.endswith(END)
    assert seconds_to_exit <= DRAIN_S + 32
    assert gateway.query("SELECT outcome, COUNT(*) FROM billing_usagerecord GROUP BY outcome") == [
        ("ok", count + 1)
    ]
    assert gateway.query("SELECT * FROM billing_reservation") == []


async def stop_during_streams(gateway: GatewayProcess, token: str, count: int) -> tuple[list[bytes], float]:
    """Send SIGTERM while streams run. Return the streams, and the seconds until the process ended."""
    assert gateway.process is not None
    started = asyncio.Semaphore(0)
    streams = [
        asyncio.create_task(read_stream(gateway.port, token, started=started, model=MODEL))
        for _ in range(count)
    ]
    await wait_for(started, count)
    stopped_at = time.monotonic()
    gateway.process.send_signal(signal.SIGTERM)
    await check_drain(gateway, token)
    responses = await asyncio.gather(*streams)
    await asyncio.to_thread(gateway.process.wait, 60)
    return responses, time.monotonic() - stopped_at


async def check_drain(gateway: GatewayProcess, token: str) -> None:
    """Check that `/ready` fails, that the process accepts requests, and that it closes connections."""
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
        async with asyncio.timeout(DRAIN_S):
            assert await becomes_unready(client)
        headers = {"authorization": f"Bearer {token}"}
        response = await client.post("/v1/chat/completions", json=CHAT, headers=headers)
        assert response.status_code == 200
        assert response.headers["connection"] == "close"


async def becomes_unready(client: httpx.AsyncClient) -> bool:
    for _ in range(100):
        if (await client.get("/ready")).status_code == 503:
            return True
        await asyncio.sleep(0.01)
    return False
