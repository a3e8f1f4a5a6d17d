"""The servers behind several gateway processes go away under load: who can be served is, nobody hears 401, and the books agree."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.environment import ON_SERVERS
from tests.fleet import Fleet, fleet
from tests.services import Server, postgresql_server, valkey_server

pytestmark = [pytest.mark.databases, pytest.mark.skipif(not ON_SERVERS, reason="the embedded mode has no servers")]

PROCESSES = 2
WARM = 40
CALM_S = 1
"""Of load before a server goes away, and after it is back."""
PATIENT = {"GATEWAY_REDIS_TIMEOUT_MS": "2000"}
"""Where Redis is well, a slow machine is no failure."""
SHORT_S, SHORT_RPS = 3, 20
LONG_S, LONG_RPS = 30, 40
BACK_S = 15


@dataclass
class Site:
    gateways: Fleet
    database: Server
    store: Server

    def offer(self, rate: float, meanwhile: Callable[[], None]) -> dict[str, Counter[int]]:
        """What a key with a budget and one that only has a limit are answered while something happens."""
        tokens = {"budget": self.gateways.new_key("--daily-budget", "1000"), "limit": self.gateways.new_key("--rpm", "100000")}
        for token in tokens.values():
            assert self.gateways.storm(token, WARM) == {200: WARM}
        return asyncio.run(self.ask_while(tokens, rate, meanwhile))

    async def ask_while(self, tokens: dict[str, str], rate: float, meanwhile: Callable[[], None]) -> dict[str, Counter[int]]:
        happening = asyncio.create_task(asyncio.to_thread(meanwhile))
        asking: dict[str, list[asyncio.Task[int]]] = {kind: [] for kind in tokens}
        async with self.gateways.client() as client:
            n = 0
            while not happening.done():
                for kind, token in tokens.items():
                    asking[kind].append(asyncio.create_task(self.gateways.ask(client, token, n)))
                n += 1
                await asyncio.sleep(1 / rate)
            await happening
            return {kind: Counter(await asyncio.gather(*tasks)) for kind, tasks in asking.items()}

    def assert_well(self) -> None:
        """All of it comes back by itself, and nothing is lost or kept twice."""
        token, deadline = self.gateways.new_key("--daily-budget", "1000"), time.monotonic() + BACK_S
        while (answered := self.gateways.storm(token, WARM)) != {200: WARM}:
            assert time.monotonic() < deadline, answered
            time.sleep(0.5)
        self.gateways.verify()


@contextmanager
def site(data: Path, **variables: str) -> Iterator[Site]:
    with postgresql_server() as database, valkey_server(append_only=True) as store:
        addresses = {"DATABASE_URL": database.url, "REDIS_URL": store.url, **variables}
        with fleet(data, addresses, processes=PROCESSES) as gateways:
            yield Site(gateways, database, store)


def away(seconds: float, go: Callable[[], None], come_back: Callable[[], None]) -> Callable[[], None]:
    def happen() -> None:
        time.sleep(CALM_S)
        go()
        time.sleep(seconds)
        come_back()
        time.sleep(CALM_S)

    return happen


def assert_served_without_postgresql(data: Path, seconds: float, rate: float) -> None:
    """Keys that were seen lately: at least 999 of 1,000 requests."""
    with site(data, **PATIENT) as place:
        for answered in place.offer(rate, away(seconds, place.database.stop, place.database.start)).values():
            assert answered[401] == 0 and answered[200] >= 0.999 * answered.total(), answered
        place.assert_well()


def assert_safe_without_redis(data: Path, seconds: float, rate: float, *, frozen: bool) -> None:
    """Budgets are closed meanwhile, limits are not."""
    with site(data) as place:
        store = place.store
        absence = away(seconds, store.pause, store.resume) if frozen else away(seconds, store.kill, store.start)
        answered = place.offer(rate, absence)
        assert answered["limit"].keys() == {200}, answered
        assert answered["budget"].keys() == {200, 503}, answered
        place.assert_well()


def test_while_postgresql_is_away_warm_keys_are_served(tmp_path: Path) -> None:
    assert_served_without_postgresql(tmp_path / "data", SHORT_S, SHORT_RPS)


def test_while_redis_is_killed_budgets_are_closed_and_limits_are_not(tmp_path: Path) -> None:
    assert_safe_without_redis(tmp_path / "data", SHORT_S, SHORT_RPS, frozen=False)


def test_while_redis_is_frozen_budgets_are_closed_and_limits_are_not(tmp_path: Path) -> None:
    assert_safe_without_redis(tmp_path / "data", SHORT_S, SHORT_RPS, frozen=True)


@pytest.mark.long
def test_while_postgresql_is_away_for_half_a_minute_warm_keys_are_served(tmp_path: Path) -> None:
    assert_served_without_postgresql(tmp_path / "data", LONG_S, LONG_RPS)


@pytest.mark.long
@pytest.mark.parametrize("frozen", [False, True])
def test_while_redis_is_away_for_half_a_minute_budgets_are_closed(tmp_path: Path, frozen: bool) -> None:
    assert_safe_without_redis(tmp_path / "data", LONG_S, LONG_RPS, frozen=frozen)
