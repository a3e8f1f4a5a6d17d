"""`manage.py reprice` adds corrections once, and keeps the counters of budgets equal to the sums."""

import asyncio
import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from typing import Any

import msgspec
import pytest
from asgiref.sync import sync_to_async
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Sum
from pytest_django import Settings

from billing.models import (
    Budget,
    BudgetWindow,
    CorrectionReason,
    Outcome,
    Period,
    PriceOverride,
    StaleDay,
    UsageRecord,
)
from billing.pricing import Price, Tokens, bundled_price
from keys.models import ApiKey
from projects.models import Project
from tests.support.factories import record
from tests.support.ledger_harness import BACKENDS, TODAY, budget, ledger_harness_on, reserve_request, settle

DAY = dt.date(2026, 11, 10)
NOON = dt.datetime(2026, 11, 10, 12, tzinfo=dt.UTC)
USD = 10**9


@pytest.fixture(autouse=True)
def ledger_in_sql(settings: Settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"redis_url": ""})


def charged(key: ApiKey, price: Price | None, model: str = "gpt-5", **fields: Any) -> UsageRecord:
    """Create a record of 1,234 input tokens and 56 output tokens, charged at a price."""
    row = record(key, day=DAY, model=model)
    cost = price.cost(row.tokens) if price else 0
    stored_price = msgspec.to_builtins(price) if price else None
    UsageRecord.objects.filter(pk=row.pk).update(
        **{"provider": "openai", "created_at": NOON, "cost_nano": cost, "price": stored_price} | fields
    )
    row.refresh_from_db()
    return row


def set_price(
    project: Project, model: str = "gpt-5", usd: int = 2, starts_at: dt.datetime = NOON
) -> PriceOverride:
    return PriceOverride.objects.create(
        project=project, model=model, effective_from=starts_at, input_nano=usd * USD, output_nano=usd * USD
    )


def reprice(*options: str) -> str:
    out = StringIO()
    call_command("reprice", "--since", "2026-11-01", *options, stdout=out)
    return out.getvalue()


def total(key: ApiKey) -> int:
    return UsageRecord.objects.filter(key=key).aggregate(total=Sum("cost_nano"))["total"] or 0


BUNDLED = bundled_price("openai", "gpt-5", NOON)
USED = Tokens(input=1_000, output=100)
TWO_USD_EACH = (1234 + 56) * 2_000


@pytest.mark.databases
def test_records_get_corrections_at_the_price_of_their_time(project: Project, key: ApiKey) -> None:
    original = charged(key, BUNDLED)
    before = UsageRecord.objects.values().get(pk=original.pk)
    set_price(project)
    output = reprice()
    correction = UsageRecord.objects.get(corrects=original.pk)
    assert UsageRecord.objects.values().get(pk=original.pk) == before
    assert original.cost_nano + correction.cost_nano == total(key) == TWO_USD_EACH
    assert (
        correction.correction_reason,
        correction.day,
        correction.input_tokens,
        correction.output_tokens,
    ) == (
        CorrectionReason.REPRICED,
        DAY,
        0,
        0,
    )
    assert correction.applied_price is not None and correction.applied_price.source.startswith(
        "the project's own price"
    )
    assert f"{project.slug}: 1 of 1 charged requests corrected" in output


@pytest.mark.databases
def test_repeated_run_writes_nothing_until_the_price_changes(project: Project, key: ApiKey) -> None:
    charged(key, BUNDLED)
    for usd, count in ((2, 1), (2, 1), (3, 2), (2, 3), (2, 3)):
        PriceOverride.objects.all().delete()
        set_price(project, usd=usd)
        reprice()
        assert (UsageRecord.objects.exclude(corrects=None).count(), total(key)) == (count, 1290 * usd * 1000)


@pytest.mark.databases
@pytest.mark.django_db(transaction=True)
def test_concurrent_runs_correct_once(project: Project, key: ApiKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("billing.pricing.reprice.BATCH_SIZE", 3)
    budget = Budget.objects.create(project=project, key=key, period=Period.DAY, limit_nano=USD)
    records = [charged(key, BUNDLED) for _ in range(20)]
    BudgetWindow.objects.create(
        budget=budget,
        name=DAY.isoformat(),
        spent_nano=sum(row.cost_nano for row in records),
        reserved_nano=0,
    )
    set_price(project)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: reprice_in_thread(), range(3)))
    assert UsageRecord.objects.filter(correction_reason=CorrectionReason.REPRICED).count() == 20
    assert total(key) == BudgetWindow.objects.get().spent_nano == 20 * TWO_USD_EACH
    assert "0 of 20" in reprice()


