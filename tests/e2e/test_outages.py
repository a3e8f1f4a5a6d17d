"""Outages of PostgreSQL and Redis under load.

Requests that can be served are served, no key gets a 401, and the ledger is consistent afterwards.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from keys.tokens import Token
from tests.support.cluster import Cluster, cluster
from tests.support.databases import Server, postgresql_server, valkey_server
from tests.support.environment import ON_SERVERS

pytestmark = [
    pytest.mark.databases,
    pytest.mark.skipif(not ON_SERVERS, reason="the embedded mode has no servers"),
]

PROCESSES = 2
WARM_KEYS = 40
RECOVERY_S = 1
"""Seconds of load before an outage and after it."""
LONG_TIMEOUT = {"GATEWAY_REDIS_TIMEOUT_MS": "2000"}
"""While Redis is up, a slow machine must not fail the tests."""
SHORT_TIMEOUT = {"GATEWAY_DATABASE_TIMEOUT_S": "1"}
MAX_RESPONSE_S = 8
"""Longest response time while a server hangs: its timeout, and the time for a new connection."""
SHORT_S, SHORT_RPS = 3, 20
LONG_S, LONG_RPS = 30, 40
RECOVERY_TIMEOUT_S = 15


@dataclass
class Site:
    gateways: Cluster
    database: Server
    store: Server

    def send_load(self, rate: float, meanwhile: Callable[[], None]) -> dict[str, Counter[int]]:
        """Send requests while `meanwhile` runs, and count the statuses for each of two keys.

        One key has a budget, the other a rate limit.
        """
        tokens = {
            "budget": self.gateways.new_key("--daily-budget", "1000"),
            "limit": self.gateways.new_key("--rpm", "100000"),
        }
        for token in tokens.values():
            assert self.gateways.burst(token, WARM_KEYS) == {200: WARM_KEYS}
        return asyncio.run(self.send_during(tokens, rate, meanwhile))

    async def send_during(
        self, tokens: dict[str, str], rate: float, meanwhile: Callable[[], None]
    ) -> dict[str, Counter[int]]:
        outage_task = asyncio.create_task(asyncio.to_thread(meanwhile))
        tasks: dict[str, list[asyncio.Task[int]]] = {kind: [] for kind in tokens}
        async with self.gateways.client() as client:
            n = 0
            while not outage_task.done():
                for kind, token in tokens.items():
                    tasks[kind].append(asyncio.create_task(self.gateways.send_request(client, token, n)))
                n += 1
                await asyncio.sleep(1 / rate)
            await outage_task
            return {kind: Counter(await asyncio.gather(*sent)) for kind, sent in tasks.items()}

    def probe(self) -> dict[str, tuple[int, Any]]:
        """Return three responses: to a key that is not cached, to a signed-in user's page, and of /ready."""
        url, body = self.gateways.processes[0].url, {"model": "gpt-4o-mini", "messages": [], "max_tokens": 1}
        with httpx.Client(
            base_url=url, timeout=MAX_RESPONSE_S + 4, cookies={"sessionid": "0" * 32}
        ) as client:
            uncached = client.post(
                "/v1/chat/completions", json=body, headers={"x-api-key": str(Token.generate())}
            )
            page = client.get("/accounts/email/")
            ready = client.get("/ready")
        return {
            "uncached": (uncached.status_code, uncached.headers.get("retry-after")),
            "page": (page.status_code, page.headers.get("retry-after")),
            "ready": (ready.status_code, ready.json().get("degraded", [])),
        }

    def assert_consistent(self) -> None:
        """Assert that the gateway recovers by itself, and that no record is lost or doubled."""
        token, deadline = (
            self.gateways.new_key("--daily-budget", "1000"),
            time.monotonic() + RECOVERY_TIMEOUT_S,
        )
        while (statuses := self.gateways.burst(token, WARM_KEYS)) != {200: WARM_KEYS}:
            assert time.monotonic() < deadline, statuses
            time.sleep(0.5)
        self.gateways.assert_consistent()


@contextmanager
def site(data: Path, **variables: str) -> Iterator[Site]:
    with postgresql_server() as database, valkey_server(append_only=True) as store:
        addresses = {"DATABASE_URL": database.url, "REDIS_URL": store.url, **variables}
        with cluster(data, addresses, processes=PROCESSES) as gateways:
            yield Site(gateways, database, store)


