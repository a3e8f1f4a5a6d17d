"""One tenant's figures, however absurd, keep nobody else's books, sums and alerts back."""

from io import StringIO

import pytest
from django.core.management import call_command

from billing.models import Budget, BudgetWindow, DailyUsage, DirtyDay, Mode, Period
from billing.tasks import audit_ledger, raise_alerts, roll_up_usage
from keys.models import ApiKey
from projects.models import User
from tests.pages_fixtures import USD, key_of_another, record
from tests.test_audit import impatient

__all__ = ["impatient"]

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]
ABSURD = 2**62
"""Nano-USD: the sum of three is beyond 64 bits."""


@pytest.fixture
def absurd(key: ApiKey, charlie: User, counters_in_sql: None) -> ApiKey:
    """A key of another project than `key`, which has spent more than a column holds; both have a budget that should alert."""
    absurd = key_of_another(charlie)
    for _ in range(3):
        record(absurd, cost_nano=ABSURD)
    record(key, cost_nano=USD)
    for each in (key, absurd):
        Budget.objects.create(project=each.project, key=each, period=Period.DAY, mode=Mode.SOFT, limit_nano=USD, thresholds=[100])
        DirtyDay.objects.create(project=each.project, day=each.project.today(), mark=1)
    return absurd


def test_figures_of_one_project_that_overflow_do_not_keep_the_others_from_being_summed(absurd: ApiKey, key: ApiKey) -> None:
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("rollup", stdout=out)
    assert ended.value.code == 1
    failure, count, total = out.getvalue().splitlines()
    assert failure.startswith(f"Not summed: project {absurd.project_id}, {absurd.project.today()}: ")
    assert count == "1 days of projects recomputed."
    assert "$1.00" in total
    assert [day.project_id for day in DirtyDay.objects.all()] == [absurd.project_id]
    assert list(DailyUsage.objects.values_list("project", "cost_nano")) == [(key.project_id, USD)]
    assert roll_up_usage() == 0


def test_sums_of_a_month_that_overflow_are_told_all_the_same(absurd: ApiKey, key: ApiKey) -> None:
    for day in range(3):
        DailyUsage.objects.create(
            project=absurd.project, key=absurd, day=f"2026-11-0{day + 1}", model_asked="m", provider="p", cost_nano=ABSURD, requests=1,
            failures=0, input_tokens=1, output_tokens=1,
        )  # fmt: skip
    assert [cost for _, cost, _ in DailyUsage.objects.totals_by_month()] == [3 * ABSURD]


def test_figures_of_one_project_that_overflow_do_not_hide_what_is_wrong_in_another(absurd: ApiKey, key: ApiKey) -> None:
    row = Budget.objects.get(key=key)
    BudgetWindow.objects.create(budget=row, name=key.project.today().isoformat(), spent_nano=3)
    DirtyDay.objects.all().delete()
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("audit_ledger", stdout=out)
    assert ended.value.code == 1
    lines = out.getvalue().splitlines()
    assert f"I5: budget {row.pk}, window {key.project.today()}: spent: expected {USD}, found 3" in lines
    assert [line for line in lines if f"project {absurd.project_id}" in line]
    assert audit_ledger() == len(lines) - 1


def test_figures_of_one_project_that_overflow_do_not_keep_the_alerts_of_another(absurd: ApiKey, key: ApiKey) -> None:
    assert raise_alerts() == 1
