"""Usage, costs and budgets over the REST interface."""

import asyncio
import datetime as dt
import json
import threading
import time
from decimal import Decimal
from typing import Any

import httpx
import pytest
from aiohttp import web

from billing.models import Budget, BudgetWindow, Outcome, Period, UsageRecord
from billing.tasks import detect_alerts
from billing.usage.rollup import rebuild_from, roll_up_stale_days
from keys.models import ApiKey
from projects.models import Project, User
from tests.support.factories import USD, daily, record
from tests.support.live_gateway import LiveGateway, only_record, wait_until
from tests.support.upstream_server import LocalUpstream, completion

pytestmark = pytest.mark.databases

CHAT = {"model": "demo/chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10}
PRICE = 13 * 1000 + 10 * 2000


def data_of(response: httpx.Response) -> Any:
    """Return the envelope's data, with every number as it was written."""
    assert response.status_code == 200, response.text
    body = json.loads(response.content, parse_float=Decimal)
    assert body["success"] is True
    return body["data"]


def error_of(response: httpx.Response) -> Any:
    body = response.json()
    assert body["success"] is False and body["error"]["request_id"] == response.headers["x-request-id"]
    return body["error"]


def test_stats_count_the_request_just_made_and_not_themselves(gateway: httpx.Client) -> None:
    assert gateway.post("/v1/chat/completions", json=CHAT).status_code == 200
    gateway.get("/v1/models")
    kept = only_record(2)
    for _ in range(2):
        stats = data_of(gateway.get("/api/v1/usage/stats"))
        assert (stats["totalRequests"], stats["failedRequests"]) == (1, 0)
        assert stats["totalCostNanoUsd"] == PRICE and stats["totalCost"] == Decimal(PRICE) / USD
    assert stats["byModel"] == [
        {
            "model": "demo/chat",
            "requests": 1,
            "failedRequests": 0,
            "cost": Decimal(PRICE) / USD,
            "costNanoUsd": PRICE,
        }
        | {"promptTokens": 13, "completionTokens": 10, "totalTokens": 23}
    ]
    assert kept.key is not None
    assert stats["byKey"][0]["key"] == {"id": kept.key.public_id, "name": "tests"}
    assert [row["provider"] for row in stats["byProvider"]] == ["demo"]


def test_today_is_read_from_records_and_earlier_days_from_the_rollup(
    gateway: httpx.Client, demo_project: Project
) -> None:
    key, today = demo_project.keys.get(), demo_project.today()
    daily(key, today, 1000 * USD)
    daily(key, today - dt.timedelta(days=1), 3)
    record(key, cost_nano=2 * USD + 1)
    costs = data_of(gateway.get("/api/v1/usage/costs"))
    assert costs["totalCostNanoUsd"] == 2 * USD + 4 and costs["totalCost"] == Decimal("2.000000004")
    assert costs["today"] == {"cost": Decimal("2.000000001"), "costNanoUsd": 2 * USD + 1}
    assert costs["month"]["costNanoUsd"] == (2 * USD + 1 if today.day == 1 else 2 * USD + 4)


def test_a_stale_day_is_read_from_its_records(gateway: httpx.Client, demo_project: Project) -> None:
    key, yesterday = demo_project.keys.get(), demo_project.today() - dt.timedelta(days=1)
    record(key, day=yesterday, cost_nano=5)
    record(key, day=yesterday, cost_nano=7, outcome=Outcome.UPSTREAM_ERROR)
    rebuild_from(yesterday)
    record(key, day=yesterday, cost_nano=11)
    demo_project.staleday_set.create(day=yesterday, version=1)
    query = {"from": yesterday.isoformat(), "to": yesterday.isoformat()}
    before = data_of(gateway.get("/api/v1/usage/stats", params=query))
    assert (before["totalCostNanoUsd"], before["totalRequests"], before["failedRequests"]) == (23, 3, 1)
    roll_up_stale_days()
    assert data_of(gateway.get("/api/v1/usage/stats", params=query)) == before


def test_reports_are_filtered_and_grouped(gateway: httpx.Client, demo_project: Project) -> None:
    key, other = demo_project.keys.get(), ApiKey.objects.issue(demo_project, "other")[0]
    today = demo_project.today()
    record(key, cost_nano=1)
    record(other, cost_nano=10, model="gpt-4o")
    record(other, cost_nano=100, day=today - dt.timedelta(days=3))
    rebuild_from(today - dt.timedelta(days=9))

    def total(**query: str) -> int:
        return int(data_of(gateway.get("/api/v1/usage/costs", params=query))["totalCostNanoUsd"])

    assert total() == 111
    assert total(days="1") == 11
    assert total(days="4") == 111
    assert total(model="gpt-4o") == 10
    assert total(keyId=other.public_id) == total(key_id=other.public_id) == 110
    assert total(provider="nobody") == 0
    grouped = data_of(gateway.get("/api/v1/usage/costs", params={"groupBy": "day"}))
    assert [row["costNanoUsd"] for row in grouped["byDay"]] == [100, 11]
    assert "byModel" not in grouped


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"days": "0"}, "from 1 to"),
        ({"days": "many"}, "whole number"),
        ({"days": "٣"}, "whole number"),
        ({"days": "99999"}, "from 1 to"),
        ({"from": "yesterday"}, "a date such as"),
        ({"to": "2026-13-01"}, "a date such as"),
        ({"from": "2026-02-30"}, "there is no 2026-02-30"),
        ({"from": "20261101"}, "a date such as"),
        ({"from": "2026-W45-1"}, "a date such as"),
        ({"from": "2026-11-01T00:00"}, "a date such as"),
        ({"from": "2001-01-01"}, "more than 3660 days"),
        ({"from": "2026-11-01", "to": "9999-12-31"}, "more than 3660 days"),
        ({"days": "-1"}, "from 1 to"),
        ({"days": "1.5"}, "whole number"),
        ({"timezone": "Mars/Olympus"}, "timezone is not known here"),
        ({"tz": "Europe/Berlin"}, "tz is not known here"),
        ({"group_by": "model,model,colour"}, "got colour"),
        ({"model": "a\0b"}, "unprintable characters"),
        ({"groupBy": "day", "group_by": "day"}, "once"),
        ({"to": "0001-01-01"}, "too early"),
        ({"from": "2026-11-02", "to": "2026-11-01"}, "later than"),
        ({"from": "2026-11-02", "days": "3"}, "either"),
        ({"groupBy": "colour"}, "groupBy must be one of"),
        ({"colour": "red"}, "not known here"),
    ],
)
def test_invalid_parameters_are_reported(gateway: httpx.Client, query: dict[str, str], message: str) -> None:
    response = gateway.get("/api/v1/usage/stats", params=query)
    assert response.status_code == 400
    assert message in error_of(response)["message"]