def test_clock_change_day_is_repriced_by_record_times(project: Project, key: ApiKey) -> None:
    """2026-10-25 has 25 hours in Berlin.

    A price from the second 02:30 on does not apply at the first 02:30.
    """
    Project.objects.filter(pk=project.pk).update(timezone="Europe/Berlin")
    day = dt.date(2026, 10, 25)
    for hour in (0, 1):
        charged(
            key,
            bundled_price("openai", "gpt-5", NOON),
            day=day,
            created_at=dt.datetime(2026, 10, 25, hour, 30, tzinfo=dt.UTC),
        )
    set_price(project, starts_at=dt.datetime(2026, 10, 25, 1, 30, tzinfo=dt.UTC))
    out = StringIO()
    call_command("reprice", "--since", "2026-10-25", "--until", "2026-10-25", stdout=out)
    assert "1 of 2" in out.getvalue()
    assert UsageRecord.objects.get(correction_reason=CorrectionReason.REPRICED).created_at.hour == 1


def test_tool_calls_and_region_are_repriced_with_the_tokens(project: Project, key: ApiKey) -> None:
    price = bundled_price("anthropic", "claude-opus-4-8", NOON)
    assert price is not None
    tier_price, extras = price.for_tier("standard_us").only_used_fees({"web_search": 2}), {"web_search": 2}
    cost = tier_price.cost(Tokens(1234, 0, 0, 0, 56), extras)
    fields = {
        "provider": "anthropic",
        "billable_extras": extras,
        "service_tier": "standard_us",
        "cost_nano": cost,
    }
    charged(key, tier_price, "claude-opus-4-8", **fields)
    assert "0 of 1" in reprice()
    PriceOverride.objects.create(
        project=project,
        model="claude-*",
        effective_from=NOON,
        input_nano=0,
        output_nano=0,
        tool_fees={"web_search": 9},
    )
    assert "1 of 1" in reprice() and total(key) == 18


def test_record_from_before_the_price_keeps_its_cost(project: Project, key: ApiKey) -> None:
    charged(key, BUNDLED)
    set_price(project, starts_at=NOON + dt.timedelta(seconds=1))
    assert "0 of 1" in reprice() and UsageRecord.objects.count() == 1


@pytest.mark.databases
def test_budget_counters_stay_equal_to_the_sum_of_records(project: Project, key: ApiKey) -> None:
    other, _ = ApiKey.objects.issue(project, "other")
    for owner in (key, key, other):
        charged(owner, BUNDLED)
    windows: dict[tuple[ApiKey | None, str], Budget] = {
        (key, "2026-11-10"): Budget.objects.create(
            project=project, key=key, period=Period.DAY, limit_nano=USD
        ),
        (key, "2026-W46"): Budget.objects.create(
            project=project, key=key, period=Period.WEEK, limit_nano=USD
        ),
        (None, "2026-11"): Budget.objects.create(project=project, period=Period.MONTH, limit_nano=USD),
        (None, "total"): Budget.objects.create(project=project, period=Period.TOTAL, limit_nano=USD),
        (None, "2026-11-11"): Budget.objects.create(project=project, period=Period.DAY, limit_nano=USD),
    }
    for (limited_key, name), limit in windows.items():
        before = total(limited_key) if limited_key else total(key) + total(other)
        spent_nano = 0 if name == "2026-11-11" else before
        BudgetWindow.objects.create(budget=limit, name=name, spent_nano=spent_nano, reserved_nano=7)
    StaleDay.objects.all().delete()
    set_price(project)
    reprice()
    spent = {
        name: BudgetWindow.objects.get(budget=limit, name=name).spent_nano
        for (_, name), limit in windows.items()
    }
    both = total(key) + total(other)
    assert both == 3 * TWO_USD_EACH
    assert spent == {
        "2026-11-10": total(key),
        "2026-W46": total(key),
        "2026-11": both,
        "total": both,
        "2026-11-11": 0,
    }
    assert list(BudgetWindow.objects.values_list("reserved_nano", flat=True).distinct()) == [7]
    assert list(StaleDay.objects.values_list("project", "day")) == [(project.pk, DAY)]


