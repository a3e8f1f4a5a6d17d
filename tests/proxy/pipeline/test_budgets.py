"""Budgets and rate limits as clients see them."""

import asyncio
import json
from datetime import timedelta

import httpx
import pytest
from aiohttp import web
from django.conf import settings
from django.utils import timezone

from billing.ledger.balances import window_balances
from billing.ledger.interface import MAX_RESERVATION_NANO, WindowBalance
from billing.models import Budget, DailyUsage, Outcome, Period, Reservation, StaleDay, UsageRecord
from billing.tasks import roll_up_usage
from keys.models import ApiKey
from projects.models import Project
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import LocalUpstream, chunk

pytestmark = pytest.mark.databases

CHAT = {"model": "demo/chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10}
PRICE = 13 * 1000 + 10 * 2000
"""The cost of 13 input tokens (the demo counts bytes and markers) and 10 output tokens."""


def post(live: LiveGateway, token: str, **changes: object) -> httpx.Response:
    return httpx.post(
        f"{live.url}/v1/chat/completions",
        json={**CHAT, **changes},
        headers={"authorization": f"Bearer {token}"},
    )


async def post_many(url: str, token: str, count: int) -> list[int]:
    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(
        limits=limits, timeout=30, headers={"authorization": f"Bearer {token}"}
    ) as client:
        responses = await asyncio.gather(
            *(client.post(f"{url}/v1/chat/completions", json=CHAT) for _ in range(count))
        )
    return [response.status_code for response in responses]


@pytest.mark.parametrize("period", Period)
@pytest.mark.parametrize("whole_project", [False, True])
def test_a_budget_for_fifty_admits_exactly_fifty_of_two_hundred_at_once(
    live_gateway: LiveGateway, demo_project: Project, period: Period, whole_project: bool
) -> None:
    key, token = ApiKey.objects.issue(demo_project, "app")
    budget = Budget.objects.create(
        project=demo_project, key=None if whole_project else key, period=period, limit_nano=50 * PRICE
    )
    statuses = asyncio.run(post_many(live_gateway.url, token, 200))
    assert (statuses.count(200), statuses.count(429)) == (50, 150)
    only_record(200)
    assert window_balances(demo_project, [budget]) == {budget.pk: WindowBalance(50 * PRICE, 0)}
    assert sum(UsageRecord.objects.values_list("cost_nano", flat=True)) == 50 * PRICE


def test_denial_names_budget_remaining_amount_and_reset_time(
    live_gateway: LiveGateway, demo_project: Project
) -> None:
    key, token = ApiKey.objects.issue(demo_project, "app")
    budget = Budget.objects.create(project=demo_project, key=key, period=Period.DAY, limit_nano=PRICE + 5)
    assert post(live_gateway, token).status_code == 200
    response = post(live_gateway, token)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["code"]) == (429, "rate_limit", "insufficient_quota")
    assert (
        "key's daily budget of $0.000033005 has $0.000000005 left and this request may cost $0.000033"
        in error["message"]
    )
    assert (
        response.headers["x-should-retry"] == "false" and 0 < int(response.headers["retry-after"]) <= 86_400
    )
    record = only_record(2)
    assert (record.outcome, record.cost_nano, record.blocking_budget_id) == (
        Outcome.BUDGET_EXCEEDED,
        0,
        budget.pk,
    )


def test_a_request_without_a_limit_gets_what_the_budget_allows(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    key, token = ApiKey.objects.issue(demo_project, "app")
    body = {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "Hi"}],
        "service_tier": "default",
    }
    Budget.objects.create(project=demo_project, key=key, period=Period.DAY, limit_nano=13 * 150 + 200 * 600)
    headers = {"authorization": f"Bearer {token}"}
    response = httpx.post(f"{live_gateway.url}/v1/chat/completions", json=body, headers=headers)
    assert b'"max_completion_tokens":200' in upstream.requests[0].body
    assert response.headers["x-gateway-max-tokens"] == "200"
    only_record()