def test_the_budget_endpoint_is_exact(
    gateway: httpx.Client, demo_project: Project, counters_in_sql: None
) -> None:
    Project.objects.update(timezone="Asia/Tokyo")
    key = ApiKey.objects.get()
    day = Budget.objects.create(project=demo_project, key=key, period=Period.DAY, limit_nano=5 * USD)
    today = ApiKey.objects.select_related("project").get().project.today()
    BudgetWindow.objects.create(budget=day, name=today.isoformat(), spent_nano=USD + 1, reserved_nano=2)
    other = ApiKey.objects.issue(demo_project, "other")[0]
    Budget.objects.create(project=demo_project, key=other, period=Period.MONTH, limit_nano=USD)
    Budget.objects.create(project=demo_project, period=Period.TOTAL, mode="soft", limit_nano=1)
    record(key, day=today, cost_nano=7)
    budgets = data_of(gateway.get("/api/v1/usage/budget"))
    by_owner = {(each["key"] or {"name": None})["name"]: each for each in budgets["budgets"]}
    total, own, others = by_owner[None], by_owner["tests"], by_owner["other"]
    midnight = dt.datetime.combine(
        today + dt.timedelta(days=1), dt.time(), dt.timezone(dt.timedelta(hours=9))
    )
    assert own == {
        "id": day.pk,
        "owner": "key",
        "key": {"id": key.public_id, "name": "tests"},
        "period": "day",
        "mode": "hard",
        "window": today.isoformat(),
        "limit": 5,
        "spent": Decimal("1.000000001"),
        "reserved": Decimal("0.000000002"),
        "remaining": Decimal("3.999999997"),
        "limitNanoUsd": 5 * USD,
        "spentNanoUsd": USD + 1,
        "reservedNanoUsd": 2,
        "remainingNanoUsd": 4 * USD - 3,
        "resetsAt": midnight.astimezone(dt.UTC).isoformat().replace("+00:00", "Z"),
        "appliesToThisKey": True,
    }
    assert (total["owner"], total["mode"], total["resetsAt"]) == ("project", "soft", None)
    assert (total["spentNanoUsd"], total["remainingNanoUsd"]) == (7, 0)
    assert others["appliesToThisKey"] is False
    assert budgets["daily"] == {name: value for name, value in own.items() if name != "appliesToThisKey"}
    assert budgets["monthly"] is None


