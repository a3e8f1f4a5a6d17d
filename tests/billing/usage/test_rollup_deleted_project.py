"""Deleting a project while its requests are in flight leaves no stale day behind."""

import io

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.db import IntegrityError

from billing.models import DailyUsage, StaleDay, UsageRecord
from billing.usage import rollup
from keys.models import ApiKey
from projects.models import Project
from tests.support.factories import USD, record
from tests.support.ledger_harness import PRICE, TODAY, LedgerHarness, budget, reserve_request, settle

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]
DELETED_PROJECT_ID = 10**6


def run_rollup(*arguments: str) -> str:
    output = io.StringIO()
    call_command("rollup", *arguments, stdout=output)
    return output.getvalue()


async def test_stale_day_of_a_deleted_project_is_removed(ledger_harness: LedgerHarness, key: ApiKey) -> None:
    """The request ends after its project was deleted. Its record is stored, and its day becomes stale."""
    ledger = await ledger_harness.start()
    limits = await budget(key, 5)
    grant = await ledger.reserve(wanted := reserve_request(key, limits))
    project_id = key.project_id
    await Project.objects.filter(pk=project_id).adelete()
    await settle(ledger, wanted, grant, cost=PRICE)
    await ledger_harness.wait_until_written()
    assert await UsageRecord.objects.filter(project_id=project_id).acount() == 1
    assert await StaleDay.objects.filter(project_id=project_id).aexists()
    assert (await sync_to_async(rollup.roll_up_stale_days)()).failures == []
    assert not await StaleDay.objects.aexists()


@pytest.mark.parametrize("arguments", [(), ("--since", "2026-11-01")])
def test_deleted_project_does_not_stop_the_roll_up_of_others(key: ApiKey, arguments: tuple[str, ...]) -> None:
    record(key, day=TODAY, cost_nano=USD)
    deleted = record(key, day=TODAY, cost_nano=USD)
    UsageRecord.objects.filter(pk=deleted.pk).update(project_id=DELETED_PROJECT_ID)
    StaleDay.objects.mark([(key.project_id, TODAY), (DELETED_PROJECT_ID, TODAY)])
    assert run_rollup(*arguments).startswith("1 days of projects recomputed.")
    assert not StaleDay.objects.exists()
    assert DailyUsage.objects.get().cost_nano == USD


def test_deleting_a_project_during_its_roll_up_is_not_a_failure(
    key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(key, day=TODAY, cost_nano=USD)
    StaleDay.objects.mark([(key.project_id, TODAY)])

    def delete_project_then_fail(stale_day: StaleDay) -> None:
        Project.objects.filter(pk=stale_day.project_id).delete()
        StaleDay.objects.create(
            pk=stale_day.pk, project_id=stale_day.project_id, day=stale_day.day, version=1
        )
        raise IntegrityError("there is no such project")

    monkeypatch.setattr(rollup, "roll_up_day", delete_project_then_fail)
    result = rollup.roll_up_stale_days()
    assert (result.days, result.failures) == (0, [])
    assert not StaleDay.objects.exists()
