"""Admission and charges of responses that may run in the background."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from aiohttp import web

from billing.models import Budget, Outcome
from keys.models import ApiKey
from projects.models import Project
from proxy.models import BackgroundResponse
from tests.proxy.pipeline.background.responses import (
    COST,
    CREATE,
    create,
    settled_record,
)
from tests.support.live_gateway import LiveGateway, only_record, wait_until
from tests.support.responses_provider import ResponsesProvider
from tests.support.upstream_server import LocalUpstream

pytestmark = pytest.mark.databases


@pytest.mark.parametrize("unpriced", ["closed", "open"])
def test_a_hard_budget_refuses_it(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    change_environment: Any,
    unpriced: str,
) -> None:
    change_environment(gateway_unpriced=unpriced)
    key, token = ApiKey.objects.issue(demo_project, "app")
    Budget.objects.create(project=demo_project, key=key, period="day", limit_nano=10**12)
    for stream in (False, True):
        body = CREATE | {"stream": stream}
        refused = httpx.post(f"{live_gateway.url}/v1/responses", json=body, headers={"x-api-key": token})
        error = refused.json()["error"]
        assert (refused.status_code, error["type"], error["param"]) == (400, "invalid_request", "background")
        assert "a hard budget cannot cover it" in error["message"]
    assert not upstream.requests


def test_a_soft_budget_counts_it_when_its_cost_is_known(
    live_gateway: LiveGateway, provider: ResponsesProvider, demo_project: Project
) -> None:
    key, token = ApiKey.objects.issue(demo_project, "app")
    Budget.objects.create(project=demo_project, key=key, period="day", limit_nano=10**12, mode="soft")
    headers = {"x-api-key": token}

    def spent() -> tuple[int, int]:
        data = httpx.get(f"{live_gateway.url}/api/v1/usage/budget", headers=headers).json()["data"]
        return data["daily"]["spentNanoUsd"], data["daily"]["reservedNanoUsd"]

    assert httpx.post(f"{live_gateway.url}/v1/responses", json=CREATE, headers=headers).status_code == 200
    assert spent() == (0, 0)
    provider.finish("resp_1")
    wait_until(lambda: spent() == (COST, 0))


def test_it_holds_no_slot_while_it_runs(
    live_gateway: LiveGateway, provider: ResponsesProvider, demo_project: Project
) -> None:
    key, token = ApiKey.objects.issue(demo_project, "app")
    key.concurrency_limit = 1
    key.save()
    for _ in range(3):
        created = httpx.post(f"{live_gateway.url}/v1/responses", json=CREATE, headers={"x-api-key": token})
        assert created.status_code == 200
    assert len(provider.responses) == 3


@pytest.mark.parametrize("model", ["demo/chat"])
def test_a_provider_of_another_format_cannot_run_it(gateway: httpx.Client, model: str) -> None:
    refused = gateway.post("/v1/responses", json=CREATE | {"model": model})
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, "background")
    assert "served by the Responses API" in error["message"]


def test_a_server_that_ignores_the_field_is_charged_as_usual(
    gateway: httpx.Client, upstream: LocalUpstream, provider: ResponsesProvider
) -> None:
    async def ignore(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await provider.handle(request, body | {"background": False})

    upstream.handler = ignore
    response = gateway.post("/v1/responses", json=CREATE)
    assert response.json()["status"] == "completed" and response.headers["x-cost-usd"]
    assert only_record().cost_nano == COST and not BackgroundResponse.objects.exists()


def test_a_client_that_leaves_during_the_creation_is_charged(
    gateway: httpx.Client, upstream: LocalUpstream, provider: ResponsesProvider
) -> None:
    async def slow(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if request.method == "POST":
            await asyncio.sleep(0.5)
        return await provider.handle(request, body)

    upstream.handler = slow
    with pytest.raises(httpx.ReadTimeout):
        gateway.post("/v1/responses", json=CREATE, timeout=0.2)
    wait_until(lambda: "resp_1" in provider.responses)
    provider.finish("resp_1")
    assert settled_record().cost_nano == COST


def test_a_call_whose_response_is_lost_is_charged_the_allowed_output(
    gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    """The provider continues the response even if the connection breaks."""

    async def close(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    upstream.handler = close
    assert gateway.post("/v1/responses", json=CREATE).status_code == 502
    record = only_record()
    assert record.estimated and record.output_tokens == 4096


def test_a_stream_without_a_first_event_is_charged_the_allowed_output(
    gateway: httpx.Client, upstream: LocalUpstream, change_environment: Callable[..., None]
) -> None:
    change_environment(gateway_keepalive_after_s=0.05)

    async def hang(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b": hello\n\n")
        await asyncio.sleep(20)
        return response

    upstream.handler = hang
    with gateway.stream("POST", "/v1/responses", json=CREATE | {"stream": True}) as streamed:
        next(streamed.iter_raw())
    record = only_record()
    assert (record.outcome, record.estimated, record.output_tokens) == (Outcome.CLIENT_CLOSED, True, 4096)


def test_its_end_is_counted(gateway: httpx.Client, provider: ResponsesProvider) -> None:
    counter = 'gateway_background_responses_total{outcome="upstream_error"}'
    before = metric(gateway, counter)
    provider.finish(create(gateway), "failed")
    record = settled_record()
    wait_until(lambda: metric(gateway, counter) == before + 1)
    assert record.outcome == Outcome.UPSTREAM_ERROR


def test_its_tokens_are_counted_once_when_it_has_ended(
    gateway: httpx.Client, provider: ResponsesProvider
) -> None:
    def counted() -> float:
        lines = gateway.get("/metrics").text.splitlines()
        counters = [line for line in lines if line.startswith("gateway_tokens_total{")]
        return sum(float(line.split()[-1]) for line in counters)

    before = counted()
    response_id = create(gateway)
    assert counted() == before
    provider.finish(response_id)
    record = settled_record()
    total = record.input_tokens + record.cache_read_tokens + record.output_tokens
    wait_until(lambda: counted() == before + total)
    assert total > 0


def metric(gateway: httpx.Client, name: str) -> float:
    lines = gateway.get("/metrics").text.splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(name)), 0.0)


def test_the_stored_entry_names_no_prompt(gateway: httpx.Client) -> None:
    create(gateway, input="the secret otter")
    stored = json.dumps(list(BackgroundResponse.objects.values()), default=str)
    assert "resp_1" in stored and "otter" not in stored
