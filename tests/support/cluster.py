"""Several gateway processes in front of one provider that counts its charges."""

import asyncio
import os
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import redis
from aiohttp import web

from billing.pricing import Price, Tokens, bundled_price
from projects.ids import uuid7
from tests.support.databases import postgresql_server
from tests.support.environment import ON_SERVERS
from tests.support.gateway_server import GatewayProcess
from tests.support.upstream_server import LocalUpstream, completion

MODEL = "gpt-4o-mini"
PROMPT = "What is the capital of France? " * 6
BILLED = Tokens(input=60, cache_read=40, output=20)
"""Usage that the provider reports for each response (`tests/support/upstream_server.py`)."""
PROCESSES = 4 if ON_SERVERS else 1
ORPHANS_SETTLED_S = 45


@dataclass
class Cluster:
    processes: list[GatewayProcess]
    upstream: LocalUpstream
    billed_ids: Counter[str] = field(default_factory=Counter)
    """Number of times that the provider has billed each request, by the client's request id."""

    async def handle(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        """Respond as the provider, and bill the request even if nobody reads the response."""
        self.billed_ids[body["user"]] += 1
        return await completion(request, body)

    def new_key(self, *arguments: str) -> str:
        if not arguments:
            return self.processes[0].demo_key()
        return self.processes[0].manage("create_api_key", "app", "all", *arguments).split()[-1]

    def burst(self, token: str, requests: int, **changes: Any) -> Counter[int]:
        """Send requests at once, spread over all processes, and count their statuses.

        The status is 0 for a request whose process was killed.
        """
        return asyncio.run(self.burst_all(token, requests, **changes))

    async def burst_all(self, token: str, requests: int, **changes: Any) -> Counter[int]:
        async with self.client() as client:
            return Counter(
                await asyncio.gather(
                    *(self.send_request(client, token, n, **changes) for n in range(requests))
                )
            )

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=None)) as client:
            yield client

    async def send_request(self, client: httpx.AsyncClient, token: str, n: int, **changes: Any) -> int:
        id = uuid7().hex
        messages = [{"role": "user", "content": PROMPT}]
        body = {
            "model": MODEL,
            "max_tokens": 50,
            "user": id,
            "stream": n % 3 == 0,
            "messages": messages,
            **changes,
        }
        url = f"{self.processes[n % len(self.processes)].url}/v1/chat/completions"
        with suppress(httpx.TransportError):
            return (
                await client.post(
                    url, json=body, headers={"authorization": f"Bearer {token}", "x-request-id": id}
                )
            ).status_code
        return 0

    def assert_consistent(self) -> None:
        """Compare the records with what the provider has billed.

        Wait first until no reservation is open and every record is written.
        """
        deadline = time.monotonic() + ORPHANS_SETTLED_S
        while (audit := self.audit()).returncode != 0 or " 0 open reservations" not in audit.stdout:
            assert time.monotonic() < deadline, audit.stdout + audit.stderr
            time.sleep(0.5)
        while self.billed_ids.keys() - {id for id, _, _ in self.records()}:
            assert time.monotonic() < deadline, "billed by the provider but not recorded"
            time.sleep(0.5)
        rows = self.records()
        record_counts = Counter(id for id, corrects, _ in rows if corrects is None)
        assert [id for id, count in record_counts.items() if count > 1] == [], "recorded twice"
        costs: Counter[str] = Counter()
        for id, _, cost in rows:
            costs[id] += cost
        billed = price().cost(BILLED)
        assert [id for id, times in self.billed_ids.items() if costs[id] < times * billed] == [], (
            "charged less than the provider billed"
        )

    def records(self) -> list[tuple[str, object, int]]:
        """Return the request id, the corrected record and the cost of each record."""
        rows = self.query("SELECT request_id, corrects, cost_nano FROM billing_usagerecord")
        return [(id, corrects, cost) for id, corrects, cost in rows]

    def audit(self) -> subprocess.CompletedProcess[str]:
        return self.processes[0].run("audit_ledger")

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self.processes[0].query(sql)


def price() -> Price:
    bundled = bundled_price("openai", MODEL)
    assert bundled is not None
    return bundled


@contextmanager
def cluster(data: Path, servers: dict[str, str], processes: int = PROCESSES) -> Iterator[Cluster]:
    upstream = LocalUpstream().start()
    data.mkdir()
    variables = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-upstream", **servers}
    gateways = Cluster([GatewayProcess(data, **variables) for _ in range(processes)], upstream)
    upstream.handler = gateways.handle
    with ThreadPoolExecutor() as pool:
        # All start at once, as in a deployment, even on an empty database.
        list(pool.map(GatewayProcess.start, gateways.processes))
    try:
        yield gateways
    finally:
        for process in gateways.processes:
            process.stop()
        upstream.stop()


@contextmanager
def own_servers() -> Iterator[dict[str, str]]:
    """Yield a PostgreSQL with production settings and an empty Redis, if the tests run on servers."""
    if not ON_SERVERS:
        yield {}
        return
    redis_url = os.environ["REDIS_URL"].removesuffix("/0") + "/7"
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    with postgresql_server() as database:
        # A slow machine must not fail the tests.
        yield {"DATABASE_URL": database.url, "REDIS_URL": redis_url, "GATEWAY_REDIS_TIMEOUT_MS": "2000"}
