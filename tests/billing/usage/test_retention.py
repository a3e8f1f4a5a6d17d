"""Deletion of old usage records: reports, budgets, the audit and the roll-up give the same numbers."""

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, connection
from django.db.models import Sum

from billing.ledger import Ledger
from billing.ledger.audit.run import run_audit
from billing.ledger.corrections import lock_budget_windows, save_corrections
from billing.models import (
    ArchivedUsage,
    Budget,
    BudgetWindow,
    CorrectionReason,
    DailyUsage,
    Mode,
    Period,
    StaleDay,
    UsageRecord,
)
from billing.pricing.reprice import Repricer, entry_from_record
from billing.usage import retention
from billing.usage.reports import UsageReport
from billing.usage.retention import delete_expired, delete_expired_of, first_kept_day
from billing.usage.rollup import rebuild_from, roll_up_stale_days
from keys.models import ApiKey
from projects.models import Project, User
from tests.support.factories import USD, key_in_other_project, record
from tests.support.ledger_harness import PRICE, LedgerHarness, budget, eventually, reserve_request, settle

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]
OLD, LATER = dt.date(2026, 3, 9), dt.date(2026, 3, 10)
DIMENSIONS = ("day", "key", "requested_model", "provider")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH_SIZE", 2)
    monkeypatch.setattr(retention, "BATCH_PAUSE_S", 0)


def report(project: Project) -> list[Any]:
    whole = UsageReport.all_time(project)
    return [whole.total(), *(whole.by(dimension) for dimension in DIMENSIONS)]


def sums() -> list[Any]:
    columns = (
        "day",
        "key",
        "requested_model",
        "provider",
        "requests",
        "failures",
        "input_tokens",
        "cost_nano",
    )
    return sorted(map(str, DailyUsage.objects.values_list(*columns)))


def corrected(row: UsageRecord, cost_nano: int) -> UsageRecord:
    """Create a correction of a record."""
    correction = record(row.key, day=row.day, cost_nano=cost_nano)  # type: ignore[arg-type]
    UsageRecord.objects.filter(pk=correction.pk).update(
        corrects=row.pk, correction_reason=CorrectionReason.REPRICED
    )
    return correction


def with_old_records(key: ApiKey) -> None:
    """Create records and corrections of two old days and of today, and roll them up."""
    for day in (OLD, LATER, key.project.today()):
        for number in range(3):
            corrected(record(key, day=day, cost_nano=number * USD, model=f"model-{number % 2}"), -number)
    rebuild_from(OLD)


def test_reports_and_rollups_stay_the_same(project: Project, key: ApiKey) -> None:
    with_old_records(key)
    before, rolled_up = report(project), sums()
    assert delete_expired_of(project, 30) == 6
    assert UsageRecord.objects.count() == 6 and report(project) == before and sums() == rolled_up
    rebuild_from(OLD)
    assert report(project) == before and sums() == rolled_up
    StaleDay.objects.mark([(project.pk, OLD)])
    assert report(project) == before, "a stale day is read from records and archived usage"
    assert delete_expired_of(project, 30) == 0


def test_a_late_record_of_a_deleted_day_is_added(project: Project, key: ApiKey) -> None:
    with_old_records(key)
    delete_expired_of(project, 30)
    before = UsageReport.for_day(project, OLD).total()
    record(key, day=OLD, cost_nano=7 * USD, model="late")
    StaleDay.objects.mark([(project.pk, OLD)])
    for _ in range(2):
        after = UsageReport.for_day(project, OLD).total()
        assert (after.cost_nano, after.requests) == (before.cost_nano + 7 * USD, before.requests + 1)
        roll_up_stale_days()
    assert delete_expired_of(project, 30) == 1
    assert UsageReport.for_day(project, OLD).total() == after


def test_days_that_are_not_rolled_up_are_kept(project: Project, key: ApiKey) -> None:
    with_old_records(key)
    StaleDay.objects.mark([(project.pk, OLD)])
    assert delete_expired_of(project, 30) == 3
    assert set(UsageRecord.objects.values_list("day", flat=True)) == {OLD, project.today()}


@pytest.mark.usefixtures("counters_in_sql")
def test_keys_that_are_deleted_later_do_not_change_sums(project: Project, key: ApiKey) -> None:
    with_old_records(key)
    delete_expired_of(project, 30)
    key.delete()
    rebuild_from(OLD)
    assert UsageReport.for_day(project, OLD).by("key").keys() == {None}
    assert not run_audit().mismatches


def test_nothing_is_deleted_by_default(
    project: Project, key: ApiKey, change_environment: Callable[..., None]
) -> None:
    with_old_records(key)
    assert delete_expired() == 0
    change_environment(gateway_retention_days=60)
    assert delete_expired() == 6


