"""`manage.py reprice`: corrections beside the records, counters that stay equal to the sums, and nothing twice."""

import datetime as dt
from io import StringIO
from typing import Any

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.db.models import Sum
from pytest_django import Settings

from billing.models import Budget, BudgetWindow, Correction, DirtyDay, Outcome, Period, PriceOverride, UsageRecord
from billing.prices import Price, bundled
from keys.models import ApiKey
from projects.models import Project
from tests.pages_fixtures import record

DAY = dt.date(2026, 11, 10)
NOON = dt.datetime(2026, 11, 10, 12, tzinfo=dt.UTC)
USD = 10**9


@pytest.fixture(autouse=True)
def ledger_in_sql(settings: Settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"redis_url": ""})


def charged(key: ApiKey, price: Price | None, model: str = "gpt-5", **fields: Any) -> UsageRecord:
    """A request of 1,234 tokens in and 56 out."""
    made = record(key, day=DAY, model=model)
    cost = price.cost(made.tokens) if price else 0
    kept = msgspec.to_builtins(price) if price else None
    UsageRecord.objects.filter(pk=made.pk).update(**{"provider": "openai", "created_at": NOON, "cost_nano": cost, "price": kept} | fields)
    made.refresh_from_db()
    return made


def set_price(project: Project, model: str = "gpt-5", usd: int = 2, begins: dt.datetime = NOON) -> PriceOverride:
    return PriceOverride.objects.create(project=project, model=model, effective_from=begins, input_nano=usd * USD, output_nano=usd * USD)


def reprice(*options: str) -> str:
    out = StringIO()
    call_command("reprice", "--since", "2026-11-01", *options, stdout=out)
    return out.getvalue()


def total(key: ApiKey) -> int:
    return UsageRecord.objects.filter(key=key).aggregate(total=Sum("cost_nano"))["total"] or 0


BUNDLED = bundled("openai", "gpt-5", NOON)
TWO_USD_EACH = (1234 + 56) * 2_000


@pytest.mark.databases
def test_records_get_corrections_at_the_price_of_their_time_and_stay_as_they_are(project: Project, key: ApiKey) -> None:
    old = charged(key, BUNDLED)
    before = UsageRecord.objects.values().get(pk=old.pk)
    set_price(project)
    told = reprice()
    correction = UsageRecord.objects.get(corrects=old.pk)
    assert UsageRecord.objects.values().get(pk=old.pk) == before
    assert old.cost_nano + correction.cost_nano == total(key) == TWO_USD_EACH
    assert (correction.correction, correction.day, correction.input_tokens, correction.output_tokens) == (Correction.REPRICED, DAY, 0, 0)
    assert correction.price_kept is not None and correction.price_kept.source.startswith("the project's own price")
    assert f"{project.slug}: 1 of 1 charged requests corrected" in told


@pytest.mark.databases
def test_a_second_run_writes_nothing_and_a_new_price_is_one_more_correction(project: Project, key: ApiKey) -> None:
    charged(key, BUNDLED)
    for usd, count in ((2, 1), (2, 1), (3, 2), (2, 3), (2, 3)):
        PriceOverride.objects.all().delete()
        set_price(project, usd=usd)
        reprice()
        assert (UsageRecord.objects.exclude(corrects=None).count(), total(key)) == (count, 1290 * usd * 1000)


def test_a_record_of_a_time_before_the_price_keeps_its_cost(project: Project, key: ApiKey) -> None:
    charged(key, BUNDLED)
    set_price(project, begins=NOON + dt.timedelta(seconds=1))
    assert "0 of 1" in reprice() and UsageRecord.objects.count() == 1


