"""Measures usage reports, the roll-up of a day, and deletions in batches with 1,000,000 records.

The test prints its times (`-s`). It asserts only CPU time, because the time on a clock depends on what else
the machine does. The CPU time of PostgreSQL is not that of this process, so only the printed times show it.
"""

import datetime as dt
import time
from collections.abc import Callable

import pytest
from django.db import connection

from billing.models import StaleDay, UsageRecord
from billing.usage import retention
from billing.usage.reports import UsageReport
from billing.usage.rollup import rebuild_from, roll_up_stale_days
from keys.models import ApiKey
from projects.models import Project
from proxy.endpoints import usage
from proxy.endpoints.usage_query import DIMENSIONS, UsageQuery
from tests.support.many_records import fill, last_days

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True), pytest.mark.long]
RECORDS, KEYS, DAYS, BUSY_DAY_COPIES = 1_000_000, 20, 60, 6
REPORT_S, ROLLUP_S, BATCH_S = 0.1, 2.0, 0.1


def measure(name: str, run: Callable[[], object], limit_s: float, rounds: int = 5) -> None:
    """Print the best time of some rounds, and check that the best CPU time is below the limit."""
    times = [seconds(run) for _ in range(rounds)]
    cpu, clock = (min(column) for column in zip(*times, strict=True))
    print(f"{connection.vendor}: {name}: {cpu * 1000:.0f} ms CPU, {clock * 1000:.0f} ms")
    assert cpu < limit_s, name


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    cpu, clock = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - clock


def test_a_million_records(project: Project) -> None:
    keys = [ApiKey.objects.issue(project, f"key {number}")[0] for number in range(KEYS)]
    days = list(last_days(project.today(), DAYS))
    busy_day = days[DAYS // 2]
    copies = {day: BUSY_DAY_COPIES if day == busy_day else 1 for day in days}
    fill(keys, copies, RECORDS // sum(copies.values()))
    assert UsageRecord.objects.count() > RECORDS - DAYS - BUSY_DAY_COPIES
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE" if connection.vendor == "postgresql" else "SELECT 1")
    assert rebuild_from(days[0]).failures == []
    measure_reports(project, keys[0])
    measure("roll-up of a day with 92,000 records", lambda: roll_up(project, busy_day), ROLLUP_S, rounds=2)
    first_kept = project.today() - dt.timedelta(days=DAYS // 2)
    measure("deletion of 500 records", lambda: retention.delete_batch(project, first_kept), BATCH_S)


def roll_up(project: Project, day: dt.date) -> None:
    StaleDay.objects.mark([(project.pk, day)])
    assert roll_up_stale_days().days == 1


def measure_reports(project: Project, key: ApiKey) -> None:
    today = project.today()
    for count in (1, 30, DAYS):
        report = UsageReport(project, today - dt.timedelta(days=count - 1), today)
        query = UsageQuery(report, tuple(DIMENSIONS))
        measure(f"/usage/stats?days={count}", lambda query=query: usage.build_stats(query), REPORT_S)  # type: ignore[misc]
        measure(f"/usage/costs?days={count}", lambda query=query: usage.build_costs(query), REPORT_S)  # type: ignore[misc]
    measure("/usage/budget", lambda: usage.build_budgets(key), REPORT_S)
    measure("/api/costs", lambda: UsageReport.all_time(project).by("key"), REPORT_S)