def budget_of(
    project: Project, key: ApiKey | None, mode: str, limit: int, period: Period = Period.DAY
) -> Budget:
    return Budget.objects.create(project=project, key=key, period=period, mode=mode, limit_nano=limit)


def test_the_most_restrictive_budget_is_reported_first(gateway: httpx.Client, demo_project: Project) -> None:
    key = demo_project.keys.get()

    def shown() -> Any:
        budgets = data_of(gateway.get("/api/v1/usage/budget"))
        assert {each["id"] for each in budgets["budgets"]} == set(Budget.objects.values_list("pk", flat=True))
        return budgets["daily"] and budgets["daily"]["id"]

    assert shown() is None
    shadow = budget_of(demo_project, key, "shadow", 1)
    assert shown() == shadow.pk
    soft = budget_of(demo_project, None, "soft", 5)
    tighter = budget_of(demo_project, key, "soft", 4)
    assert shown() == tighter.pk
    hard = budget_of(demo_project, None, "hard", 90)
    assert shown() == hard.pk
    tightest = budget_of(demo_project, key, "hard", 80)
    assert shown() == tightest.pk
    budget_of(demo_project, ApiKey.objects.issue(demo_project, "other")[0], "hard", 1)
    budget_of(demo_project, None, "hard", 1, Period.WEEK)
    assert shown() == tightest.pk
    Budget.objects.filter(pk__in=(hard.pk, tightest.pk, tighter.pk)).delete()
    assert shown() == soft.pk


