"""Several processes with PostgreSQL and Redis behave like one process. Without Redis, one is allowed."""

import asyncio
import signal
import time
from collections import Counter
from contextlib import suppress
from typing import Any

import httpx
import pytest
from aiohttp import web

from projects.ids import uuid7
from tests.support.cluster import MODEL, PROMPT, Cluster
from tests.support.gateway_server import GatewayProcess
from tests.support.redis_gateways import needs_servers
from tests.support.upstream_server import chunk, completion

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
MISSES = 40


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


class CachedPrompt:
    """A prompt that the cache may answer, and a provider that holds its responses until it is opened."""

    def __init__(self, gateways: Cluster) -> None:
        self.gateways, self.calls, self.is_open = gateways, 0, False
        self.before, gateways.upstream.handler = gateways.upstream.handler, self.handle
        self.text = uuid7().hex

    async def handle(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        self.calls += 1
        while not self.is_open:  # noqa: ASYNC110  # The test opens it in another thread.
            await asyncio.sleep(0.01)
        return await completion(request, body)

    async def send(self, client: httpx.AsyncClient, token: str, process: GatewayProcess) -> str:
        """Return how a process used the cache; empty if it was killed."""
        messages = [{"role": "user", "content": self.text}]
        body = {"model": MODEL, "max_tokens": 50, "user": "u", "messages": messages, "cache": True}
        headers = {"authorization": f"Bearer {token}"}
        with suppress(httpx.TransportError):
            response = await client.post(f"{process.url}/v1/chat/completions", json=body, headers=headers)
            return str(response.headers.get("x-gateway-cache", response.status_code))
        return ""

    async def wait_until_called(self, times: int) -> None:
        async with asyncio.timeout(60):
            while self.calls < times:  # noqa: ASYNC110  # The provider counts in another thread.
                await asyncio.sleep(0.01)


async def miss_everywhere(gateways: Cluster, token: str, *, kill_holder: bool) -> tuple[int, Counter[str]]:
    """Send the same request to all processes; return the provider's calls, and the uses of the cache.

    The first process fetches the response. With `kill_holder`, it is killed during the fetch.
    """
    prompt = CachedPrompt(gateways)
    first, *others = gateways.processes
    try:
        async with gateways.client() as client:
            holder = asyncio.create_task(prompt.send(client, token, first))
            await prompt.wait_until_called(1)
            waiting = [
                asyncio.create_task(prompt.send(client, token, others[n % len(others)]))
                for n in range(MISSES)
            ]
            await asyncio.sleep(1)
            if kill_holder:
                first.stop(signal.SIGKILL)
                await prompt.wait_until_called(2)
            prompt.is_open = True
            results = Counter(await asyncio.gather(holder, *waiting))
    finally:
        prompt.is_open = True
        gateways.upstream.handler = prompt.before
    return prompt.calls, results


@needs_servers
def test_identical_misses_of_all_processes_cause_one_call(gateways: Cluster) -> None:
    calls, results = asyncio.run(miss_everywhere(gateways, gateways.new_key(), kill_holder=False))
    assert (calls, results) == (1, Counter(miss=1, hit=MISSES))


@pytest.mark.long
@needs_servers
def test_one_other_process_fetches_if_the_first_is_killed(gateways: Cluster) -> None:
    calls, results = asyncio.run(miss_everywhere(gateways, gateways.new_key(), kill_holder=True))
    gateways.processes[0].start()
    assert (calls, results) == (2, Counter({"miss": 1, "hit": MISSES - 1, "": 1}))
