"""Amounts of one tenant that overflow affect no other tenant's counters, sums and alerts."""

from io import StringIO

import pytest
from django.core.management import call_command

from billing.budgets.windows import window_name
from billing.ledger.corrections import lock_budget_windows, save_corrections
from billing.ledger.sql.transactions import MAX_COUNTED_SPENT_NANO
from billing.models import Budget, BudgetWindow, CorrectionReason, DailyUsage, Mode, Period, StaleDay
from billing.tasks import audit_ledger, detect_alerts, roll_up_usage
from billing.usage.reports import totals_by_month
from keys.models import ApiKey
from projects.models import User
from tests.support.factories import USD, key_in_other_project, record
from tests.support.ledger_harness import TODAY, reserve_request

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]
HUGE_AMOUNT = 2**62
"""In nano-USD. The sum of three overflows 64 bits."""


@pytest.fixture
def overflowing_project(key: ApiKey, charlie: User, counters_in_sql: None) -> ApiKey:
    """A key of another project that has spent more than a column can hold.

    Key and project have alerting budgets.
    """
    overflowing = key_in_other_project(charlie)
    for _ in range(3):
        record(overflowing, cost_nano=HUGE_AMOUNT)
    record(key, cost_nano=USD)
    for each in (key, overflowing):
        Budget.objects.create(
            project=each.project,
            key=each,
            period=Period.DAY,
            mode=Mode.SOFT,
            limit_nano=USD,
            thresholds=[100],
        )
        StaleDay.objects.create(project=each.project, day=each.project.today(), version=1)
    return overflowing


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
            project=overflowing_project.project, key=overflowing_project, day=f"2026-11-0{day + 1}",
            requested_model="m", provider="p", cost_nano=HUGE_AMOUNT, requests=1, failures=0,
            input_tokens=1, output_tokens=1,
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


def test_corrections_leave_a_full_counter_as_it_is(key: ApiKey, counters_in_sql: None) -> None:
    entry = reserve_request(key).estimate
    full, filling, other = (
        open_window(key, period, spent_nano)
        for period, spent_nano in ((Period.DAY, MAX_COUNTED_SPENT_NANO), (Period.MONTH, 7), (Period.TOTAL, 0))
    )
    correction = entry.correction_to(entry.cost_nano + 5, entry.tokens, CorrectionReason.REPRICED)
    with lock_budget_windows():
        save_corrections([correction])
    for window in (full, filling, other):
        window.refresh_from_db()
    assert [window.spent_nano for window in (full, filling, other)] == [MAX_COUNTED_SPENT_NANO, 12, 5]


def open_window(key: ApiKey, period: Period, spent_nano: int) -> BudgetWindow:
    budget = Budget.objects.create(project=key.project, key=key, period=period, limit_nano=USD)
    return BudgetWindow.objects.create(budget=budget, name=window_name(period, TODAY), spent_nano=spent_nano)
