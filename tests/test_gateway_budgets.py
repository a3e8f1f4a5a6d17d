"""Budgets and limits as a caller meets them."""

import asyncio
from datetime import timedelta

import httpx
import pytest
from django.utils import timezone

from billing.ledger.spending import spending
from billing.ledger.terms import Spending
from billing.models import Budget, DailyUsage, DirtyDay, Outcome, Period, Reservation, UsageRecord
from billing.tasks import roll_up_usage
from keys.models import ApiKey
from projects.models import Project
from tests.live import LiveGateway, the_record
from tests.upstream import LocalUpstream

pytestmark = pytest.mark.databases

CHAT = {"model": "demo/chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10}
PRICE = 13 * 1000 + 10 * 2000
"""13 tokens in, by the demo's count of bytes and markers, and 10 out."""


def post(live: LiveGateway, token: str, **changes: object) -> httpx.Response:
    return httpx.post(f"{live.url}/v1/chat/completions", json={**CHAT, **changes}, headers={"authorization": f"Bearer {token}"})


async def post_many(url: str, token: str, count: int) -> list[int]:
    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(limits=limits, timeout=30, headers={"authorization": f"Bearer {token}"}) as client:
        answers = await asyncio.gather(*(client.post(f"{url}/v1/chat/completions", json=CHAT) for _ in range(count)))
    return [answer.status_code for answer in answers]


@pytest.mark.parametrize("period", Period)
@pytest.mark.parametrize("whole_project", [False, True])
def test_a_budget_for_fifty_admits_exactly_fifty_of_two_hundred_at_once(
    live_gateway: LiveGateway, demo_project: Project, period: Period, whole_project: bool
) -> None:
    key, token = ApiKey.objects.mint(demo_project, "app")
    budget = Budget.objects.create(project=demo_project, key=None if whole_project else key, period=period, limit_nano=50 * PRICE)
    statuses = asyncio.run(post_many(live_gateway.url, token, 200))
    assert (statuses.count(200), statuses.count(429)) == (50, 150)
    the_record(200)
    assert spending(demo_project, [budget]) == {budget.pk: Spending(50 * PRICE, 0)}
    assert sum(UsageRecord.objects.values_list("cost_nano", flat=True)) == 50 * PRICE


def test_a_refusal_says_which_budget_what_is_left_and_when_it_begins_anew(live_gateway: LiveGateway, demo_project: Project) -> None:
    key, token = ApiKey.objects.mint(demo_project, "app")
    Budget.objects.create(project=demo_project, key=key, period=Period.DAY, limit_nano=PRICE + 5)
    assert post(live_gateway, token).status_code == 200
    refused = post(live_gateway, token)
    error = refused.json()["error"]
    assert (refused.status_code, error["type"], error["code"]) == (429, "rate_limit", "insufficient_quota")
    assert "key's daily budget of $0.000033005 has $0.000000005 left and this request may cost $0.000033" in error["message"]
    assert refused.headers["x-should-retry"] == "false" and 0 < int(refused.headers["retry-after"]) <= 86_400
    record = the_record(2)
    assert (record.outcome, record.cost_nano) == (Outcome.BUDGET, 0)


def test_a_request_without_a_limit_gets_what_the_budget_still_pays_for(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    key, token = ApiKey.objects.mint(demo_project, "app")
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}], "service_tier": "default"}
    Budget.objects.create(project=demo_project, key=key, period=Period.DAY, limit_nano=13 * 150 + 200 * 600)
    headers = {"authorization": f"Bearer {token}"}
    response = httpx.post(f"{live_gateway.url}/v1/chat/completions", json=body, headers=headers)
    assert b'"max_completion_tokens":200' in upstream.calls[0].body
    assert response.headers["x-gateway-max-tokens"] == "200"
    the_record()


