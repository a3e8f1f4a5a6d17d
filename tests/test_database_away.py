"""While the database is away, keys that were seen lately keep working from memory, and nobody is told that their key is wrong."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.db import OperationalError

from keys.models import ApiKey
from keys.tokens import Token
from projects import configcache
from projects.configcache import ConfigCache, database
from projects.models import Project
from tests.live import LiveGateway

CHAT = {"model": "demo/chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
really_run = configcache.run


def away(*_: Any) -> None:
    raise OperationalError("connection refused")


@pytest.fixture(autouse=True)
def database_comes_back() -> Iterator[None]:
    before = settings.ENV
    yield
    settings.ENV = before
    configcache.run = really_run
    database.is_away = False


def stale_after(seconds: float) -> None:
    settings.ENV = settings.ENV.model_copy(update={"gateway_stale_config_s": seconds})


def post(live: LiveGateway, token: str) -> httpx.Response:
    return httpx.post(f"{live.url}/v1/chat/completions", json=CHAT, headers={"x-api-key": token}, timeout=10)


def ready(live: LiveGateway) -> tuple[int, Any]:
    answer = httpx.get(f"{live.url}/ready")
    return answer.status_code, answer.json()


def wait_for(condition: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


@pytest.mark.databases
def test_a_key_seen_lately_works_and_an_unknown_one_is_a_503(live_gateway: LiveGateway, demo_project: Project) -> None:
    (known, seen), (_, unseen) = ApiKey.objects.mint(demo_project, "seen"), ApiKey.objects.mint(demo_project, "unseen")
    assert post(live_gateway, seen).status_code == 200
    configcache.run = away  # type: ignore[assignment]
    assert post(live_gateway, seen).status_code == 200
    configcache.drop_all()
    assert [post(live_gateway, seen).status_code for _ in range(3)] == [200] * 3, "what was dropped is remembered"
    for token in (unseen, str(Token.mint())):
        answer = post(live_gateway, token)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "service_unavailable")
        assert answer.headers["retry-after"]
    assert post(live_gateway, str(Token(known.public_id, "x" * 32))).status_code == 401, "it is known to be wrong"
    wait_for(lambda: ready(live_gateway) == (200, {"status": "ready", "degraded": ["database"]}))
    configcache.run = really_run
    wait_for(lambda: ready(live_gateway) == (200, {"status": "ready"}))
    assert post(live_gateway, unseen).status_code == 200


@pytest.mark.databases
def test_after_a_while_nothing_is_served_from_memory(live_gateway: LiveGateway, demo_project: Project) -> None:
    _, token = ApiKey.objects.mint(demo_project, "app")
    assert post(live_gateway, token).status_code == 200
    stale_after(4)
    configcache.run = away  # type: ignore[assignment]
    assert post(live_gateway, token).status_code == 200
    wait_for(lambda: post(live_gateway, token).status_code == 503, seconds=15)
    configcache.run = really_run
    wait_for(lambda: post(live_gateway, token).status_code == 200)


@pytest.mark.databases
def test_a_database_that_says_nothing_keeps_known_keys_from_nothing(
    live_gateway: LiveGateway, demo_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = threading.Event()
    monkeypatch.setattr(configcache, "POLL_TIMEOUT_S", 0.2)
    monkeypatch.setattr(configcache, "READ_TIMEOUT_S", 0.5)
    _, token = ApiKey.objects.mint(demo_project, "app")
    assert post(live_gateway, token).status_code == 200
    configcache.run = lambda query, *args: back.wait(20) and really_run(query, *args)  # type: ignore[assignment]
    wait_for(lambda: database.is_away)
    configcache.drop_all()
    started = time.monotonic()
    assert post(live_gateway, token).status_code == 200 and time.monotonic() - started < 0.4
    assert post(live_gateway, str(Token.mint())).status_code == 503
    back.set()
    wait_for(lambda: not database.is_away)


@pytest.fixture
def rows() -> dict[str, str]:
    return {"a": "1"}


@pytest.fixture
def cache(rows: dict[str, str]) -> ConfigCache[str, str]:
    return ConfigCache(rows.__getitem__)


async def test_what_was_dropped_is_read_again_while_the_database_answers(cache: ConfigCache[str, str], rows: dict[str, str]) -> None:
    assert await cache.get("a") == "1"
    rows["a"] = "2"
    assert await cache.get("a") == "1"
    cache.drop()
    assert await cache.get("a") == "2"


async def test_what_is_gone_does_not_come_back_when_the_database_goes_away(cache: ConfigCache[str, str], rows: dict[str, str]) -> None:
    await cache.get("a")
    del rows["a"]
    cache.drop()
    with pytest.raises(LookupError):
        await cache.get("a")
    configcache.run = away  # type: ignore[assignment]
    with pytest.raises(OperationalError):
        await cache.get("a")


async def test_only_what_was_known_lately_is_remembered(cache: ConfigCache[str, str]) -> None:
    await cache.get("a")
    cache.drop()
    cache.drop()
    configcache.run = away  # type: ignore[assignment]
    assert await cache.get("a") == "1"
    stale_after(-1)
    with pytest.raises(OperationalError):
        await cache.get("a")
    cache.drop()
    assert not cache.dropped


async def test_a_value_that_is_read_while_all_are_dropped_is_known_when_the_database_goes_away() -> None:
    reading, go_on = threading.Event(), threading.Event()

    def load(key: str) -> str:
        reading.set()
        assert go_on.wait(5)
        return key.upper()

    cache = configcache.ConfigCache(load)
    asking = asyncio.create_task(cache.get("a"))
    await asyncio.to_thread(reading.wait, 5)
    cache.drop()
    go_on.set()
    assert await asking == "A" and not cache.holds("a")
    assert cache.recall("a") == "A"