@pytest.mark.databases
def test_what_budgets_have_spent_stays_the_sum_of_the_records(project: Project, key: ApiKey) -> None:
    other, _ = ApiKey.objects.mint(project, "other")
    for owner in (key, key, other):
        charged(owner, BUNDLED)
    windows: dict[tuple[ApiKey | None, str], Budget] = {
        (key, "2026-11-10"): Budget.objects.create(project=project, key=key, period=Period.DAY, limit_nano=USD),
        (key, "2026-W46"): Budget.objects.create(project=project, key=key, period=Period.WEEK, limit_nano=USD),
        (None, "2026-11"): Budget.objects.create(project=project, period=Period.MONTH, limit_nano=USD),
        (None, "total"): Budget.objects.create(project=project, period=Period.TOTAL, limit_nano=USD),
        (None, "2026-11-11"): Budget.objects.create(project=project, period=Period.DAY, limit_nano=USD),
    }
    for (of, name), budget in windows.items():
        begun = 0 if name == "2026-11-11" else total(of) if of else total(key) + total(other)
        BudgetWindow.objects.create(budget=budget, name=name, spent_nano=begun, reserved_nano=7)
    DirtyDay.objects.all().delete()
    set_price(project)
    reprice()
    spent = {name: BudgetWindow.objects.get(budget=budget, name=name).spent_nano for (_, name), budget in windows.items()}
    both = total(key) + total(other)
    assert both == 3 * TWO_USD_EACH
    assert spent == {"2026-11-10": total(key), "2026-W46": total(key), "2026-11": both, "total": both, "2026-11-11": 0}
    assert list(BudgetWindow.objects.values_list("reserved_nano", flat=True).distinct()) == [7]
    assert list(DirtyDay.objects.values_list("project", "day")) == [(project.pk, DAY)]


def test_requests_whose_price_was_not_known_become_priced_even_at_nothing(project: Project, key: ApiKey) -> None:
    charged(key, None, model="house")
    free = charged(key, None, model="free")
    assert "2 without a price still" in reprice()
    set_price(project, "house")
    set_price(project, "free", usd=0)
    assert "2 unpriced before" in reprice()
    assert total(key) == TWO_USD_EACH
    assert UsageRecord.objects.get(corrects=free.pk).price is not None
    assert "0 of 2" in reprice()


def test_what_was_held_for_a_request_of_unknown_use_stays(project: Project, key: ApiKey) -> None:
    charged(key, BUNDLED, cost_nano=USD, held_nano=USD, estimated=True)
    set_price(project)
    assert "1 left at what was held" in reprice() and total(key) == USD


def test_a_late_settlement_is_repriced_by_what_it_says_was_used(project: Project, key: ApiKey) -> None:
    estimate = charged(key, BUNDLED, cost_nano=USD, held_nano=USD, estimated=True)
    assert BUNDLED is not None
    late = UsageRecord.objects.get(pk=estimate.pk)
    late.pk, late.corrects, late.correction = record(key).pk, estimate.pk, Correction.LATE
    late.input_tokens, late.output_tokens = 1000 - 1234, 0 - 56
    late.cost_nano = 1000 * 1250 - USD
    late.save()
    set_price(project)
    reprice()
    assert total(key) == 1000 * 2_000


def test_requests_that_cost_nothing_or_are_out_of_range_are_left(project: Project, key: ApiKey) -> None:
    charged(key, BUNDLED, outcome=Outcome.CACHED, cost_nano=0)
    charged(key, BUNDLED, outcome=Outcome.BUDGET, cost_nano=0)
    charged(key, BUNDLED)
    set_price(project)
    assert "0 of 0" in reprice("--until", "2026-11-09")
    assert "0 of 0" in reprice("--model", "gpt-4o")
    assert "1 of 1" in reprice("--dry-run") and UsageRecord.objects.count() == 3
    assert "1 of 1" in reprice("--project", project.slug, "--model", "gpt-5")


def test_only_the_named_project_is_repriced(project: Project, key: ApiKey) -> None:
    other = Project.objects.found("Another")
    charged(key, BUNDLED)
    PriceOverride.objects.create(model="gpt-5", effective_from=NOON, input_nano=0, output_nano=0)
    reprice("--project", other.slug)
    assert UsageRecord.objects.count() == 1
    with pytest.raises(CommandError, match="no project nowhere"):
        reprice("--project", "nowhere")
    with pytest.raises(CommandError):
        call_command("reprice", "--since", "yesterday")


def test_many_records_are_gone_through_in_batches(project: Project, key: ApiKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.repricing.BATCH", 2)
    for _ in range(5):
        charged(key, BUNDLED)
    set_price(project)
    assert "5 of 5" in reprice() and total(key) == 5 * TWO_USD_EACH
