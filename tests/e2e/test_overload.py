"""Five times the load that a process accepts: most capacity is used, and refusals are quick."""

import asyncio
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from proxy.http.load_shedder import FAIR_SHARE_FRACTION
from tests.support.gateway_server import GatewayProcess
from tests.support.upstream_server import LocalUpstream, completion

MODEL = "gpt-4o-mini"
LIMIT = 50
CAPACITY = int(LIMIT * FAIR_SHARE_FRACTION)
"""Requests of one project that the process has in flight at most."""
UPSTREAM_S = 0.5
QUIET_RPS = 5


@dataclass
class Load:
    """Sends requests at a fixed rate, whether or not earlier ones have ended, and counts the responses."""

    url: str
    token: str
    served: int = 0
    others: list[int] = field(default_factory=list)
    refusals_s: list[float] = field(default_factory=list)

    async def offer(self, session: aiohttp.ClientSession, rate: float, seconds: float) -> None:
        """Send this many requests per second."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(int(rate * seconds)):
                tasks.create_task(self.ask(session))
                await asyncio.sleep(1 / rate)

    async def ask(self, session: aiohttp.ClientSession) -> None:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
        headers, asked_at = {"authorization": f"Bearer {self.token}"}, time.perf_counter()
        async with session.post(f"{self.url}/v1/chat/completions", json=body, headers=headers) as response:
            await response.read()
        if response.status == 200:
            self.served += 1
        elif response.status == 503 and response.headers["retry-after"] == "1":
            self.refusals_s.append(time.perf_counter() - asked_at)
        else:
            self.others.append(response.status)


async def slow_completion(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    await asyncio.sleep(UPSTREAM_S)
    return await completion(request, body)


@pytest.fixture
def limited_gateway(tmp_path: Path, upstream: LocalUpstream) -> Iterator[GatewayProcess]:
    upstream.handler = slow_completion
    (tmp_path / "data").mkdir()
    variables = {"OPENAI_API_KEY": "sk-x", "OPENAI_BASE_URL": upstream.url}
    limit = {"GATEWAY_MAX_CONCURRENT_REQUESTS": str(LIMIT)}
    gateway = GatewayProcess(tmp_path / "data", **variables, **limit).start()
    yield gateway
    gateway.stop(signal.SIGKILL)


def quiet_token(gateway: GatewayProcess) -> str:
    """Return a key of a second project."""
    code = (
        "from keys.models import ApiKey; from projects.models import Project; "
        "quiet = Project.objects.create_with_owner('Quiet', uses_operator_credentials=True); "
        "print(ApiKey.objects.issue(quiet, 'app')[1])"
    )
    return gateway.manage("shell", "-v0", "-c", code).split()[-1]


@pytest.mark.parametrize(
    ("seconds", "goodput_min", "refusal_s"),
    [(3, 0.5, 2.0), pytest.param(30, 0.8, 0.1, marks=pytest.mark.long)],
)
def test_overload_keeps_the_goodput_and_refuses_quickly(
    limited_gateway: GatewayProcess, seconds: float, goodput_min: float, refusal_s: float
) -> None:
    (token,) = set(re.findall(r"sk-gw_\w+", limited_gateway.output.read_text()))
    busy, quiet = Load(limited_gateway.url, token), Load(limited_gateway.url, quiet_token(limited_gateway))
    peak_rps = CAPACITY / UPSTREAM_S

    async def run() -> float:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as tasks:
            started_at = time.perf_counter()
            tasks.create_task(busy.offer(session, 5 * peak_rps, seconds))
            tasks.create_task(quiet.offer(session, QUIET_RPS, seconds))
        return time.perf_counter() - started_at

    elapsed_s = asyncio.run(run())
    goodput = (busy.served + quiet.served) / (elapsed_s * peak_rps)
    latencies = sorted(busy.refusals_s)
    p99_s = latencies[int(len(latencies) * 0.99)]
    print(
        f"goodput {goodput:.0%} of {peak_rps:.0f} rps, {len(latencies)} refusals, p99 {p99_s * 1000:.0f} ms"
    )
    assert not busy.others and not quiet.others and not quiet.refusals_s
    assert goodput >= goodput_min
    assert p99_s <= refusal_s
    records = limited_gateway.query("SELECT outcome, COUNT(*) FROM billing_usagerecord GROUP BY outcome")
    assert records == [("ok", busy.served + quiet.served)]
