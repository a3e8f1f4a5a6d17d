"""Usage over the REST API: groups, days and hours, pages and CSV."""

import csv
import datetime as dt
from io import StringIO
from typing import Any

import pytest

from billing.models import UsageRecord
from keys.models import ApiKey
from projects.models import Project
from tests.support.api_client import ApiClient
from tests.support.factories import USD, daily, record

PATH = "projects/acme/usage"


@pytest.fixture
def records(project: Project, key: ApiKey) -> list[UsageRecord]:
    """Three requests of today, and the sums of a day ten days ago."""
    found = [record(key, cost_nano=USD, model=model) for model in ("a", "b", "b")]
    UsageRecord.objects.filter(pk=found[0].pk).update(metadata={"team": "search"})
    daily(key, project.today() - dt.timedelta(days=10), 5 * USD)
    return found


def groups(reply: Any) -> dict[tuple[str, ...], float]:
    return {tuple(row["group"].values()): row["cost"] for row in reply.data["rows"]}


@pytest.mark.usefixtures("records")
def test_sums_of_the_whole_period(owner_api: ApiClient) -> None:
    reply = owner_api.get(PATH)
    assert (reply.data["total"]["cost"], reply.data["total"]["requests"]) == (8, 4)
    assert reply.data["rows"] == [{**reply.data["total"], "time": None, "group": {}}]
    assert owner_api.get(f"{PATH}?days=1").data["total"]["cost"] == 3


@pytest.mark.databases
@pytest.mark.usefixtures("records")
def test_rows_are_grouped_by_every_combination(owner_api: ApiClient, key: ApiKey) -> None:
    reply = owner_api.get(f"{PATH}?days=1&groupBy=model,key")
    assert groups(reply) == {("a", key.public_id): 1, ("b", key.public_id): 2}
    assert groups(owner_api.get(f"{PATH}?days=1&groupBy=tag:team")) == {("search",): 1, ("",): 2}
    assert groups(owner_api.get(f"{PATH}?groupBy=provider")) == {("demo",): 8}


@pytest.mark.usefixtures("records")
def test_filters_select_requests(owner_api: ApiClient) -> None:
    assert owner_api.get(f"{PATH}?model=b&days=1").data["total"]["cost"] == 2
    assert owner_api.get(f"{PATH}?tag=team:search").data["total"]["cost"] == 1


@pytest.mark.usefixtures("records")
def test_days_are_those_of_the_project(owner_api: ApiClient, project: Project) -> None:
    rows = owner_api.get(f"{PATH}?granularity=day").data["rows"]
    today = project.today()
    assert [(row["time"], row["cost"]) for row in rows] == [
        (str(today - dt.timedelta(days=10)), 5),
        (str(today), 3),
    ]


@pytest.mark.databases
def test_hours_are_in_utc(owner_api: ApiClient, project: Project, records: list[UsageRecord]) -> None:
    time = dt.datetime.combine(project.today(), dt.time(10, 59, 59), tzinfo=dt.UTC)
    UsageRecord.objects.update(created_at=time)
    UsageRecord.objects.filter(pk=records[0].pk).update(created_at=time + dt.timedelta(seconds=1))
    rows = owner_api.get(f"{PATH}?days=1&granularity=hour").data["rows"]
    assert [(row["time"][11:], row["cost"]) for row in rows] == [("10:00:00+00:00", 2), ("11:00:00+00:00", 1)]


@pytest.mark.databases
@pytest.mark.usefixtures("records")
def test_pages_have_every_row_once(owner_api: ApiClient) -> None:
    first = owner_api.get(f"{PATH}?groupBy=model&limit=2")
    second = owner_api.get(f"{PATH}?groupBy=model&limit=2&cursor={first.data['nextCursor']}")
    names = [row["group"]["model"] for row in first.data["rows"] + second.data["rows"]]
    assert (names, second.data["nextCursor"]) == (["a", "b", "demo/chat"], None)
    assert first.data["total"] == second.data["total"]
    other = owner_api.get(f"{PATH}?groupBy=provider&cursor={first.data['nextCursor']}")
    assert (other.status, list(other.error["fields"])) == (400, ["cursor"])


@pytest.mark.parametrize("model", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx"])
def test_csv_contains_no_formulas(owner_api: ApiClient, key: ApiKey, model: str) -> None:
    record(key, cost_nano=USD, model=model)
    response = owner_api.client.get(f"/api/v1/{PATH}?groupBy=model&granularity=day&format=csv")
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    header, row = csv.reader(StringIO(response.content.decode(), newline=""))
    assert header[:3] == ["time", "model", "requests"]
    assert row[1] == f"'{model}" and row[header.index("cost")] == "1"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("days=0", "days"),
        ("days=x", "days"),
        ("to=", "to"),
        ("from=2026-02-30", "from"),
        ("groupBy=color", "groupBy"),
        ("groupBy=tag:", "groupBy"),
        ("groupBy=model,key,provider,tag:a,tag:b", "groupBy"),
        ("groupBy=%00", "groupBy"),
        ("granularity=week", "granularity"),
        ("granularity=hour&days=32", "granularity"),
        ("format=xml", "format"),
        ("limit=0", "limit"),
        ("cursor=x", "cursor"),
    ],
)
def test_invalid_parameter_is_named(owner_api: ApiClient, project: Project, query: str, field: str) -> None:
    reply = owner_api.get(f"{PATH}?{query}")
    assert (reply.status, list(reply.error["fields"])) == (400, [field])


def test_an_unknown_parameter_is_a_400(owner_api: ApiClient, project: Project) -> None:
    assert owner_api.get(f"{PATH}?colour=red").status == 400
