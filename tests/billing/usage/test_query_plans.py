"""Queries over usage records use indexes on SQLite, which has no statistics of the table."""

import datetime as dt
from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing.models import UsageRecord
from billing.usage import retention
from billing.usage.reports import UsageReport
from keys.models import ApiKey
from projects.models import Project
from proxy.endpoints import usage
from proxy.endpoints.usage_query import DIMENSIONS, UsageQuery
from tests.support.factories import record

TABLE = "billing_usagerecord"


def plans(run: Callable[[], object]) -> list[str]:
    """Return how SQLite reads the table of records in each query of a function."""
    with CaptureQueriesContext(
        connection,
    ) as captured:
        run()
    statements = [query["sql"] for query in captured if TABLE in query["sql"]]
    selects = [statement for statement in statements if statement.startswith(("SELECT", "DELETE", "UPDATE"))]
    with connection.cursor() as cursor:
        steps = []
        for statement in selects:
            cursor.execute("EXPLAIN QUERY PLAN " + statement.replace("%", "%%"))
            steps += [detail for *_, detail in cursor.fetchall() if TABLE in detail]
    assert steps
    return steps


@pytest.fixture
def records(key: ApiKey) -> ApiKey:
    today = key.project.today()
    for age in (0, 1, 40, 41):
        record(key, day=today - dt.timedelta(days=age))
    return key


def test_a_report_reads_only_the_days_without_sums(records: ApiKey) -> None:
    today = records.project.today()
    query = UsageQuery(UsageReport(records.project, today - dt.timedelta(days=29), today), tuple(DIMENSIONS))
    for build in (usage.build_stats, usage.build_costs):
        found = plans(lambda build=build: build(query))  # type: ignore[misc]
        assert all("usage_by_project_day (project_id=? AND day=?)" in step for step in found), found


def test_stats_read_the_records_once(records: ApiKey) -> None:
    report = UsageReport(records.project, records.project.today(), records.project.today())
    assert len(plans(lambda: usage.build_stats(UsageQuery(report, tuple(DIMENSIONS))))) == 1


def test_a_deletion_reads_only_its_batch(records: ApiKey) -> None:
    first_kept = records.project.today() - dt.timedelta(days=30)
    found = plans(lambda: retention.delete_batch(records.project, first_kept))
    assert UsageRecord.objects.count() == 2
    # The first step finds the batch, in the order of the index. The others must use the ids.
    assert "usage_by_project_day" in found[0]
    assert all("SEARCH" in step and "project_id" not in step for step in found[1:]), found


def test_corrections_of_a_record_are_found_by_their_index(project: Project, key: ApiKey) -> None:
    row = record(key)
    [step] = plans(lambda: list(UsageRecord.objects.corrections_of(row)))
    assert "usage_corrections" in step