def test_a_project_that_fails_does_not_stop_the_others(
    project: Project,
    key: ApiKey,
    charlie: User,
    change_environment: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = key_in_other_project(charlie)
    for each in (key, other):
        record(each, day=OLD)
    delete = retention.delete_expired_of

    def fail_for_first(each: Project, days: int) -> int:
        if each == project:
            raise OperationalError("down")
        return delete(each, days)

    monkeypatch.setattr(retention, "delete_expired_of", fail_for_first)
    change_environment(gateway_retention_days=60)
    assert delete_expired() == 1 and UsageRecord.objects.get().key == key


@pytest.mark.parametrize(
    ("today", "days", "first"),
    [
        ("2026-11-20", 30, "2026-10-21"),
        ("2026-11-20", 7, "2026-11-01"),
        ("2026-12-02", 7, "2026-11-25"),
        ("2026-03-01", 7, "2026-02-22"),
        ("2026-11-03", 7, "2026-10-27"),
    ],
)
def test_days_of_open_budget_windows_are_kept(today: str, days: int, first: str) -> None:
    assert first_kept_day(dt.date.fromisoformat(today), days) == dt.date.fromisoformat(first)


@pytest.fixture
async def ledger(ledger_harness: LedgerHarness) -> Ledger:
    return await ledger_harness.start()


async def spend(ledger: Ledger, key: ApiKey, cost: int, day: dt.date = OLD, *budgets: Any) -> None:
    request = reserve_request(key, *budgets, day=day)
    await settle(ledger, request, await ledger.reserve(request), cost)


async def audited(harness: LedgerHarness) -> None:
    await harness.wait_until_written()
    mismatches = await sync_to_async(lambda: run_audit().mismatches)()
    assert not mismatches


async def test_windows_that_are_opened_later_include_deleted_records(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    total = await budget(key, 100, period=Period.TOTAL)
    for number in range(5):
        await spend(ledger, key, PRICE + number, OLD, total)  # Each costs more than its reservation.
    await ledger_harness.wait_until_written()
    before = await ledger_harness.window_total(total)
    await sync_to_async(rebuild_from)(OLD)
    assert await sync_to_async(delete_expired_of)(key.project, 30) == 5
    assert await ledger_harness.window_total(total) == before == (5 * PRICE + 10, 0)
    await audited(ledger_harness)

    # The process ends, because a process restores the records of its last minute if Redis loses them.
    await ledger_harness.stop(ledger)
    await ledger_harness.wipe()
    await BudgetWindow.objects.all().adelete()
    ledger = await ledger_harness.start()
    assert await ledger_harness.window_total(total) == before, "the balance of a window that is not open"
    project_wide = await budget(key, 100, period=Period.TOTAL, whole_project=True)
    await spend(ledger, key, 3, LATER, total, project_wide)
    for each in (total, project_wide):
        assert await ledger_harness.window_total(each) == (before[0] + 3, 0)
    await audited(ledger_harness)


async def test_an_exceeded_lifetime_budget_stays_consistent(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    """The amounts beyond reservations are archived too, because they explain why a limit is exceeded."""
    total = await budget(key, 2, period=Period.TOTAL)
    requests = [reserve_request(key, total, day=OLD) for _ in range(2)]
    for request, grant in [(each, await ledger.reserve(each)) for each in requests]:
        await settle(ledger, request, grant, 2 * PRICE)
    await ledger_harness.wait_until_written()
    await audited(ledger_harness)
    await sync_to_async(rebuild_from)(OLD)
    assert await sync_to_async(delete_expired_of)(key.project, 30) == 2
    await audited(ledger_harness)


async def test_a_correction_that_arrives_after_the_deletion_counts(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    total = await budget(key, 100, period=Period.TOTAL)
    await spend(ledger, key, PRICE, OLD, total)
    await ledger_harness.wait_until_written()
    row = await UsageRecord.objects.aget()
    entry = entry_from_record(row)
    correction = entry.correction_to(PRICE - 100, entry.tokens, CorrectionReason.REPRICED)
    await sync_to_async(rebuild_from)(OLD)
    assert await sync_to_async(delete_expired_of)(key.project, 30) == 1

    def save() -> None:
        with lock_budget_windows():
            save_corrections([correction])

    await sync_to_async(save)()
    await audited(ledger_harness)
    assert await ledger_harness.window_total(total) == (PRICE - 100, 0)
    await sync_to_async(roll_up_stale_days)()
    assert await sync_to_async(delete_expired_of)(key.project, 30) == 1
    await audited(ledger_harness)
    archived = await ArchivedUsage.objects.aaggregate(cost=Sum("cost_nano"), requests=Sum("requests"))
    assert archived == {"cost": PRICE - 100, "requests": 1}


def test_repricing_reports_deleted_requests_and_changes_nothing(project: Project, key: ApiKey) -> None:
    with_old_records(key)
    delete_expired_of(project, 30)
    before = report(project)
    summary = Repricer(project, lambda *_: None).run(OLD, LATER)
    assert (summary.records, summary.deleted) == (0, 6)
    assert report(project) == before


async def test_deletions_while_requests_are_settled_lose_nothing(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    """Records arrive, days are rolled up, records are deleted and windows are opened at the same time."""
    total = await budget(key, 1000, period=Period.TOTAL)
    settled = asyncio.Event()

    def delete_repeatedly() -> int:
        deleted = 0
        while not settled.is_set():
            roll_up_stale_days()
            deleted += delete_expired_of(key.project, 30)
        connection.close()
        return deleted

    async def is_deleted() -> bool:
        return not await UsageRecord.objects.aexists()

    deletion = asyncio.create_task(asyncio.to_thread(delete_repeatedly))
    try:
        for number in range(40):
            await spend(ledger, key, number, (OLD, LATER)[number % 2], total)
            if number % 10 == 0:
                await ledger_harness.wait_until_written()
                await eventually(is_deleted)
                later = await budget(key, 1000, period=Period.TOTAL, mode=Mode.SOFT)
                await spend(ledger, key, 0, OLD, total, later)
                assert await ledger_harness.window_total(later) == await ledger_harness.window_total(total)
                await Budget.objects.filter(pk=later.id).adelete()
        await ledger_harness.wait_until_written()
    finally:
        settled.set()
    assert await deletion > 0
    await sync_to_async(roll_up_stale_days)()
    assert await ledger_harness.window_total(total) == (sum(range(40)), 0)
    sums = await DailyUsage.objects.aaggregate(cost=Sum("cost_nano"), requests=Sum("requests"))
    assert sums == {"cost": sum(range(40)), "requests": 44}
    await audited(ledger_harness)
