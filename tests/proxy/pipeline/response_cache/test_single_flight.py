"""Single-flight: identical misses at the same time cause one call of the provider."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from aiohttp import web
from django.conf import settings

from billing.models import Outcome, UsageRecord
from keys.models import ApiKey
from projects.models import Project
from proxy.cache import redis_store, store
from proxy.cache.entry import CachedResponse
from proxy.cache.redis_store import RedisLease, RedisStore
from proxy.cache.single_flight import flights
from proxy.cache.store import Lease
from tests.support.live_gateway import LiveGateway, open_reservation_count, wait_until
from tests.support.redis_gateways import needs_servers
from tests.support.upstream_server import LocalUpstream, chunk, completion

pytestmark = pytest.mark.databases

REQUESTS, SOME = 200, 20
CHAT: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Hi"}],
    "max_tokens": 50,
    "cache": True,
}


class Gate:
    """A provider that responds when it is opened."""

    def __init__(self, upstream: LocalUpstream) -> None:
        self.upstream, self.is_open = upstream, False
        self.respond: Callable[..., Awaitable[web.StreamResponse]] = completion
        upstream.handler = self.handle

    async def handle(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        while not self.is_open:  # noqa: ASYNC110  # The test sets this in another thread.
            await asyncio.sleep(0.01)
        return await self.respond(request, body)


@pytest.fixture
def gate(upstream: LocalUpstream) -> Iterator[Gate]:
    gate = Gate(upstream)
    yield gate
    gate.is_open = True


@pytest.fixture
def client(live_gateway: LiveGateway, token: str) -> Iterator[Callable[[], httpx.AsyncClient]]:
    """Return a function that makes a client with enough connections."""

    def make() -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None)
        headers = {"authorization": f"Bearer {token}"}
        return httpx.AsyncClient(base_url=live_gateway.url, headers=headers, timeout=60, limits=limits)

    yield make


async def post(client: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await client.post("/v1/chat/completions", json={**CHAT, **fields})


async def start(client: httpx.AsyncClient, count: int, **fields: Any) -> list[asyncio.Task[httpx.Response]]:
    """Start requests, and return when all but one of them wait."""
    tasks = [asyncio.create_task(post(client, **fields)) for _ in range(count)]
    await until(lambda: waiters() == count - 1)
    return tasks


def waiters() -> int:
    return sum(flight.waiters for flight in flights.by_key.values())


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_true():  # noqa: ASYNC110  # The server changes the condition in another thread.
            await asyncio.sleep(0.01)


def statuses(responses: list[httpx.Response]) -> Counter[str]:
    return Counter(response.headers["x-gateway-cache"] for response in responses)


def assert_settled(**outcomes: int) -> None:
    total = sum(outcomes.values())
    wait_until(lambda: UsageRecord.objects.count() == total and not open_reservation_count())
    assert Counter(UsageRecord.objects.values_list("outcome", flat=True)) == Counter(outcomes)
    assert not flights.by_key


@pytest.mark.parametrize("count", [REQUESTS, pytest.param(SOME, id="streamed")])
async def test_one_of_200_identical_misses_calls_the_provider(
    client: Callable[[], httpx.AsyncClient], gate: Gate, count: int
) -> None:
    async with client() as session:
        tasks = await start(session, count, stream=count == SOME)
        gate.is_open = True
        responses = await asyncio.gather(*tasks)
    assert len(gate.upstream.requests) == 1 and len({response.content for response in responses}) == 1
    assert statuses(responses) == Counter(miss=1, hit=count - 1)
    await asyncio.to_thread(assert_settled, ok=1, cached=count - 1)


async def test_the_fetch_goes_on_if_its_client_disconnects(
    client: Callable[[], httpx.AsyncClient], gate: Gate
) -> None:
    async with client() as session:
        async with client() as leaving:
            leader = asyncio.create_task(post(leaving))
            await until(lambda: len(gate.upstream.requests) == 1)
            tasks = [asyncio.create_task(post(session)) for _ in range(SOME)]
            await until(lambda: waiters() == SOME)
            leader.cancel()
        await asyncio.sleep(0.1)
        gate.is_open = True
        responses = await asyncio.gather(*tasks)
    assert len(gate.upstream.requests) == 1 and statuses(responses) == Counter(hit=SOME)
    await asyncio.to_thread(assert_settled, ok=1, cached=SOME)


async def test_waiting_requests_share_the_error_of_the_provider(
    client: Callable[[], httpx.AsyncClient], gate: Gate
) -> None:
    error = {"error": {"message": "Too long.", "type": "invalid_request_error", "code": "too_long"}}

    async def fail(*_: object) -> web.StreamResponse:
        return web.json_response(error, status=400)

    gate.respond = fail
    async with client() as session:
        tasks = await start(session, SOME)
        gate.is_open = True
        responses = await asyncio.gather(*tasks)
    assert len(gate.upstream.requests) == 1
    assert {response.status_code for response in responses} == {400}
    assert {response.json()["error"]["message"] for response in responses} == {"Too long."}
    await asyncio.to_thread(assert_settled, upstream_error=SOME)


async def test_waiting_requests_get_an_error_if_the_stream_is_interrupted(
    client: Callable[[], httpx.AsyncClient], gate: Gate
) -> None:
    async def interrupt(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chunk({"content": "Hel"}))
        raise ConnectionResetError

    gate.respond = interrupt
    async with client() as session:
        tasks = await start(session, SOME, stream=True)
        gate.is_open = True
        responses = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [r for r in responses if isinstance(r, httpx.Response) and r.status_code == 502]
    assert len(gate.upstream.requests) == 1 and len(failed) == SOME - 1
    assert {json.loads(response.content)["error"]["code"] for response in failed} == {"upstream_status"}
    await asyncio.to_thread(assert_settled, upstream_error=SOME)


async def test_the_next_request_fetches_if_the_key_of_the_first_is_denied(
    client: Callable[[], httpx.AsyncClient],
    gate: Gate,
    live_gateway: LiveGateway,
    demo_project: Project,
) -> None:
    """A request over budget does not decide about the requests of other keys."""
    gate.is_open = True
    key, poor = await asyncio.to_thread(ApiKey.objects.issue, demo_project, "poor")
    await demo_project.budgets.acreate(key=key, period="day", limit_nano=1)
    async with client() as session:
        denied, *served = await asyncio.gather(
            session.post("/v1/chat/completions", json=CHAT, headers={"authorization": f"Bearer {poor}"}),
            *(post(session) for _ in range(5)),
        )
    assert {response.status_code for response in served} == {200}
    assert denied.status_code in (200, 429) and len(gate.upstream.requests) == 1


async def test_responses_that_may_not_be_stored_are_fetched_by_each(
    client: Callable[[], httpx.AsyncClient], gate: Gate
) -> None:
    async def filtered(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        message = {"role": "assistant", "content": ""}
        choice = {"index": 0, "message": message, "finish_reason": "content_filter"}
        return web.json_response({"id": "c", "model": body["model"], "choices": [choice]})

    gate.respond = filtered
    async with client() as session:
        tasks = await start(session, 3)
        gate.is_open = True
        responses = await asyncio.gather(*tasks)
    assert len(gate.upstream.requests) == 3 and statuses(responses) == Counter(miss=3)
    assert set(await asyncio.to_thread(lambda: {*UsageRecord.objects.values_list("outcome", flat=True)})) <= {
        Outcome.OK
    }


@needs_servers
async def test_one_request_fetches_if_the_process_that_fetched_is_killed(
    client: Callable[[], httpx.AsyncClient], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store of the test has the lease of a process that is killed: nothing renews or releases it."""
    monkeypatch.setattr(redis_store, "LEASE_S", 1.0)
    claim, killed = store.current().claim, list[RedisStore]()

    async def claim_after_killed_process(project_id: int, key: str) -> CachedResponse | Lease | None:
        if not killed:
            other = RedisStore(settings.ENV.redis_url, timeout_s=2, max_bytes=store.max_bytes)
            killed.append(other)
            await other.open()
            lease = await other.claim(project_id, key)
            assert isinstance(lease, RedisLease)
            lease.renewal.cancel()
            await other.close()
        return await claim(project_id, key)

    monkeypatch.setattr(store.current(), "claim", claim_after_killed_process)
    gate.is_open = True
    async with client() as session:
        responses = await asyncio.gather(*(post(session) for _ in range(SOME)))
    assert len(gate.upstream.requests) == 1 and statuses(responses) == Counter(miss=1, hit=SOME - 1)
    await asyncio.to_thread(assert_settled, ok=1, cached=SOME - 1)
