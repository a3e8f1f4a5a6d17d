"""The audit finds every way in which books can be wrong, and finds nothing in books that are right."""

from collections.abc import AsyncIterator
from datetime import timedelta
from io import StringIO

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.utils import timezone
from pytest_django import Settings

from billing.audit import differences
from billing.ledger.inspection import sql_state
from billing.models import Budget, BudgetWindow, DailyUsage, Reservation, UsageRecord
from billing.tasks import audit_ledger, roll_up_usage
from keys.models import ApiKey
from projects.ids import uuid7
from tests.ledgers import PRICE, books_on, budget, demand, settle
from tests.live import LiveGateway

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]


@pytest.fixture
async def busy(transactional_db: None, key: ApiKey) -> AsyncIterator[None]:
    """Books with something of everything: two budgets, records of two days, a correction, and a request under way."""
    books = books_on("sql")
    day, total = await budget(key, 100), await budget(key, 100, whole_project=True)
    ledger = await books.start()
    late = demand(key, day, total)
    held = await ledger.reserve(late)
    await books.kill(ledger)
    ledger = await books.start()
    await settle(ledger, late, held, cost=PRICE // 2)
    ended = demand(key, day, total)
    await settle(ledger, ended, await ledger.reserve(ended), cost=PRICE)
    await ledger.reserve(demand(key, day, total))
    await sync_to_async(Budget.objects.update)(changed_at=timezone.now() - timedelta(days=400))
    yield
    await books.close()


def found() -> list[str]:
    roll_up_usage()
    return [f"{each.rule} {each.expected} {each.found}" for each in differences(sql_state(served=True))]


async def look() -> list[str]:
    return await sync_to_async(found)()


async def test_right_books_have_no_differences(busy: None) -> None:
    assert await look() == []


async def test_money_that_was_spent_without_a_record_is_found(busy: None) -> None:
    await BudgetWindow.objects.filter(budget__key=None).aupdate(spent_nano=7)
    assert await look() == [f"I5 {PRICE + PRICE // 2} 7"]


async def test_a_record_that_was_lost_is_found_in_every_window(busy: None) -> None:
    await UsageRecord.objects.filter(cost_nano=PRICE, estimated=False).adelete()
    await DailyUsage.objects.all().adelete()
    assert [text for text in await look() if text.startswith("I5")] == [f"I5 {PRICE // 2} {PRICE + PRICE // 2}"] * 2


async def test_a_budget_that_was_overspent_is_found(busy: None) -> None:
    await Budget.objects.filter(key=None).aupdate(limit_nano=2 * PRICE)
    assert await look() == [f"I1 {2 * PRICE} {2 * PRICE + PRICE // 2}"]


async def test_a_limit_that_was_set_below_what_is_spent_is_not_taken_for_overspending(busy: None) -> None:
    row = await Budget.objects.aget(key=None)
    row.limit_nano = 0
    await row.asave()
    await Reservation.objects.all().adelete()
    await BudgetWindow.objects.all().aupdate(reserved_nano=0)
    assert await look() == []


async def test_money_held_for_nobody_and_requests_that_hold_none_are_found(busy: None) -> None:
    await Reservation.objects.all().adelete()
    assert await look() == [f"I2 0 {PRICE}"] * 2


async def test_a_settled_request_that_is_still_held_is_found(busy: None) -> None:
    record = await UsageRecord.objects.filter(corrects=None).afirst()
    await Reservation.objects.all().aupdate(id=record.pk if record else None)
    assert await look() == [f"I3 0 {PRICE}"]


async def test_a_correction_of_nothing_and_one_too_many_are_found(busy: None, key: ApiKey) -> None:
    correction = await UsageRecord.objects.exclude(corrects=None).aget()
    correction.pk, correction.cost_nano = uuid7(), 0
    await correction.asave(force_insert=True)
    assert await look() == ["I3 1 2"]
    await UsageRecord.objects.filter(pk=correction.pk).aupdate(corrects=uuid7())
    assert await look() == ["I3 1 0"]


async def test_what_a_dead_process_holds_is_found_where_nobody_serves(busy: None) -> None:
    state = await sync_to_async(sql_state)(served=False)
    assert [each.rule for each in await sync_to_async(lambda: list(differences(state)))() if each.rule != "roll-up"] == ["I4"]


async def test_a_sum_that_is_not_that_of_its_records_is_found(busy: None) -> None:
    assert await look() == []
    await DailyUsage.objects.all().aupdate(cost_nano=1)
    assert await look() == [f"roll-up {PRICE + PRICE // 2} 1"]


def test_the_command_prints_each_difference_and_ends_with_status_one(key: ApiKey, settings: Settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"redis_url": ""})
    out = StringIO()
    call_command("audit_ledger", stdout=out)
    assert out.getvalue() == "0 windows, 0 open reservations checked: 0 differences.\n"
    row = Budget.objects.create(project=key.project, period="day", limit_nano=5)
    BudgetWindow.objects.create(budget=row, name="2026-11-20", spent_nano=3)
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("audit_ledger", stdout=out)
    assert ended.value.code == 1
    lines = out.getvalue().splitlines()
    assert lines[0] == f"I5: budget {row.pk}, window 2026-11-20: spent: expected 0, found 3"
    assert lines[-1].endswith("1 differences.")


def test_the_metric_says_what_the_last_scheduled_audit_found(key: ApiKey, settings: Settings, live_gateway: LiveGateway) -> None:
    settings.ENV = settings.ENV.model_copy(update={"redis_url": ""})
    row = Budget.objects.create(project=key.project, period="day", limit_nano=5)
    BudgetWindow.objects.create(budget=row, name="2026-11-20", spent_nano=3)
    assert audit_ledger() == 1
    assert "gateway_ledger_differences 1.0" in httpx.get(f"{live_gateway.url}/metrics").text
    BudgetWindow.objects.all().delete()
    assert audit_ledger() == 0
    assert "gateway_ledger_differences 0.0" in httpx.get(f"{live_gateway.url}/metrics").text