def test_unpriced_requests_become_priced_even_at_zero(project: Project, key: ApiKey) -> None:
    charged(key, None, model="house")
    free = charged(key, None, model="free")
    assert "2 still without a price" in reprice()
    set_price(project, "house")
    set_price(project, "free", usd=0)
    assert "2 had no price before" in reprice()
    assert total(key) == TWO_USD_EACH
    assert UsageRecord.objects.get(corrects=free.pk).price is not None
    assert "0 of 2" in reprice()


def test_charge_of_a_reservation_is_not_repriced(project: Project, key: ApiKey) -> None:
    charged(key, BUNDLED, cost_nano=USD, reserved_nano=USD, estimated=True)
    set_price(project)
    assert "1 keep their reserved amount as cost" in reprice() and total(key) == USD


def test_late_settlement_is_repriced_by_its_reported_usage(project: Project, key: ApiKey) -> None:
    estimate = charged(key, BUNDLED, cost_nano=USD, reserved_nano=USD, estimated=True)
    assert BUNDLED is not None
    late = UsageRecord.objects.get(pk=estimate.pk)
    late.pk, late.corrects, late.correction_reason = record(key).pk, estimate.pk, CorrectionReason.LATE
    late.input_tokens, late.output_tokens = 1000 - 1234, 0 - 56
    late.cost_nano = 1000 * 1250 - USD
    late.save()
    set_price(project)
    reprice()
    assert total(key) == 1000 * 2_000


def test_free_and_out_of_range_requests_are_skipped(project: Project, key: ApiKey) -> None:
    charged(key, BUNDLED, outcome=Outcome.CACHED, cost_nano=0)
    charged(key, BUNDLED, outcome=Outcome.BUDGET_EXCEEDED, cost_nano=0)
    charged(key, BUNDLED)
    set_price(project)
    assert "0 of 0" in reprice("--until", "2026-11-09")
    assert "0 of 0" in reprice("--model", "gpt-4o")
    assert "1 of 1" in reprice("--dry-run") and UsageRecord.objects.count() == 3
    assert "1 of 1" in reprice("--project", project.slug, "--model", "gpt-5")


def test_only_the_named_project_is_repriced(project: Project, key: ApiKey) -> None:
    other = Project.objects.create_with_owner("Another")
    charged(key, BUNDLED)
    PriceOverride.objects.create(model="gpt-5", effective_from=NOON, input_nano=0, output_nano=0)
    reprice("--project", other.slug)
    assert UsageRecord.objects.count() == 1
    with pytest.raises(CommandError, match="no project nowhere"):
        reprice("--project", "nowhere")
    with pytest.raises(CommandError):
        call_command("reprice", "--since", "yesterday")


def test_many_records_are_repriced_in_batches(
    project: Project, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("billing.pricing.reprice.BATCH_SIZE", 2)
    for _ in range(5):
        charged(key, BUNDLED)
    set_price(project)
    assert "5 of 5" in reprice() and total(key) == 5 * TWO_USD_EACH


@pytest.mark.databases
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("backend", BACKENDS)
async def test_concurrent_runs_correct_once_on_every_ledger(key: ApiKey, backend: str) -> None:
    """On Redis, corrections may not have reached the database when another run reads its records."""
    harness = ledger_harness_on(backend)
    try:
        ledger, window, price = (
            await harness.start(),
            await budget(key, 10**6),
            bundled_price("openai", "gpt-4o-mini"),
        )
        assert price is not None
        for _ in range(5):
            wanted = reserve_request(key, window, min_nano=price.cost(USED), max_nano=price.cost(USED))
            (
                wanted.estimate.provider,
                wanted.estimate.provider_model,
                wanted.estimate.price,
                wanted.estimate.tokens,
            ) = (
                "openai",
                "gpt-4o-mini",
                price,
                USED,
            )
            await settle(ledger, wanted, await ledger.reserve(wanted), price.cost(USED))
        await harness.wait_until_written()
        start = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
        await sync_to_async(set_price)(
            await Project.objects.aget(pk=key.project_id), "gpt-4o-mini", starts_at=start
        )
        await asyncio.gather(*(asyncio.to_thread(reprice_in_thread) for _ in range(3)))
        await asyncio.to_thread(reprice_in_thread)
        await harness.wait_until_written()
        assert await UsageRecord.objects.filter(correction_reason=CorrectionReason.REPRICED).acount() == 5
        assert await harness.window_total(window, TODAY) == (5 * 1_100 * 2_000, 0)
    finally:
        await harness.close()


def reprice_in_thread() -> None:
    """Reprice in the current thread, and close its database connection."""
    try:
        reprice()
    finally:
        connection.close()
