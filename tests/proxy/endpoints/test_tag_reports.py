"""Usage reports about tags: filters and breakdowns."""

import datetime as dt
from typing import Any

import httpx
import pytest

from billing.models import ArchivedUsage, UsageRecord
from billing.usage.rollup import rebuild_from
from keys.models import ApiKey
from projects.models import Project
from tests.support.factories import record

pytestmark = pytest.mark.databases


def tagged(key: ApiKey, cost_nano: int, days_ago: int = 0, **tags: str) -> None:
    row = record(key, cost_nano=cost_nano, day=key.project.today() - dt.timedelta(days=days_ago))
    UsageRecord.objects.filter(pk=row.pk).update(metadata=tags or None)


@pytest.fixture
def costs(gateway: httpx.Client, demo_project: Project) -> Any:
    """Return a function that reads the costs of tagged records."""
    key = demo_project.keys.get()
    tagged(key, 1, team="search", env="test")
    tagged(key, 10, days_ago=40, team="search")
    tagged(key, 100, days_ago=3, team="ads")
    tagged(key, 1000)
    rebuild_from(dt.date(2026, 1, 1))

    def read(query: str) -> Any:
        response = gateway.get(f"/api/v1/usage/costs?{query}")
        return response.json()["data"] if response.status_code == 200 else response.json()["error"]

    return read


def test_costs_are_broken_down_by_tags(costs: Any) -> None:
    found = costs("days=60&groupBy=model,tag:team,tag:Env")
    rows = [(row["value"], row["costNanoUsd"], row["requests"]) for row in found["byTag"]["team"]]
    assert rows == [(None, 1000, 1), ("ads", 100, 1), ("search", 11, 2)]
    assert [row["value"] for row in found["byTag"]["Env"]] == [None], "names are case-sensitive"
    assert found["totalCostNanoUsd"] == 1111 and len(found["byModel"]) == 1


def test_costs_are_filtered_by_tags(costs: Any) -> None:
    found = costs("days=60&tag=team:search")
    assert found["totalCostNanoUsd"] == 11 and found["today"]["costNanoUsd"] == 1
    assert [row["costNanoUsd"] for row in found["byDay"]] == [10, 1]
    assert [row["costNanoUsd"] for row in found["byKey"]] == [11]
    assert costs("days=60&tag=team:search&tag=env:test")["totalCostNanoUsd"] == 1
    assert costs("days=60&tag=team:sales")["totalCostNanoUsd"] == 0


def test_a_wrong_tag_is_a_400(costs: Any) -> None:
    for query in ("tag=team", "groupBy=tag:", "groupBy=" + ",".join(f"tag:{name}" for name in "abcdef")):
        assert "tag" in costs(query)["message"], query


def test_a_report_says_from_which_day_tags_are_known(costs: Any, demo_project: Project) -> None:
    assert costs("days=60&groupBy=tag:team")["tagsKnownFrom"] is None
    day = demo_project.today() - dt.timedelta(days=50)
    sums = ("requests", "failures", "input_tokens", "output_tokens", "cost_nano")
    amounts = dict.fromkeys((*sums, "overrun_nano", "unchecked_nano"), 1)
    ArchivedUsage.objects.create(project=demo_project, day=day, **amounts)
    expected = (day + dt.timedelta(days=1)).isoformat()
    for query in ("groupBy=tag:team", "tag=team:search"):
        assert costs(f"days=60&{query}")["tagsKnownFrom"] == expected
    assert costs("days=40&groupBy=tag:team")["tagsKnownFrom"] is None
    assert "tagsKnownFrom" not in costs("days=60")
