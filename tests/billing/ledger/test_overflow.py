"""One tenant's figures, however absurd, keep nobody else's books, sums and alerts back."""

from io import StringIO

import pytest
from django.core.management import call_command

from billing.models import Budget, BudgetWindow, DailyUsage, Mode, Period, StaleDay
from billing.tasks import audit_ledger, detect_alerts, roll_up_usage
from billing.usage.reports import totals_by_month
from keys.models import ApiKey
from projects.models import User
from tests.billing.ledger.audit.test_audit import no_recheck_delay
from tests.support.factories import USD, key_in_other_project, record

__all__ = ["no_recheck_delay"]

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]
HUGE_AMOUNT = 2**62
"""Nano-USD: the sum of three is beyond 64 bits."""


@pytest.fixture
def overflowing_project(key: ApiKey, charlie: User, counters_in_sql: None) -> ApiKey:
    """A key of another project than `key`, which has spent more than a column holds; both have a budget that should alert."""
    absurd = key_in_other_project(charlie)
    for _ in range(3):
        record(absurd, cost_nano=HUGE_AMOUNT)
    record(key, cost_nano=USD)
    for each in (key, absurd):
        Budget.objects.create(
            project=each.project,
            key=each,
            period=Period.DAY,
            mode=Mode.SOFT,
            limit_nano=USD,
            thresholds=[100],
        )
        StaleDay.objects.create(project=each.project, day=each.project.today(), version=1)
    return absurd


def test_overflow_in_one_project_does_not_block_other_rollups(
    overflowing_project: ApiKey, key: ApiKey
) -> None:
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("rollup", stdout=out)
    assert ended.value.code == 1
    failure, count, total = out.getvalue().splitlines()
    assert failure.startswith(
        f"Not summed: project {overflowing_project.project_id}, {overflowing_project.project.today()}: "
    )
    assert count == "1 days of projects recomputed."
    assert "$1.00" in total
    assert [day.project_id for day in StaleDay.objects.all()] == [overflowing_project.project_id]
    assert list(DailyUsage.objects.values_list("project", "cost_nano")) == [(key.project_id, USD)]
    assert roll_up_usage() == 0


def test_overflowing_month_totals_are_shown(overflowing_project: ApiKey, key: ApiKey) -> None:
    for day in range(3):
        DailyUsage.objects.create(
            project=overflowing_project.project, key=overflowing_project, day=f"2026-11-0{day + 1}", requested_model="m", provider="p", cost_nano=HUGE_AMOUNT, requests=1,
            failures=0, input_tokens=1, output_tokens=1,
        )  # fmt: skip
    assert [totals.cost_nano for totals in totals_by_month().values()] == [3 * HUGE_AMOUNT]


def test_overflow_in_one_project_does_not_hide_other_mismatches(
    overflowing_project: ApiKey, key: ApiKey
) -> None:
    row = Budget.objects.get(key=key)
    BudgetWindow.objects.create(budget=row, name=key.project.today().isoformat(), spent_nano=3)
    StaleDay.objects.all().delete()
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("audit_ledger", stdout=out)
    assert ended.value.code == 1
    lines = out.getvalue().splitlines()
    assert f"I5: budget {row.pk}, window {key.project.today()}: spent: expected {USD}, found 3" in lines
    assert [line for line in lines if f"project {overflowing_project.project_id}" in line]
    assert audit_ledger() == len(lines) - 1


def test_overflow_in_one_project_does_not_block_other_alerts(
    overflowing_project: ApiKey, key: ApiKey
) -> None:
    assert detect_alerts() == 1