def test_without_a_budget_nothing_is_put_into_the_request(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    gateway.post("/v1/chat/completions", json={"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]})
    assert b"max_completion_tokens" not in upstream.calls[0].body


def test_a_model_without_a_price_is_closed_to_keys_with_a_budget(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    key, token = ApiKey.objects.mint(demo_project, "app")
    assert post(live_gateway, token, model="openai/homemade").status_code == 200
    record = the_record()
    assert record.price is None and record.cost_nano == 0
    Budget.objects.create(project=demo_project, key=key, period=Period.DAY, limit_nano=PRICE)
    wait_for(lambda: post(live_gateway, token, model="openai/homemade").json().get("error", {}).get("code") == "model_not_priced")


def test_a_rate_limit_refuses_beyond_it_and_every_answer_says_what_is_left(live_gateway: LiveGateway, demo_project: Project) -> None:
    _, token = ApiKey.objects.mint(demo_project, "app", rpm_limit=2)
    wait_out_the_minute()
    answers = [post(live_gateway, token) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["1", "0", "0"]
    assert answers[2].json()["error"]["code"] == "rate_limit_exceeded" and 1 <= int(answers[2].headers["retry-after"]) <= 61
    assert the_record(3).outcome == Outcome.RATE


def test_a_new_key_is_good_at_once_and_a_revoked_one_refused_within_a_second(live_gateway: LiveGateway, demo_project: Project) -> None:
    key, token = ApiKey.objects.mint(demo_project, "app")
    assert post(live_gateway, token).status_code == 200
    key.revoke()
    wait_for(lambda: post(live_gateway, token).status_code == 401, seconds=1)


def test_a_changed_budget_holds_within_a_second(live_gateway: LiveGateway, demo_project: Project) -> None:
    key, token = ApiKey.objects.mint(demo_project, "app")
    budget = Budget.objects.create(project=demo_project, key=key, period=Period.DAY, limit_nano=0)
    assert post(live_gateway, token).status_code == 429
    budget.limit_nano = 10 * PRICE
    budget.save()
    wait_for(lambda: post(live_gateway, token).status_code == 200, seconds=1)


def test_an_expired_key_is_refused(live_gateway: LiveGateway, demo_project: Project) -> None:
    _, token = ApiKey.objects.mint(demo_project, "app", expires_at=timezone.now() - timedelta(seconds=1))
    assert post(live_gateway, token).status_code == 401


def test_the_roll_up_equals_the_records_however_often_it_runs(live_gateway: LiveGateway, demo_project: Project) -> None:
    _, token = ApiKey.objects.mint(demo_project, "app")
    for model in ("demo/chat", "demo/chat", "nope"):
        post(live_gateway, token, model=model)
    the_record(3)
    for _ in range(2):
        roll_up_usage()
        rows = DailyUsage.objects.filter(model_asked="demo/chat").values_list("requests", "failures", "cost_nano", "output_tokens")
        assert list(rows) == [(2, 0, 2 * PRICE, 20)]
        assert not DirtyDay.objects.exists()


def test_every_way_in_leaves_nothing_held(live_gateway: LiveGateway, demo_project: Project) -> None:
    _, token = ApiKey.objects.mint(demo_project, "app")
    for demo in ({"status": 500}, {"status": 429}, {"delay_ms": "x"}, {}):
        post(live_gateway, token, demo=demo)
    post(live_gateway, token, stream=True, demo={"delay_ms": 0, "fail_after": 3})
    the_record(5)
    assert not Reservation.objects.exists()


def wait_for(condition: object, seconds: float = 2) -> None:
    deadline = timezone.now() + timedelta(seconds=seconds)
    while not condition():  # type: ignore[operator]
        assert timezone.now() < deadline, "it did not come true in time"


def wait_out_the_minute() -> None:
    """Starts away from a minute's end, so that the requests of one test fall into one minute."""
    left = 60 - timezone.now().second
    if left <= 3:
        asyncio.run(asyncio.sleep(left + 0.1))
