"""Metrics of tokens, cost, first tokens, denied requests and records that are not in SQL yet."""

from collections.abc import Callable

import httpx
import pytest
from prometheus_client import REGISTRY

from billing.models import Budget
from keys.models import ApiKey
from projects.models import Project
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import LocalUpstream

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50}
LABELS = {"model": "gpt-4o-mini", "provider": "openai"}


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


def usage_metrics() -> list[float]:
    return [
        metric("gateway_tokens_total", bucket="input", **LABELS),
        metric("gateway_tokens_total", bucket="output", **LABELS),
        metric("gateway_cost_usd_total", **LABELS) * 1e9,
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_and_cost_of_the_record_are_counted(
    gateway: httpx.Client, upstream: LocalUpstream, stream: bool
) -> None:
    before = usage_metrics()
    assert gateway.post("/v1/chat/completions", json={**CHAT, "stream": stream}).status_code == 200
    record = only_record()
    counted = [after - old for after, old in zip(usage_metrics(), before, strict=True)]
    assert record.input_tokens and record.output_tokens and record.cost_nano
    expected = [record.input_tokens, record.output_tokens, record.cost_nano]
    assert counted == pytest.approx(expected, rel=1e-3)


def test_time_to_first_token_is_counted_for_streams_only(
    gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    name = "gateway_time_to_first_token_seconds_count"
    before = metric(name, format="openai", **LABELS)
    for stream in (False, True):
        gateway.post("/v1/chat/completions", json={**CHAT, "stream": stream})
    only_record(2)
    assert metric(name, format="openai", **LABELS) == before + 1


def test_a_request_denied_by_a_budget_is_counted_without_tokens(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    key, token = ApiKey.objects.issue(demo_project, "poor")
    Budget.objects.create(project=demo_project, key=key, period="day", limit_nano=1)
    before, denied = usage_metrics(), metric("gateway_admission_denied_total", limit="budget")
    headers = {"authorization": f"Bearer {token}"}
    response = httpx.post(f"{live_gateway.url}/v1/chat/completions", json=CHAT, headers=headers)
    assert response.status_code == 429
    assert metric("gateway_admission_denied_total", limit="budget") == denied + 1
    assert usage_metrics() == before


def test_a_request_denied_by_a_rate_limit_is_counted(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    change_environment: Callable[..., None],
) -> None:
    change_environment(ai_gateway_rate_limit_rpm=1)
    headers = {"authorization": f"Bearer {ApiKey.objects.issue(demo_project, 'limited')[1]}"}
    denied = metric("gateway_admission_denied_total", limit="requests")
    url = f"{live_gateway.url}/v1/chat/completions"
    assert [httpx.post(url, json=CHAT, headers=headers).status_code for _ in range(2)] == [200, 429]
    assert metric("gateway_admission_denied_total", limit="requests") == denied + 1


def test_no_label_names_a_project_or_a_key(
    gateway: httpx.Client, upstream: LocalUpstream, demo_project: Project
) -> None:
    gateway.post("/v1/chat/completions", json=CHAT)
    lines = gateway.get("/metrics").text.splitlines()
    assert any(line.startswith("gateway_unsent_records ") for line in lines)
    assert any(line.startswith("gateway_undrained_oldest_seconds ") for line in lines)
    labels = {label for family in REGISTRY.collect() for sample in family.samples for label in sample.labels}
    assert not labels & {"project", "key", "user"}
