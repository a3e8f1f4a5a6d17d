"""Sums by day and month: what they say is what the records say, however often they are made."""

import datetime as dt
import io

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Sum

from billing.models import DailyUsage, StaleDay, UsageRecord
from keys.models import ApiKey
from projects.models import Project
from tests.support.factories import USD, daily, record

pytestmark = pytest.mark.databases
NOVEMBER, DECEMBER = dt.date(2026, 11, 30), dt.date(2026, 12, 1)


def rollup(*arguments: str) -> str:
    output = io.StringIO()
    call_command("rollup", *arguments, stdout=output)
    return output.getvalue()


def test_a_rebuild_replaces_what_is_wrong_and_adds_what_is_missing(project: Project, key: ApiKey) -> None:
    record(key, day=NOVEMBER, cost_nano=USD)
    record(key, day=DECEMBER, cost_nano=2 * USD)
    record(key, day=DECEMBER, cost_nano=3 * USD, model="gpt-4o")
    daily(key, DECEMBER, 99 * USD)
    daily(key, DECEMBER + dt.timedelta(days=1), 99 * USD)
    output = rollup("--since", "2026-11-01")
    assert output.splitlines() == [
        "3 days of projects recomputed.",
        "2026-11           $1.00           1 requests",
        "2026-12           $5.00           2 requests",
    ]
    assert rollup("--since", "2026-11-01") == output.replace("3 days", "2 days")
    assert not StaleDay.objects.exists()
    assert DailyUsage.objects.aggregate(total=Sum("cost_nano")) == UsageRecord.objects.aggregate(
        total=Sum("cost_nano")
    )


def test_a_rebuild_leaves_earlier_days_alone(project: Project, key: ApiKey) -> None:
    daily(key, NOVEMBER, 7)
    rollup("--since", "2026-12-01")
    assert DailyUsage.objects.get().cost_nano == 7


def test_without_a_date_only_marked_days_are_recomputed(project: Project, key: ApiKey) -> None:
    record(key, day=NOVEMBER, cost_nano=USD)
    record(key, day=DECEMBER, cost_nano=USD)
    StaleDay.objects.create(project=project, day=DECEMBER, version=1)
    assert rollup().startswith("1 days")
    assert DailyUsage.objects.get().day == DECEMBER


def test_months_are_summed_by_project_key_model_and_provider(project: Project, key: ApiKey) -> None:
    for day in (1, 2, 30):
        record(key, day=dt.date(2026, 11, day), cost_nano=day)
    record(key, day=DECEMBER, cost_nano=1000)
    rollup("--since", "2026-11-01")
    november, december = DailyUsage.objects.by_month()
    assert november == {
        "month": dt.date(2026, 11, 1), "project": project.pk, "key": key.pk, "requested_model": "demo/chat", "provider": "demo",
        "requests": 3, "failures": 0, "input_tokens": 3 * 1234, "output_tokens": 3 * 56, "cost_nano": 33,
    }  # fmt: skip
    assert december["cost_nano"] == 1000


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", ""])
def test_invalid_date_is_reported(db: None, text: str) -> None:
    with pytest.raises(CommandError, match="write it as 2026-11-01"):
        rollup("--since", text)


@pytest.mark.django_db(transaction=True)
def test_a_request_that_ends_after_its_key_was_deleted_is_summed(project: Project, key: ApiKey) -> None:
    made = record(key, day=NOVEMBER, cost_nano=USD)
    key.delete()
    UsageRecord.objects.filter(pk=made.pk).update(key_id=key.pk or 10**6)
    assert rollup("--since", "2026-11-01").startswith("1 days")
    assert DailyUsage.objects.get().cost_nano == USD
