"""Response cache: an identical request of the project gets the stored response for free."""

from typing import Any

import httpx
import pytest

from billing.models import Outcome
from projects.models import Project
from tests.support.live_gateway import only_record
from tests.support.upstream_server import USAGE, LocalUpstream

pytestmark = pytest.mark.databases

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