def outage(seconds: float, start: Callable[[], None], end: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        time.sleep(RECOVERY_S)
        start()
        time.sleep(seconds)
        end()
        time.sleep(RECOVERY_S)

    return run


def assert_served_without_postgresql(data: Path, seconds: float, rate: float) -> None:
    """Assert that at least 999 of 1,000 requests with cached keys are served."""
    with site(data, **LONG_TIMEOUT) as place:
        for statuses in place.send_load(
            rate, outage(seconds, place.database.stop, place.database.start)
        ).values():
            assert statuses[401] == 0 and statuses[200] >= 0.999 * statuses.total(), statuses
        place.assert_consistent()


def assert_served_while_postgresql_is_frozen(data: Path, seconds: float, rate: float) -> None:
    with site(data, **LONG_TIMEOUT, **SHORT_TIMEOUT) as place:
        during: dict[str, tuple[int, Any]] = {}

        def probe_and_resume() -> None:
            during.update(place.probe())
            place.database.resume()

        for statuses in place.send_load(
            rate, outage(seconds, place.database.pause, probe_and_resume)
        ).values():
            assert statuses[401] == 0 and statuses[200] >= 0.999 * statuses.total(), statuses
        assert during == {"uncached": (503, "2"), "page": (503, "5"), "ready": (200, ["database"])}
        place.assert_consistent()
        assert place.probe()["ready"] == (200, [])


def assert_bounded_on_postgresql_alone(data: Path, seconds: float) -> None:
    """Assert that no request of one process waits for a hung server, and that the ledger recovers."""
    with (
        postgresql_server() as database,
        cluster(data, {"DATABASE_URL": database.url, **SHORT_TIMEOUT}, processes=1) as gateways,
    ):
        token = gateways.new_key("--daily-budget", "1000")
        assert gateways.burst(token, WARM_KEYS) == {200: WARM_KEYS}
        statuses, slowest_s = asyncio.run(send_while_frozen(gateways, token, database, seconds))
        assert statuses[503] > 10 and statuses.keys() <= {200, 503}, statuses
        assert slowest_s < MAX_RESPONSE_S / 2
        deadline = time.monotonic() + RECOVERY_TIMEOUT_S
        while (again := gateways.burst(token, WARM_KEYS)) != {200: WARM_KEYS}:
            assert time.monotonic() < deadline, again
        gateways.assert_consistent()


async def send_while_frozen(
    gateways: Cluster, token: str, database: Server, seconds: float
) -> tuple[Counter[int], float]:
    """Send requests while the server freezes, some within a transaction.

    Return the counts of their statuses, and the seconds of the slowest one.
    """
    loop = asyncio.get_running_loop()

    async def ask(client: httpx.AsyncClient) -> tuple[int, float]:
        started = loop.time()
        return await gateways.send_request(client, token, 1), loop.time() - started

    async with gateways.client() as client:
        tasks = []
        freezing = asyncio.create_task(asyncio.to_thread(outage(seconds, database.pause, database.resume)))
        while not freezing.done():
            tasks.append(asyncio.create_task(ask(client)))
            await asyncio.sleep(1 / SHORT_RPS)
        results = await asyncio.gather(*tasks)
    return Counter(status for status, _ in results), max(took for _, took in results)


def assert_safe_without_redis(data: Path, seconds: float, rate: float, *, frozen: bool) -> None:
    """Assert that keys with a budget are denied during the outage, and others are served."""
    with site(data) as place:
        store = place.store
        stop, resume = (store.pause, store.resume) if frozen else (store.kill, store.start)
        degraded: list[Any] = []

        def probe_and_resume() -> None:
            degraded.extend(place.probe()["ready"])
            resume()

        statuses = place.send_load(rate, outage(seconds, stop, probe_and_resume))
        assert degraded == [200, ["redis"]]
        assert statuses["limit"].keys() == {200}, statuses
        assert statuses["budget"].keys() == {200, 503}, statuses
        place.assert_consistent()


def test_postgresql_outage_does_not_affect_cached_keys(tmp_path: Path) -> None:
    assert_served_without_postgresql(tmp_path / "data", SHORT_S, SHORT_RPS)


def test_frozen_postgresql_serves_cached_keys_and_fails_others_fast(tmp_path: Path) -> None:
    assert_served_while_postgresql_is_frozen(tmp_path / "data", SHORT_S, SHORT_RPS)


def test_postgresql_only_requests_do_not_wait_for_a_hung_server(tmp_path: Path) -> None:
    assert_bounded_on_postgresql_alone(tmp_path / "data", 2 * SHORT_S)


def test_killed_redis_denies_budgeted_and_allows_limited_requests(tmp_path: Path) -> None:
    assert_safe_without_redis(tmp_path / "data", SHORT_S, SHORT_RPS, frozen=False)


def test_frozen_redis_denies_budgeted_and_allows_limited_requests(tmp_path: Path) -> None:
    assert_safe_without_redis(tmp_path / "data", SHORT_S, SHORT_RPS, frozen=True)


@pytest.mark.long
def test_long_postgresql_outage_does_not_affect_cached_keys(tmp_path: Path) -> None:
    assert_served_without_postgresql(tmp_path / "data", LONG_S, LONG_RPS)


@pytest.mark.long
def test_long_freeze_of_postgresql_does_not_affect_cached_keys(tmp_path: Path) -> None:
    assert_served_while_postgresql_is_frozen(tmp_path / "data", LONG_S, LONG_RPS)


@pytest.mark.long
def test_postgresql_only_requests_do_not_wait_during_a_long_hang(tmp_path: Path) -> None:
    assert_bounded_on_postgresql_alone(tmp_path / "data", LONG_S)


@pytest.mark.long
@pytest.mark.parametrize("frozen", [False, True])
def test_long_redis_outage_denies_budgeted_requests(tmp_path: Path, frozen: bool) -> None:
    assert_safe_without_redis(tmp_path / "data", LONG_S, LONG_RPS, frozen=frozen)