def test_without_a_budget_the_request_is_not_changed(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    gateway.post(
        "/v1/chat/completions", json={"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}
    )
    assert b"max_completion_tokens" not in upstream.requests[0].body


def test_a_model_without_a_price_is_denied_to_keys_with_a_budget(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    key, token = ApiKey.objects.issue(demo_project, "app")
    assert post(live_gateway, token, model="openai/homemade").status_code == 200
    record = only_record()
    assert record.price is None and record.cost_nano == 0
    Budget.objects.create(project=demo_project, key=key, period=Period.DAY, limit_nano=PRICE)
    wait_for(
        lambda: (
            post(live_gateway, token, model="openai/homemade").json().get("error", {}).get("code")
            == "model_not_priced"
        )
    )


def test_a_rate_limit_denies_requests_and_responses_report_the_rest(
    live_gateway: LiveGateway, demo_project: Project
) -> None:
    _, token = ApiKey.objects.issue(demo_project, "app", rpm_limit=2)
    responses = [post(live_gateway, token) for _ in range(3)]
    assert [response.status_code for response in responses] == [200, 200, 429]
    assert [response.headers["x-ratelimit-remaining-requests"] for response in responses] == ["1", "0", "0"]
    assert (
        responses[2].json()["error"]["code"] == "rate_limit_exceeded"
        and 1 <= int(responses[2].headers["retry-after"]) <= 61
    )
    assert only_record(3).outcome == Outcome.RATE_LIMITED


def test_every_response_to_a_limited_key_reports_the_rest(
    live_gateway: LiveGateway, demo_project: Project
) -> None:
    """Requests that reach no provider report it too, but do not count."""
    _, token = ApiKey.objects.issue(demo_project, "app", rpm_limit=5, tpm_limit=1000)
    with httpx.Client(base_url=live_gateway.url, headers={"authorization": f"Bearer {token}"}) as client:
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
        responses = [
            client.post("/v1/chat/completions", content=b"{"),
            client.post("/v1/messages", json={"model": "demo/chat"}),
            client.get("/v1/models"),
            client.get("/v1/nothing"),
            client.get("/api/v1/usage/stats"),
            client.get("/v1/chat/completions"),
        ]
    assert [response.status_code for response in responses] == [400, 400, 200, 404, 200, 405]
    for response in responses:
        left = (
            response.headers["x-ratelimit-remaining-requests"],
            response.headers["x-ratelimit-remaining-tokens"],
        )
        assert (*left, response.headers["x-ratelimit-limit-requests"]) == ("4", "977", "5")
    only_record(7)


def test_new_key_works_at_once_and_revoked_key_fails_within_a_second(
    live_gateway: LiveGateway, demo_project: Project
) -> None:
    key, token = ApiKey.objects.issue(demo_project, "app")
    assert post(live_gateway, token).status_code == 200
    key.revoke()
    wait_for(lambda: post(live_gateway, token).status_code == 401, seconds=1)


def test_changed_budget_applies_within_a_second(live_gateway: LiveGateway, demo_project: Project) -> None:
    key, token = ApiKey.objects.issue(demo_project, "app")
    budget = Budget.objects.create(project=demo_project, key=key, period=Period.DAY, limit_nano=0)
    assert post(live_gateway, token).status_code == 429
    budget.limit_nano = 10 * PRICE
    budget.save()
    wait_for(lambda: post(live_gateway, token).status_code == 200, seconds=1)


def test_an_expired_key_is_rejected(live_gateway: LiveGateway, demo_project: Project) -> None:
    _, token = ApiKey.objects.issue(demo_project, "app", expires_at=timezone.now() - timedelta(seconds=1))
    assert post(live_gateway, token).status_code == 401


def test_the_rollup_equals_the_records_however_often_it_runs(
    live_gateway: LiveGateway, demo_project: Project
) -> None:
    _, token = ApiKey.objects.issue(demo_project, "app")
    for model in ("demo/chat", "demo/chat", "nope"):
        post(live_gateway, token, model=model)
    only_record(3)
    for _ in range(2):
        roll_up_usage()
        rows = DailyUsage.objects.filter(requested_model="demo/chat").values_list(
            "requests", "failures", "cost_nano", "output_tokens"
        )
        assert list(rows) == [(2, 0, 2 * PRICE, 20)]
        assert not StaleDay.objects.exists()


def test_every_endpoint_releases_its_reservation(live_gateway: LiveGateway, demo_project: Project) -> None:
    _, token = ApiKey.objects.issue(demo_project, "app")
    for demo in ({"status": 500}, {"status": 429}, {"delay_ms": "x"}, {}):
        post(live_gateway, token, demo=demo)
    post(live_gateway, token, stream=True, demo={"delay_ms": 0, "fail_after": 3})
    only_record(5)
    assert not Reservation.objects.exists()


def wait_for(condition: object, seconds: float = 2) -> None:
    deadline = timezone.now() + timedelta(seconds=seconds)
    while not condition():  # type: ignore[operator]
        assert timezone.now() < deadline, "it did not come true in time"


def openai_key(project: Project, limit_nano: int = 10**9) -> tuple[Budget, dict[str, str]]:
    """Return a hard budget and the headers of its key, for the operator's account at the local upstream."""
    key, token = ApiKey.objects.issue(project, "app")
    return Budget.objects.create(project=project, key=key, period=Period.DAY, limit_nano=limit_nano), {
        "authorization": f"Bearer {token}"
    }


GPT = {"model": "gpt-4o-mini", "messages": CHAT["messages"], "max_tokens": 1000}
GPT_OUTPUT_NANO = 600
"""The price of one output token of gpt-4o-mini."""


@pytest.mark.parametrize("streamed", [False, True])
def test_disconnect_before_response_is_still_charged(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, streamed: bool
) -> None:
    """The provider may complete the response. A stream ends with its connection."""

    async def slow(_request: web.Request, _body: object) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    upstream.handler = slow
    budget, headers = openai_key(demo_project)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{live_gateway.url}/v1/chat/completions",
            json={**GPT, "stream": streamed},
            headers=headers,
            timeout=0.3,
        )
    record = only_record()
    assert record.estimated and record.output_tokens == (0 if streamed else 1000)
    assert (record.cost_nano > 1000 * GPT_OUTPUT_NANO) == (not streamed)
    assert record.cost_nano <= (record.reserved_nano or 0)
    assert window_balances(demo_project, [budget]) == {budget.pk: WindowBalance(record.cost_nano, 0)}


def test_a_response_that_cannot_be_converted_is_charged(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    """The provider reports a success, and bills it."""

    async def odd(_request: web.Request, _body: object) -> web.StreamResponse:
        return web.Response(body=b"<html>" + b"word " * 200, content_type="application/json")

    upstream.handler = odd
    _, headers = openai_key(demo_project)
    body = {"model": "gpt-4o-mini", "messages": CHAT["messages"], "max_tokens": 1000}
    response = httpx.post(f"{live_gateway.url}/v1/messages", json=body, headers=headers)
    assert response.status_code == 502
    record = only_record()
    assert record.estimated and record.output_tokens > 200 and record.cost_nano > 200 * GPT_OUTPUT_NANO


def test_limit_beyond_the_budget_is_clamped_if_configured(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "ENV", settings.ENV.model_copy(update={"gateway_max_tokens": "clamp"}))
    _, headers = openai_key(demo_project, limit_nano=500 * GPT_OUTPUT_NANO)
    body = {"model": "gpt-4o-mini", "messages": CHAT["messages"], "max_completion_tokens": 1000}
    response = httpx.post(f"{live_gateway.url}/v1/chat/completions", json=body, headers=headers)
    assert response.status_code == 200
    sent = json.loads(upstream.requests[0].body)
    assert "max_tokens" not in sent and 100 < sent["max_completion_tokens"] < 500
    assert (only_record().reserved_nano or 0) <= 500 * GPT_OUTPUT_NANO


def test_reservation_is_capped_at_the_ledger_maximum(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    key, token = ApiKey.objects.issue(demo_project, "app")
    Budget.objects.create(project=demo_project, key=key, period=Period.DAY, limit_nano=1, mode="soft")
    body = {"model": "gpt-4o-mini", "prompt": ["x"] * 20_000, "n": 128, "max_tokens": 2**31 - 1}
    response = httpx.post(
        f"{live_gateway.url}/v1/completions",
        json=body,
        headers={"authorization": f"Bearer {token}"},
        timeout=20,
    )
    assert response.status_code == 200, response.text
    assert only_record().reserved_nano == MAX_RESERVATION_NANO


@pytest.mark.parametrize(
    ("path", "quota"), [("/v1/chat/completions", "insufficient_quota"), ("/v1/messages", "rate_limit_error")]
)
def test_stream_is_aborted_when_it_has_cost_its_reservation(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, path: str, quota: str
) -> None:
    """The provider ignores limits. The overrun is at most one chunk."""

    async def unlimited(request: web.Request, _body: object) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(2000):
            await response.write(chunk({"content": "word"}))
            await asyncio.sleep(0.001)
        return response

    upstream.handler = unlimited
    limit = 1000 * GPT_OUTPUT_NANO
    budget, headers = openai_key(demo_project, limit)
    body = {"model": "gpt-4o-mini", "messages": CHAT["messages"], "max_tokens": 100, "stream": True}
    answer = httpx.post(f"{live_gateway.url}{path}", json=body, headers=headers, timeout=20)
    assert quota in answer.text and "[DONE]" not in answer.text and "message_stop" not in answer.text
    assert upstream.requests[0].closed.wait(2)
    record = only_record()
    assert record.outcome == Outcome.BUDGET_EXCEEDED and 100 <= record.output_tokens <= 110
    assert record.cost_nano <= (record.reserved_nano or 0) + GPT_OUTPUT_NANO
    assert window_balances(demo_project, [budget]) == {budget.pk: WindowBalance(record.cost_nano, 0)}
