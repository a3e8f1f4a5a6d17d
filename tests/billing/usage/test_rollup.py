"""`manage.py rollup`: the daily sums equal the sums over the records, however often it runs."""

import datetime as dt
import io

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Sum

from billing.models import DailyUsage, StaleDay, UsageRecord
from billing.usage.reports import UsageReport
from keys.models import ApiKey
from projects.models import Project
from tests.support.factories import USD, daily, record

pytestmark = pytest.mark.databases
NOVEMBER, DECEMBER = dt.date(2026, 11, 30), dt.date(2026, 12, 1)
PAST_DAY = dt.date(2026, 3, 9)
"""A day that cannot be today: today is always read from records."""


def rollup(*arguments: str) -> str:
    output = io.StringIO()
    call_command("rollup", *arguments, stdout=output)
    return output.getvalue()


def test_rebuild_replaces_wrong_sums_and_adds_missing_ones(project: Project, key: ApiKey) -> None:
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


def test_rebuild_leaves_earlier_days_alone(project: Project, key: ApiKey) -> None:
    daily(key, NOVEMBER, 7)
    rollup("--since", "2026-12-01")
    assert DailyUsage.objects.get().cost_nano == 7


def test_only_stale_days_are_recomputed_without_a_date(project: Project, key: ApiKey) -> None:
    record(key, day=NOVEMBER, cost_nano=USD)
    record(key, day=DECEMBER, cost_nano=USD)
    StaleDay.objects.mark([(project.pk, DECEMBER)])
    assert rollup().startswith("1 days")
    assert DailyUsage.objects.get().day == DECEMBER


def test_marking_a_stale_day_again_changes_its_version(project: Project) -> None:
    StaleDay.objects.mark([(project.pk, DECEMBER)])
    before = StaleDay.objects.get()
    StaleDay.objects.mark([(project.pk, DECEMBER), (project.pk, NOVEMBER)])
    again = StaleDay.objects.get(day=DECEMBER)
    assert again.pk == before.pk and again.version > before.version
    assert StaleDay.objects.count() == 2


def test_report_reads_a_stale_day_from_its_records(project: Project, key: ApiKey) -> None:
    daily(key, PAST_DAY, 99 * USD)
    record(key, day=PAST_DAY, cost_nano=USD)
    month = UsageReport.month_to_date(project, PAST_DAY)
    assert month.cost_by_day() == {PAST_DAY: 99 * USD}
    StaleDay.objects.mark([(project.pk, PAST_DAY)])
    assert month.cost_by_day() == {PAST_DAY: USD}
    assert month.total().cost_nano == USD


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", ""])
def test_invalid_date_is_reported(db: None, text: str) -> None:
    with pytest.raises(CommandError, match="Write it as 2026-11-01"):
        rollup("--since", text)


@pytest.mark.django_db(transaction=True)
def test_record_of_a_deleted_key_is_summed(project: Project, key: ApiKey) -> None:
    orphan = record(key, day=NOVEMBER, cost_nano=USD)
    key.delete()
    UsageRecord.objects.filter(pk=orphan.pk).update(key_id=key.pk or 10**6)
    assert rollup("--since", "2026-11-01").startswith("1 days")
    assert DailyUsage.objects.get().cost_nano == USD
