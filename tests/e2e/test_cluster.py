"""Several processes with PostgreSQL and Redis behave like one process. Without Redis, one is allowed."""

import asyncio
import time
from collections import Counter
from typing import Any

import httpx
import pytest
from aiohttp import web

from projects.ids import uuid7
from tests.support.cluster import MODEL, PROMPT, Cluster
from tests.support.upstream_server import chunk

pytestmark = pytest.mark.databases

DEMO = {
    "model": "demo/chat",
    "max_tokens": 10,
    "stream": False,
    "messages": [{"role": "user", "content": "Hi"}],
}
DEMO_USD = 0.000_033
"""Exact cost of each such request, which is also its reservation."""
DISCONNECTS = 100
RPM = 600


def assert_fifty_admitted(gateways: Cluster) -> None:
    token = gateways.new_key("--daily-budget", f"{50 * DEMO_USD:.9f}")
    assert gateways.burst(token, 200, **DEMO) == Counter({429: 150, 200: 50})


def test_budget_for_fifty_admits_fifty_of_two_hundred_at_once(gateways: Cluster) -> None:
    for _ in range(2):
        assert_fifty_admitted(gateways)
    gateways.assert_consistent()


@pytest.mark.long
def test_budget_for_fifty_admits_fifty_twenty_times_in_a_row(gateways: Cluster) -> None:
    for _ in range(20):
        assert_fifty_admitted(gateways)
    gateways.assert_consistent()


def test_disconnecting_clients_pay_for_the_output_sent(gateways: Cluster) -> None:
    """Each client has one record. Their total output is within 2 % of what the provider sent."""
    sent: Counter[str] = Counter()

    async def stream_slowly(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        while True:
            await response.write(chunk({"content": "word "}))
            sent[body["user"]] += 1
            await asyncio.sleep(0.25)

    before, gateways.upstream.handler = gateways.upstream.handler, stream_slowly
    token = gateways.new_key("--daily-budget", "100")
    try:
        asyncio.run(disconnect_midstream(gateways, token))
        deadline = time.monotonic() + 20
        while len(rows := records_of(gateways, sent)) < DISCONNECTS:
            assert time.monotonic() < deadline, f"{len(rows)} records of {DISCONNECTS}"
            time.sleep(0.2)
    finally:
        gateways.upstream.handler = before
    assert len(rows) == len(sent) == DISCONNECTS
    assert {outcome for _, outcome, _ in rows} == {"client_closed"}
    billed = sum(sent.values())
    assert abs(sum(output for *_, output in rows) - billed) <= 0.02 * billed
    gateways.assert_consistent()


def records_of(gateways: Cluster, sent: Counter[str]) -> list[tuple[str, str, int]]:
    rows = gateways.query("SELECT request_id, outcome, output_tokens FROM billing_usagerecord")
    return [(id, outcome, output) for id, outcome, output in rows if id in sent]


async def disconnect_midstream(gateways: Cluster, token: str) -> None:
    async with gateways.client() as client:
        await asyncio.gather(*(read_some(gateways, client, token, n) for n in range(DISCONNECTS)))


async def read_some(gateways: Cluster, client: httpx.AsyncClient, token: str, n: int) -> None:
    id = uuid7().hex
    body = {
        "model": MODEL,
        "max_tokens": 500,
        "user": id,
        "stream": True,
        "messages": [{"role": "user", "content": PROMPT}],
    }
    headers = {"authorization": f"Bearer {token}", "x-request-id": id}
    url = f"{gateways.processes[n % len(gateways.processes)].url}/v1/chat/completions"
    async with client.stream("POST", url, json=body, headers=headers) as response:
        lines = (line async for line in response.aiter_lines() if line)
        for _ in range(4 + n % 8):
            await anext(lines)


@pytest.mark.long
def test_rate_limit_admits_its_rate_under_triple_load(gateways: Cluster) -> None:
    token = gateways.new_key("--rpm", str(RPM))
    statuses = asyncio.run(offer_load(gateways, token, 3 * RPM / 60, minutes=2))
    assert abs(statuses[200] - 2 * RPM) <= 0.01 * 2 * RPM, statuses
    assert statuses[200] + statuses[429] == 2 * 3 * RPM


async def offer_load(gateways: Cluster, token: str, per_second: float, minutes: float) -> Counter[int]:
    async with gateways.client() as client:
        tasks = []
        started = time.monotonic()
        for n in range(int(per_second * 60 * minutes)):
            await asyncio.sleep(max(started + n / per_second - time.monotonic(), 0))
            tasks.append(asyncio.create_task(gateways.send_request(client, token, n, **DEMO)))
        return Counter(await asyncio.gather(*tasks))
