"""Response cache: an identical request of the project gets the stored response for free."""

import json
from typing import Any

import httpx
import pytest
from django.db.models import Sum

from billing.models import DailyUsage, Outcome
from billing.usage.reports import UsageReport
from billing.usage.rollup import roll_up_stale_days
from projects.models import Project
from proxy import operations
from proxy.formats.quirks import Quirks
from tests.support.live_gateway import only_record
from tests.support.upstream_server import USAGE, LocalUpstream

CHAT: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Hi"}],
    "max_tokens": 50,
    "cache": True,
}
PATH = "/v1/chat/completions"


def post(client: httpx.Client, body: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(PATH, json=body or CHAT, headers=named)


def status_of(response: httpx.Response) -> str | None:
    status: str | None = response.headers.get("x-gateway-cache")
    return status


@pytest.mark.databases
def test_a_hit_has_the_same_bytes_and_costs_nothing(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    first, again = post(gateway), post(gateway, x_request_id="second")
    assert len(upstream.requests) == 1
    assert (status_of(first), status_of(again)) == ("miss", "hit")
    assert again.content == first.content and again.json()["usage"] == USAGE
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["age"] == "0" and "age" not in first.headers
    assert (first.headers["x-cost-usd"], again.headers["x-cost-usd"]) == ("0.000024", "0")
    record = only_record(2)
    assert (record.request_id, record.outcome, record.cost_nano) == ("second", Outcome.CACHED, 0)
    assert record.saved_nano == 24_000 and record.output_tokens == 0 and record.reserved_nano == 0


def test_the_cache_is_off_unless_it_is_asked_for(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    body = {name: value for name, value in CHAT.items() if name != "cache"}
    responses = [post(gateway, body) for _ in range(2)]
    assert len(upstream.requests) == 2 and [*map(status_of, responses)] == [None, None]


@pytest.mark.parametrize("field", ["cache", "cacheTtl", "cache_ttl"])
def test_cache_fields_never_travel_upstream(
    gateway: httpx.Client, upstream: LocalUpstream, field: str
) -> None:
    value = True if field == "cache" else 60
    post(gateway, {**CHAT, field: value})
    assert not {b"cache", b"cacheTtl", b"cache_ttl"} & {*map(bytes, upstream.requests[0].body.split(b'"'))}
    assert b"messages" in upstream.requests[0].body


@pytest.mark.parametrize("ttl", [59, 86_401, "60", True, 60.5])
def test_a_ttl_out_of_range_is_a_400_that_names_the_field(gateway: httpx.Client, ttl: object) -> None:
    response = post(gateway, {**CHAT, "cacheTtl": ttl})
    assert response.status_code == 400 and response.json()["error"]["param"] == "cacheTtl"
    assert "60 to 86400" in response.json()["error"]["message"]


def test_a_project_can_cache_by_default(
    gateway: httpx.Client, upstream: LocalUpstream, demo_project: Project
) -> None:
    Project.objects.filter(pk=demo_project.pk).update(caches_responses=True)
    body = {name: value for name, value in CHAT.items() if name != "cache"}
    assert [status_of(post(gateway, body)) for _ in range(2)] == ["miss", "hit"]
    assert status_of(post(gateway, {**body, "cache": False})) == "bypass"
    assert len(upstream.requests) == 2


@pytest.mark.databases
def test_reports_and_metrics_sum_what_was_saved(gateway: httpx.Client, demo_project: Project) -> None:
    for _ in range(3):
        post(gateway)
    only_record(3)
    report = UsageReport.month_to_date(demo_project, demo_project.today())
    assert (report.total().cost_nano, report.total().saved_nano) == (24_000, 48_000)
    roll_up_stale_days()
    assert DailyUsage.objects.aggregate(saved=Sum("saved_nano")) == {"saved": 48_000}
    stats = gateway.get("/api/v1/usage/stats").json()["data"]
    assert (stats["totalSaved"], stats["totalSavedNanoUsd"]) == (0.000048, 48_000)
    metrics = gateway.get("/metrics").text
    assert 'gateway_cache_lookups_total{result="hit"}' in metrics
    assert "gateway_cache_saved_usd_total" in metrics


def test_a_hit_is_stored_under_the_idempotency_key(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    responses = [post(gateway), *(post(gateway, idempotency_key="k1") for _ in range(2))]
    assert [*map(status_of, responses)] == ["miss", "hit", None]
    assert responses[2].headers["idempotent-replayed"] == "true" and len(upstream.requests) == 1
    assert len({response.content for response in responses}) == 1


@pytest.mark.parametrize(
    ("path", "body", "sent"),
    [
        (PATH, CHAT, None),
        (PATH, {**CHAT, "store": True}, {"team": "search"}),
        ("/v1/completions", {"model": "gpt-4o-mini", "prompt": "Hi", "max_tokens": 5}, None),
        ("/v1/embeddings", {"model": "gpt-4o-mini", "input": "Hi"}, None),
        ("/v1/responses", {"model": "gpt-4o-mini", "input": "Hi"}, {"team": "search"}),
    ],
    ids=["chat", "stored chat", "completions", "embeddings", "responses"],
)
def test_tags_reach_only_providers_that_accept_them(
    gateway: httpx.Client, upstream: LocalUpstream, path: str, body: dict[str, Any], sent: object
) -> None:
    gateway.post(path, json={**body, "metadata": {"team": "search"}})
    assert json.loads(upstream.requests[0].body).get("metadata") == sent


@pytest.mark.parametrize(
    ("metadata", "sent"),
    [({"user_id": "u"}, {"user_id": "u"}), ({"user_id": "u", "team": "x"}, {"user_id": "u"})],
)
def test_anthropic_gets_only_the_user_id(metadata: dict[str, str], sent: object) -> None:
    body = {"model": "m", "messages": CHAT["messages"], "max_tokens": 5, "metadata": metadata}
    request = operations.MESSAGES.parse(json.dumps(body).encode())
    assert json.loads(request.upstream_body("m", None, Quirks()))["metadata"] == sent


def test_gemini_gets_no_tags() -> None:
    body = {"contents": [{"parts": [{"text": "Hi"}]}], "metadata": {"team": "x"}}
    request = operations.GENERATE_CONTENT.parse(json.dumps(body).encode(), model="m")
    assert "metadata" not in json.loads(request.upstream_body("m", None, Quirks()))
