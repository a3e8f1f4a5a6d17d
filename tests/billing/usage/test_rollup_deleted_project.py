"""A project that is deleted while its requests run leaves no day that is marked for ever."""

import io

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.db import IntegrityError

from billing.models import DailyUsage, StaleDay, UsageRecord
from billing.models.usage import DailyUsageQuerySet
from keys.models import ApiKey
from projects.models import Project
from tests.support.factories import USD, record
from tests.support.ledger_harness import PRICE, TODAY, LedgerHarness, budget, reserve_request, settle

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]


def rollup(*arguments: str) -> str:
    output = io.StringIO()
    call_command("rollup", *arguments, stdout=output)
    return output.getvalue()


async def test_a_request_that_ends_after_its_project_was_deleted_leaves_no_mark(
    ledger_harness: LedgerHarness, key: ApiKey
) -> None:
    ledger = await ledger_harness.start()
    terms = await budget(key, 5)
    held = await ledger.reserve(wanted := reserve_request(key, terms))
    project_id = key.project_id
    await Project.objects.filter(pk=project_id).adelete()
    await settle(ledger, wanted, held, cost=PRICE)
    await ledger_harness.wait_until_written()
    assert await UsageRecord.objects.filter(project_id=project_id).acount() == 1
    assert await StaleDay.objects.filter(project_id=project_id).aexists()
    assert (await sync_to_async(DailyUsage.objects.recompute_stale)()).failures == []
    assert not await StaleDay.objects.aexists()


@pytest.mark.parametrize("arguments", [(), ("--since", "2026-11-01")])
def test_a_roll_up_takes_the_days_of_other_projects_beside_those_of_a_deleted_one(
    key: ApiKey, arguments: tuple[str, ...]
) -> None:
    record(key, day=TODAY, cost_nano=USD)
    StaleDay.objects.create(project_id=key.project_id, day=TODAY, version=1)
    gone = 10**6
    StaleDay.objects.create(project_id=gone, day=TODAY, version=1)
    record(key, day=TODAY, cost_nano=USD)
    UsageRecord.objects.filter(pk=UsageRecord.objects.order_by("-pk").values("pk")[:1]).update(
        project_id=gone
    )
    assert rollup(*arguments).startswith("1 days of projects recomputed.")
    assert not StaleDay.objects.exists()
    assert DailyUsage.objects.get().cost_nano == USD


def test_a_project_that_is_deleted_while_its_day_is_summed_is_not_a_failure(
    key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(key, day=TODAY, cost_nano=USD)
    StaleDay.objects.create(project_id=key.project_id, day=TODAY, version=1)

    def recompute(_: object, dirty: StaleDay) -> None:
        Project.objects.filter(pk=dirty.project_id).delete()
        StaleDay.objects.create(pk=dirty.pk, project_id=dirty.project_id, day=dirty.day, version=1)
        raise IntegrityError("there is no such project")

    monkeypatch.setattr(DailyUsageQuerySet, "recompute", recompute)
    made = DailyUsage.objects.recompute_stale()
    assert (made.days, made.failures) == (0, [])
    assert not StaleDay.objects.exists()