def test_reserved_amount_of_an_open_request_is_exact(
    gateway: httpx.Client, live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    released = threading.Event()

    async def slow(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.to_thread(released.wait, 10)
        return await completion(request, body)

    upstream.handler = slow
    limit = 10 * USD + 7
    for mode in ("hard", "soft"):
        budget_of(demo_project, None, mode, limit)
    body = {**CHAT, "model": "openai/gpt-4o-mini"}
    requests = [
        threading.Thread(target=gateway.post, args=("/v1/chat/completions",), kwargs={"json": body})
        for _ in range(3)
    ]
    for request in requests:
        request.start()
    wait_until(lambda: len(upstream.requests) == 3)
    found = data_of(httpx.get(f"{live_gateway.url}/api/v1/usage/budget", headers=gateway.headers))["budgets"]
    reserved_nano = {each["reservedNanoUsd"] for each in found}
    released.set()
    for request in requests:
        request.join(10)
    wait_until(lambda: UsageRecord.objects.exclude(requested_model="").count() == 3)
    assert reserved_nano == {
        sum(record.reserved_nano or 0 for record in UsageRecord.objects.exclude(requested_model=""))
    }
    for each in found:
        reserved = each["reservedNanoUsd"]
        assert (each["spentNanoUsd"], each["remainingNanoUsd"]) == (0, limit - reserved)
        assert (each["limit"], each["remaining"]) == (Decimal(limit) / USD, Decimal(limit - reserved) / USD)
    spent = sum(UsageRecord.objects.values_list("cost_nano", flat=True))
    after = data_of(gateway.get("/api/v1/usage/budget"))["budgets"]
    assert {(each["spentNanoUsd"], each["reservedNanoUsd"], each["remainingNanoUsd"]) for each in after} == {
        (spent, 0, limit - spent)
    }


def test_a_key_with_the_usage_scope_reads_but_cannot_spend(
    live_gateway: LiveGateway, demo_project: Project
) -> None:
    reader, token = ApiKey.objects.issue(demo_project, "reader", scopes=["usage:read"])
    other, _ = ApiKey.objects.issue(demo_project, "other")
    budget_of(demo_project, other, "hard", USD)
    record(other, cost_nano=5)
    with httpx.Client(
        base_url=live_gateway.url, headers={"authorization": f"Bearer {token}"}, timeout=20
    ) as client:
        budgets = data_of(client.get("/api/v1/usage/budget"))
        assert (budgets["daily"], [each["appliesToThisKey"] for each in budgets["budgets"]]) == (
            None,
            [False],
        )
        assert client.get("/api/costs").json() == {reader.public_id: 0, other.public_id: 0.000000005}
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 403


def test_the_cost_of_the_last_request_is_in_its_budgets(gateway: httpx.Client, demo_project: Project) -> None:
    for period in Period:
        Budget.objects.create(project=demo_project, period=period, limit_nano=10 * PRICE)
    assert gateway.post("/v1/chat/completions", json=CHAT).status_code == 200
    deadline = time.monotonic() + 5
    while not UsageRecord.objects.filter(cost_nano=PRICE).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    found = data_of(gateway.get("/api/v1/usage/budget"))["budgets"]
    assert {(each["spentNanoUsd"], each["reservedNanoUsd"], each["remainingNanoUsd"]) for each in found} == {
        (PRICE, 0, 9 * PRICE)
    }
    assert {each["period"] for each in found} == set(Period)
    assert detect_alerts() == 0
    Budget.objects.filter(period=Period.WEEK).update(limit_nano=PRICE)
    assert detect_alerts() == 1


def test_legacy_cost_endpoints_keep_their_format(
    gateway: httpx.Client, demo_project: Project, token: str
) -> None:
    key, other = demo_project.keys.get(), ApiKey.objects.issue(demo_project, "other")[0]
    record(key, cost_nano=1_500_000)
    daily(key, demo_project.today() - dt.timedelta(days=400), USD)
    assert gateway.get("/api/costs").json() == {key.public_id: 1.0015, other.public_id: 0}
    detailed = gateway.get("/api/costs", params={"detail": "true"}).json()
    usage = {"costUsd": 1.0015, "promptTokens": 1235, "completionTokens": 57, "totalTokens": 1292}
    assert detailed[key.public_id] == usage and detailed[other.public_id]["totalTokens"] == 0
    assert gateway.get("/api/costs", params={"detail": "yes"}).status_code == 400
    for name in (key.public_id, token):
        assert gateway.get(f"/api/costs/{name}").json() == {"key": key.public_id, **usage}


@pytest.mark.parametrize(
    "path", ["/api/v1/usage/stats", "/api/v1/usage/costs", "/api/v1/usage/budget", "/api/costs"]
)
def test_a_key_sees_its_own_project_only(
    gateway: httpx.Client, demo_project: Project, charlie: User, path: str
) -> None:
    theirs = Project.objects.create_with_owner("Charlie's", owner=charlie)
    foreign, _ = ApiKey.objects.issue(theirs, "their-key")
    Budget.objects.create(project=theirs, key=foreign, period=Period.DAY, limit_nano=12345)
    record(foreign, cost_nano=12345, model="their-model")
    daily(foreign, theirs.today() - dt.timedelta(days=1), 12345)
    response = gateway.get(path)
    assert response.status_code == 200
    for secret in ("12345", "their", foreign.public_id):
        assert secret not in response.text
    assert gateway.get(f"/api/costs/{foreign.public_id}").status_code == 404
    narrowed = data_of(gateway.get("/api/v1/usage/costs", params={"keyId": foreign.public_id}))
    assert narrowed["totalCostNanoUsd"] == 0


def test_errors_are_in_the_envelope(
    live_gateway: LiveGateway, gateway: httpx.Client, demo_project: Project
) -> None:
    path = "/api/v1/usage/budget"
    assert error_of(httpx.get(live_gateway.url + path))["code"] == "invalid_api_key"
    _, caller = ApiKey.objects.issue(demo_project, "caller", scopes=["inference"])
    response = httpx.get(live_gateway.url + path, headers={"authorization": f"Bearer {caller}"})
    assert (response.status_code, error_of(response)["code"]) == (403, "insufficient_permissions")
    assert gateway.post(path).status_code == 405
    assert gateway.get(path).headers["cache-control"] == "private, no-store"


def test_a_changed_limit_shows_within_a_second(gateway: httpx.Client, demo_project: Project) -> None:
    budget = Budget.objects.create(project=demo_project, period=Period.DAY, limit_nano=PRICE - 1)
    assert gateway.post("/v1/chat/completions", json=CHAT).status_code == 429
    budget.limit_nano = PRICE
    budget.save()
    deadline = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)
    while (status := gateway.post("/v1/chat/completions", json=CHAT).status_code) == 429 and dt.datetime.now(
        dt.UTC
    ) < deadline:
        pass
    assert status == 200
