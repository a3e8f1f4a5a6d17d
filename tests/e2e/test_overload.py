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

from billing.models import UsageRecord
from keys.models import ApiKey
from projects.models import Project
from proxy.http.load_shedder import FAIR_SHARE_FRACTION, load_shedder
from tests.support.gateway_server import GatewayProcess
from tests.support.live_gateway import LiveGateway, wait_until
from tests.support.upstream_server import LocalUpstream, completion

MODEL = "gpt-4o-mini"
LIMIT = 50
LONG_S = 30.0
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
        started_at = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for number in range(int(rate * seconds)):
                await asyncio.sleep(max(started_at + number / rate - time.perf_counter(), 0))
                tasks.create_task(self.ask(session))

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


def quiet_token() -> str:
    """Return a key of a second project."""
    quiet = Project.objects.create_with_owner("Quiet", slug="quiet", uses_operator_credentials=True)
    return ApiKey.objects.issue(quiet, "app")[1]


QUIET_TOKEN = (
    "from keys.models import ApiKey; from projects.models import Project; "
    "quiet = Project.objects.create_with_owner('Quiet', uses_operator_credentials=True); "
    "print(ApiKey.objects.issue(quiet, 'app')[1])"
)
"""Code that prints such a key in another process."""


def offer_overload(url: str, busy_token: str, token: str, limit: int, seconds: float) -> tuple[Load, Load]:
    """Offer five times what a process can serve; return the load of two projects.

    Only one of the projects sends more than its share.
    """
    busy, quiet = Load(url, busy_token), Load(url, token)

    async def run() -> None:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as tasks:
            tasks.create_task(busy.offer(session, 5 * peak_rps(limit), seconds))
            tasks.create_task(quiet.offer(session, QUIET_RPS, seconds))

    asyncio.run(run())
    return busy, quiet


def peak_rps(limit: int) -> float:
    """Return the requests per second of one project that the process can serve."""
    return limit * FAIR_SHARE_FRACTION / UPSTREAM_S


def goodput(busy: Load, quiet: Load, limit: int, seconds: float) -> float:
    """Return the part of the capacity that was used. The last requests end after the load."""
    return (busy.served + quiet.served) / ((seconds + UPSTREAM_S) * peak_rps(limit))


def test_overload_keeps_the_goodput(
    live_gateway: LiveGateway, upstream: LocalUpstream, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.handler = slow_completion
    monkeypatch.setattr(load_shedder, "limit", 20)
    busy, quiet = offer_overload(live_gateway.url, token, quiet_token(), 20, 1.5)
    assert not busy.others and not quiet.others and not quiet.refusals_s
    assert goodput(busy, quiet, 20, 1.5) >= 0.4 and len(busy.refusals_s) > busy.served
    wait_until(lambda: UsageRecord.objects.count() == busy.served + quiet.served)


@pytest.mark.long
def test_overload_of_a_process(limited_gateway: GatewayProcess) -> None:
    (token,) = set(re.findall(r"sk-gw_\w+", limited_gateway.output.read_text()))
    other_token = limited_gateway.manage("shell", "-v0", "-c", QUIET_TOKEN).split()[-1]
    busy, quiet = offer_overload(limited_gateway.url, token, other_token, LIMIT, LONG_S)
    used, latencies = goodput(busy, quiet, LIMIT, LONG_S), sorted(busy.refusals_s)
    p99_s = latencies[int(len(latencies) * 0.99)]
    print(f"Goodput: {used:.0%} of {peak_rps(LIMIT):.0f} rps.")
    print(f"{len(latencies)} refusals, 99 % of them within {p99_s * 1000:.0f} ms.")
    assert not busy.others and not quiet.others and not quiet.refusals_s
    assert used >= 0.8 and p99_s <= 0.1
    records = limited_gateway.query("SELECT outcome, COUNT(*) FROM billing_usagerecord GROUP BY outcome")
    assert records == [("ok", busy.served + quiet.served)]
