"""The audit finds every kind of mismatch, and none in a consistent ledger."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import timedelta
from io import StringIO

import httpx
import msgspec
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as configured
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from billing.ledger import Ledger
from billing.ledger.audit import run
from billing.ledger.audit.checks import find_mismatches
from billing.ledger.audit.redis_snapshot import redis_snapshots
from billing.ledger.audit.run import run_audit
from billing.ledger.audit.snapshot import LedgerSnapshot, Mismatch
from billing.ledger.audit.sql_snapshot import sql_snapshots
from billing.ledger.interface import BudgetLimit
from billing.ledger.redis.client.blocking_client import blocking_client
from billing.ledger.redis.client.keys import key_prefix
from billing.models import Budget, BudgetWindow, DailyUsage, Period, Reservation, UsageRecord
from billing.pricing import Tokens, bundled_price
from billing.tasks import audit_ledger, roll_up_usage
from billing.usage.rollup import rebuild_from
from keys.models import ApiKey
from projects.ids import uuid7
from projects.models import Project
from tests.support.factories import USD, record
from tests.support.ledger_harness import (
    PRICE,
    LedgerHarness,
    budget,
    ledger_harness_on,
    reserve_request,
    settle,
)
from tests.support.live_gateway import LiveGateway

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]


@pytest.fixture
async def populated_ledger(transactional_db: None, key: ApiKey) -> AsyncIterator[None]:
    """A ledger with two budgets, an estimate, its correction, a record and a request in flight."""
    harness = ledger_harness_on("sql")
    day, total = await budget(key, 100), await budget(key, 100, whole_project=True)
    ledger = await harness.start()
    orphaned = reserve_request(key, day, total)
    grant = await ledger.reserve(orphaned)
    await harness.kill(ledger)
    ledger = await harness.start()
    await settle(ledger, orphaned, grant, cost=PRICE // 2)
    ended = reserve_request(key, day, total)
    await settle(ledger, ended, await ledger.reserve(ended), cost=PRICE)
    await ledger.reserve(reserve_request(key, day, total))
    await sync_to_async(Budget.objects.update)(changed_at=timezone.now() - timedelta(days=400))
    yield
    await harness.close()


def all_of(snapshots: Iterable[LedgerSnapshot]) -> list[Mismatch]:
    return [mismatch for state in snapshots for mismatch in find_mismatches(state)]


def sql_mismatches() -> list[str]:
    roll_up_usage()
    return [f"{each.rule} {each.expected} {each.actual}" for each in all_of(sql_snapshots(is_served=True))]


def mismatch_texts() -> list[str]:
    """Return the mismatches of one pass over the current store."""
    return list(
        map(str, all_of(redis_snapshots() if configured.ENV.redis_url else sql_snapshots(is_served=True)))
    )


async def mismatch_texts_async() -> list[str]:
    return await sync_to_async(mismatch_texts)()


async def sql_mismatches_async() -> list[str]:
    return await sync_to_async(sql_mismatches)()


async def test_consistent_ledger_has_no_mismatches(populated_ledger: None) -> None:
    assert await sql_mismatches_async() == []


async def test_spend_without_a_record_is_found(populated_ledger: None) -> None:
    await BudgetWindow.objects.filter(budget__key=None).aupdate(spent_nano=7)
    assert await sql_mismatches_async() == [f"I5 {PRICE + PRICE // 2} 7"]


async def test_lost_record_is_found_in_every_window(populated_ledger: None) -> None:
    await UsageRecord.objects.filter(cost_nano=PRICE, estimated=False).adelete()
    await DailyUsage.objects.all().adelete()
    assert [text for text in await sql_mismatches_async() if text.startswith("I5")] == [
        f"I5 {PRICE // 2} {PRICE + PRICE // 2}"
    ] * 2


async def test_overspent_budget_is_found(populated_ledger: None) -> None:
    await Budget.objects.filter(key=None).aupdate(limit_nano=2 * PRICE)
    assert await sql_mismatches_async() == [f"I1 {2 * PRICE} {2 * PRICE + PRICE // 2}"]


async def test_limit_lowered_below_spending_is_not_overspending(populated_ledger: None) -> None:
    row = await Budget.objects.aget(key=None)
    row.limit_nano = 0
    await row.asave()
    await Reservation.objects.all().adelete()
    await BudgetWindow.objects.all().aupdate(reserved_nano=0)
    assert await sql_mismatches_async() == []


async def test_orphan_and_missing_reservations_are_found(populated_ledger: None) -> None:
    await Reservation.objects.all().adelete()
    assert await sql_mismatches_async() == [f"I2 0 {PRICE}"] * 2


async def test_settled_request_with_open_reservation_is_found(populated_ledger: None) -> None:
    record = await UsageRecord.objects.filter(corrects=None).afirst()
    await Reservation.objects.all().aupdate(id=record.pk if record else None)
    assert await sql_mismatches_async() == [f"I3 0 {PRICE}"]


async def test_orphan_and_duplicate_corrections_are_found(populated_ledger: None, key: ApiKey) -> None:
    correction = await UsageRecord.objects.exclude(corrects=None).aget()
    correction.pk, correction.cost_nano = uuid7(), 0
    await correction.asave(force_insert=True)
    assert await sql_mismatches_async() == ["I3 1 2"]
    await UsageRecord.objects.filter(pk=correction.pk).aupdate(corrects=uuid7())
    assert await sql_mismatches_async() == ["I3 1 0"]


async def test_reservation_of_a_dead_process_is_found_without_servers(populated_ledger: None) -> None:
    mismatches = await sync_to_async(lambda: all_of(sql_snapshots(is_served=False)))()
    assert [each.rule for each in mismatches if each.rule != "roll-up"] == ["I4"]


async def test_wrong_rollup_sum_is_found(populated_ledger: None) -> None:
    assert await sql_mismatches_async() == []
    await DailyUsage.objects.all().aupdate(cost_nano=1)
    assert await sql_mismatches_async() == [f"roll-up {PRICE + PRICE // 2} 1"]


async def serve(ledger: Ledger, key: ApiKey, budgets: tuple[BudgetLimit, ...], stop: asyncio.Event) -> None:
    while not stop.is_set():
        request = reserve_request(key, *budgets)
        grant = await ledger.reserve(request)
        await asyncio.sleep(0.001)
        await settle(ledger, request, grant, cost=PRICE // 2)


def mismatch_texts_slowly() -> list[str]:
    """Return the mismatches that are read from a slow database while the ledger is used."""

    def slowly(execute: Callable[..., object], *arguments: object) -> object:
        time.sleep(0.005)
        return execute(*arguments)

    with connection.execute_wrapper(slowly):
        return mismatch_texts()


async def test_concurrent_writes_cause_no_mismatches(ledger_harness: LedgerHarness, key: ApiKey) -> None:
    ledgers = [await ledger_harness.start() for _ in range(min(ledger_harness.processes, 2))]
    budgets = await budget(key, 10**9), await budget(key, 10**9, Period.MONTH, whole_project=True)
    stop = asyncio.Event()
    serving = [
        asyncio.create_task(serve(ledger, key, budgets, stop)) for ledger in ledgers for _ in range(24)
    ]
    mismatches: list[str] = []
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        await sync_to_async(roll_up_usage)()
        mismatches += await sync_to_async(mismatch_texts_slowly)()
    stop.set()
    await asyncio.gather(*serving)
    assert mismatches == []
    await ledger_harness.wait_until_written()
    assert await mismatch_texts_async() == []
    assert await UsageRecord.objects.acount() > 200


async def test_only_confirmed_mismatches_are_reported(
    ledger_harness: LedgerHarness, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger_harness.start()
    row = await Budget.objects.acreate(project_id=key.project_id, period="day", limit_nano=5)
    lasting = Mismatch("I5", f"budget {row.pk}: spent", 1, 2)
    looks = iter([[lasting, Mismatch("I2", "passing", 1, 2)], [Mismatch("I2", "new", 1, 2), lasting]])
    monkeypatch.setattr(run, "audit_once", lambda: run.AuditReport(1, 1, next(looks)))
    assert (await sync_to_async(run_audit)()).mismatches == [lasting]


async def test_limit_lowered_mid_request_is_not_overspending(
    ledger_harness: LedgerHarness, key: ApiKey
) -> None:
    ledger = await ledger_harness.start()
    day = await budget(key, 3)
    request = reserve_request(key, day)
    grant = await ledger.reserve(request)
    row = await Budget.objects.aget()
    row.limit_nano = 1
    await row.asave()
    assert await mismatch_texts_async() == []
    await settle(ledger, request, grant, cost=PRICE)
    assert [text for text in await mismatch_texts_async() if text.startswith("I")] == []
    await Budget.objects.aupdate(changed_at=timezone.now() - timedelta(days=400))
    assert [text.partition(":")[0] for text in await mismatch_texts_async() if text.startswith("I")] == ["I1"]


@pytest.mark.parametrize("column", ["requests", "failures", "input_tokens", "output_tokens", "cost_nano"])
def test_each_column_of_a_roll_up_is_compared(key: ApiKey, column: str) -> None:
    record(key, cost_nano=USD)
    record(key, cost_nano=USD, model="other")
    day = key.project.today()
    rebuild_from(day)
    assert all_of(sql_snapshots(is_served=True)) == []
    row = DailyUsage.objects.get(requested_model="other")
    DailyUsage.objects.filter(pk=row.pk).update(**{column: 77})
    (mismatch,) = map(str, all_of(sql_snapshots(is_served=True)))
    name = f"roll-up: project {key.project_id}, {day}, key {key.pk}, 'other' of 'demo': {column}"
    assert mismatch == f"{name}: expected {getattr(row, column)}, found 77"


def test_rollup_that_charges_another_key_or_model_is_found(key: ApiKey) -> None:
    usage_record = record(key, cost_nano=USD)
    rebuild_from(usage_record.day)
    DailyUsage.objects.update(requested_model="other")
    assert len(all_of(sql_snapshots(is_served=True))) == 2 * 4
    DailyUsage.objects.update(requested_model=usage_record.requested_model, key=None)
    assert len(all_of(sql_snapshots(is_served=True))) == 2 * 4
    DailyUsage.objects.all().delete()
    assert len(all_of(sql_snapshots(is_served=True))) == 4


def test_sums_of_deleted_keys_are_combined(key: ApiKey) -> None:
    other, _ = ApiKey.objects.issue(key.project, "other")
    usage_record = record(key, cost_nano=USD)
    record(other, cost_nano=USD)
    rebuild_from(usage_record.day)
    key.delete()
    other.delete()
    assert DailyUsage.objects.filter(key=None).count() == 2
    assert all_of(sql_snapshots(is_served=True)) == []


async def forget_windows(harness: LedgerHarness, key: ApiKey) -> None:
    """Remove the windows from all reservations, and the reserved amounts from all windows."""
    if not configured.ENV.redis_url:
        await Reservation.objects.aupdate(windows="")
        await BudgetWindow.objects.aupdate(reserved_nano=0)
        return
    client, place = blocking_client(), key_prefix(key.project_id)
    for id, text in client.hgetall(f"{place}open").items():
        head, _, draft = text.partition(b"\n")
        parts = head.split(b" ")
        client.hset(f"{place}open", id, b" ".join([*parts[:7], b"-", parts[8]]) + b"\n" + draft)
    for name in client.keys(f"{place}w:*"):
        client.hset(name, "reserved", 0)


async def test_request_without_reservation_in_its_window_is_found(
    ledger_harness: LedgerHarness, key: ApiKey
) -> None:
    other, _ = await sync_to_async(ApiKey.objects.issue)(await Project.objects.aget(), "other")
    ledger = await ledger_harness.start()
    day, total, others = (
        await budget(key, 10),
        await budget(key, 10, whole_project=True),
        await budget(other, 10),
    )
    request = reserve_request(key, day, total)
    await ledger.reserve(request)
    await ledger.reserve(reserve_request(other, others, min_nano=0, max_nano=0))
    assert await mismatch_texts_async() == []
    await forget_windows(ledger_harness, key)
    assert sorted(await mismatch_texts_async()) == [
        f"I2: request {request.id}: reserved in budget {budget_limit.id}, window 2026-11-20: "
        f"expected {PRICE}, found 0"
        for budget_limit in (day, total)
    ]


async def test_cost_that_does_not_match_tokens_and_price_is_found(
    ledger_harness: LedgerHarness, key: ApiKey
) -> None:
    ledger, price = await ledger_harness.start(), bundled_price("openai", "gpt-4o-mini")
    assert price is not None
    request, tokens = reserve_request(key), Tokens(input=1000, output=100)
    request.estimate.price, request.estimate.tokens = price, tokens
    grant = await ledger.reserve(request)
    await settle(ledger, request, grant, cost=price.cost(tokens))
    unused = reserve_request(key)
    unused.estimate.estimated, unused.estimate.price = (
        False,
        msgspec.structs.replace(price, request_fee_nano=5),
    )
    await ledger.release(await ledger.reserve(unused), unused.estimate)
    await ledger_harness.wait_until_written()
    await sync_to_async(roll_up_usage)()
    assert await mismatch_texts_async() == []
    await UsageRecord.objects.filter(pk=request.id).aupdate(output_tokens=90, input_tokens=1010)
    assert [text for text in await mismatch_texts_async() if text.startswith("price")] == [
        f"price: record {request.id}: cost of its tokens: "
        f"expected {price.cost(Tokens(1010, output=90))}, found {price.cost(tokens)}"
    ]
    await UsageRecord.objects.filter(pk=request.id).aupdate(estimated=True)
    assert not [text for text in await mismatch_texts_async() if text.startswith("price")]


def test_command_prints_mismatches_and_exits_with_status_1(key: ApiKey, settings: Settings) -> None:
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


def test_metric_reports_the_last_scheduled_audit(
    key: ApiKey, settings: Settings, live_gateway: LiveGateway
) -> None:
    settings.ENV = settings.ENV.model_copy(update={"redis_url": ""})
    row = Budget.objects.create(project=key.project, period="day", limit_nano=5)
    BudgetWindow.objects.create(budget=row, name="2026-11-20", spent_nano=3)
    assert audit_ledger() == 1
    assert figures(live_gateway)["gateway_ledger_differences"] == 1
    BudgetWindow.objects.all().delete()
    assert audit_ledger() == 0
    assert figures(live_gateway)["gateway_ledger_differences"] == 0


def test_audit_metrics_appear_after_the_first_audit(
    db: None, settings: Settings, live_gateway: LiveGateway
) -> None:
    settings.ENV = settings.ENV.model_copy(update={"redis_url": ""})
    assert figures(live_gateway) == {}
    before = time.time()
    audit_ledger()
    assert before <= figures(live_gateway)["gateway_ledger_audit_timestamp_seconds"] <= time.time()


def figures(live_gateway: LiveGateway) -> dict[str, float]:
    """Return the metrics of the last audit."""
    lines = httpx.get(f"{live_gateway.url}/metrics").text.splitlines()
    return {
        name: float(value)
        for name, value in (line.split() for line in lines if line.startswith("gateway_ledger_"))
    }
