"""Compaction of conversations and counts of input tokens in the Responses API."""

import json
from typing import Any

import httpx
import pytest

from keys.models import ApiKey
from projects.models import Project
from tests.support.live_gateway import LiveGateway, only_record, wait_until
from tests.support.responses_provider import COMPACT_USAGE, ResponsesProvider
from tests.support.upstream_server import LocalUpstream

pytestmark = pytest.mark.databases

MODEL = "gpt-4o-mini"
CREATE: dict[str, Any] = {"model": MODEL, "input": "Hi"}


@pytest.fixture(autouse=True)
def provider(upstream: LocalUpstream) -> ResponsesProvider:
    provider = ResponsesProvider()
    upstream.handler = provider.handle
    return provider


def test_a_compaction_is_billed_like_a_response(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    compacted = gateway.post("/v1/responses/compact", json=CREATE | {"model": f"openai/{MODEL}"})
    assert compacted.json()["object"] == "response.compaction"
    assert json.loads(upstream.requests[-1].body) == CREATE
    record = only_record()
    assert (record.operation, record.prompt_tokens, record.output_tokens, record.estimated) == (
        "compact",
        COMPACT_USAGE["input_tokens"],
        COMPACT_USAGE["output_tokens"],
        False,
    )
    assert record.cost_nano == 5000 * 150 + 300 * 600
    assert compacted.headers["x-cost-usd"] == "0.00093"


def test_a_compaction_reserves_the_longest_output_under_a_hard_budget(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    key, token = ApiKey.objects.issue(demo_project, "app")
    priority_rate = 1_000
    budget = demo_project.budgets.create(key=key, period="day", limit_nano=128_000 * priority_rate)
    url, headers = f"{live_gateway.url}/v1/responses/compact", {"authorization": f"Bearer {token}"}
    assert httpx.post(url, json=CREATE, headers=headers).status_code == 429
    assert not upstream.requests
    budget.limit_nano = 129_000 * priority_rate
    budget.save()
    wait_until(lambda: httpx.post(url, json=CREATE, headers=headers).status_code == 200)
    assert json.loads(upstream.requests[-1].body) == CREATE, "the endpoint has no output limit"


def test_a_compaction_does_not_run_in_the_background(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    refused = gateway.post("/v1/responses/compact", json=CREATE | {"background": True})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "background")
    assert not upstream.requests


def test_a_compaction_needs_a_provider_that_can_do_it(gateway: httpx.Client) -> None:
    refused = gateway.post("/v1/responses/compact", json=CREATE | {"model": "demo/chat"})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, "unsupported_model", "model")
    assert "Built-in demo" in error["message"]


def test_input_tokens_are_counted_by_the_provider(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    counted = gateway.post("/v1/responses/input_tokens", json=CREATE)
    assert counted.json() == {"object": "response.input_tokens", "input_tokens": 11}
    assert "x-gateway-estimate" not in counted.headers
    assert upstream.requests[-1].path == "/v1/responses/input_tokens"
    record = only_record()
    assert (record.operation, record.cost_nano) == ("count_tokens", 0)


def test_input_tokens_are_estimated_for_other_providers(
    gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    counted = gateway.post("/v1/responses/input_tokens", json=CREATE | {"model": "demo/chat"})
    assert counted.status_code == 200 and counted.headers["x-gateway-estimate"] == "true"
    assert counted.json()["object"] == "response.input_tokens" and 0 < counted.json()["input_tokens"] < 20
    stored = CREATE | {"model": "demo/chat", "previous_response_id": "resp_1"}
    refused = gateway.post("/v1/responses/input_tokens", json=stored)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "previous_response_id")
    assert "served by the Responses API" in refused.json()["error"]["message"]
    assert not upstream.requests
