"""Budgets hold under load, on every store."""

import asyncio
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from asgiref.sync import sync_to_async

from billing.budgets.windows import ends_at, local_day, window_days, window_name
from billing.ledger import AdmissionDenied, BudgetExceeded, Ledger
from billing.models import Mode, Period, StaleDay, UsageRecord
from keys.models import ApiKey
from tests.support.ledger_harness import (
    PRICE,
    TODAY,
    LedgerHarness,
    budget,
    eventually,
    recorded_cost,
    reserve,
    reserve_request,
    settle,
)

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]


@pytest.fixture
async def gateways(ledger_harness: LedgerHarness) -> list[Ledger]:
    """The ledgers of all gateway processes, repeated up to 200 items."""
    return [await ledger_harness.start() for _ in range(ledger_harness.processes)] * (
        200 // ledger_harness.processes
    )


@pytest.fixture
async def ledger(ledger_harness: LedgerHarness) -> Ledger:
    return await ledger_harness.start()


async def test_budget_for_50_admits_exactly_50_of_200_concurrent_requests(
    ledger_harness: LedgerHarness, gateways: list[Ledger], key: ApiKey
) -> None:
    budget_limit = await budget(key, 50)
    results = await asyncio.gather(
        *(reserve(gateways[n], reserve_request(key, budget_limit)) for n in range(200))
    )
    denials = [result for result in results if isinstance(result, AdmissionDenied)]
    assert len(results) - len(denials) == 50
    assert all(isinstance(denial, BudgetExceeded) and denial.remaining == 0 for denial in denials)
    assert await ledger_harness.window_total(budget_limit) == (0, 50 * PRICE)


async def test_spent_equals_records_after_settling_and_releasing(
    ledger_harness: LedgerHarness, gateways: list[Ledger], key: ApiKey
) -> None:
    budget_limit = await budget(key, 50)
    results = await asyncio.gather(
        *(reserve(gateways[n], reserve_request(key, budget_limit)) for n in range(50))
    )
    grants = [result for result in results if not isinstance(result, AdmissionDenied)]
    finishing = [settle(gateways[n], *pair, cost=n * 7) for n, pair in enumerate(grants[:30])]
    abandoned = [gateways[n].release(pair[1], pair[0].estimate) for n, pair in enumerate(grants[30:])]
    await asyncio.gather(*finishing, *abandoned)
    await ledger_harness.wait_until_written()
    assert await ledger_harness.window_total(budget_limit) == (await recorded_cost(), 0)
    assert await recorded_cost() == sum(n * 7 for n in range(30))
    assert await UsageRecord.objects.acount() == 50
    assert await ledger_harness.open_reservations() == 0


async def test_new_budget_counts_earlier_records_and_open_requests(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    earlier, in_flight = reserve_request(key), reserve_request(key)
    await settle(ledger, earlier, await ledger.reserve(earlier), cost=PRICE)
    grant = await ledger.reserve(in_flight)
    budget_limit = await budget(key, 3)
    await ledger.reserve(reserve_request(key, budget_limit))
    assert await ledger_harness.window_total(budget_limit) == (PRICE, 2 * PRICE)
    with pytest.raises(BudgetExceeded):
        await ledger.reserve(reserve_request(key, budget_limit))
    await settle(ledger, in_flight, grant, cost=1)
    assert await ledger_harness.window_total(budget_limit) == (PRICE + 1, PRICE)


async def test_records_count_only_in_their_own_windows(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    days = [date(2026, 11, 19), date(2026, 11, 15), date(2026, 10, 31)]
    for day in days:
        earlier = reserve_request(key, day=day)
        await settle(ledger, earlier, await ledger.reserve(earlier), cost=PRICE)
    budgets = {period: await budget(key, 9, period) for period in Period}
    await ledger.reserve(reserve_request(key, *budgets.values()))
    spent = {
        period: (await ledger_harness.window_total(budget_limit))[0] // PRICE
        for period, budget_limit in budgets.items()
    }
    assert spent == {Period.DAY: 0, Period.WEEK: 1, Period.MONTH: 2, Period.TOTAL: 3}


async def test_daily_key_budget_and_monthly_project_budget_both_apply(
    ledger_harness: LedgerHarness, gateways: list[Ledger], key: ApiKey
) -> None:
    neighbour, _ = await sync_to_async(ApiKey.objects.issue)(key.project, "neighbour")
    month = await budget(key, 30, Period.MONTH, whole_project=True)
    days = [await budget(each, 20) for each in (key, neighbour)]
    requests = [
        reserve_request(each, day, month)
        for each, day in zip((key, neighbour), days, strict=True)
        for _ in range(40)
    ]
    results = await asyncio.gather(*(reserve(gateways[n], each) for n, each in enumerate(requests)))
    assert sum(not isinstance(result, AdmissionDenied) for result in results) == 30
    assert await ledger_harness.window_total(month) == (0, 30 * PRICE)
    reserved = [(await ledger_harness.window_total(day))[1] for day in days]
    assert max(reserved) <= 20 * PRICE
    assert sum(reserved) == 30 * PRICE


@pytest.mark.parametrize("field", ["requested_model", "error", "service_tier"])
async def test_long_text_with_nul_is_cut_to_its_column(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey, field: str
) -> None:
    budget_limit = await budget(key, 5)
    grant = await ledger.reserve(request := reserve_request(key, budget_limit))
    setattr(request.estimate, field, "x" * 5000 + "\0")
    await settle(ledger, request, grant, cost=3)
    await ledger_harness.wait_until_written()
    assert await ledger_harness.window_total(budget_limit) == (3, 0)
    stored = await UsageRecord.objects.aget()
    assert set(getattr(stored, field)) == {"x"} and len(getattr(stored, field)) < 5000


async def test_denial_writes_nothing(ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey) -> None:
    enough, spent = await budget(key, 9), await budget(key, 0, Period.MONTH)
    with pytest.raises(BudgetExceeded) as denial:
        await ledger.reserve(reserve_request(key, enough, spent))
    assert denial.value.budget == spent
    assert await ledger_harness.window_total(enough) == await ledger_harness.window_total(spent) == (0, 0)
    assert await ledger_harness.open_reservations() == 0


async def test_soft_budget_is_counted_but_denies_nothing(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    soft, hard = await budget(key, 1, mode=Mode.SOFT), await budget(key, 3)
    grants = [await ledger.reserve(reserve_request(key, soft, hard)) for _ in range(3)]
    assert await ledger_harness.window_total(soft) == (0, 3 * PRICE)
    assert [each.shadow_budget_id for each in grants] == [None] * 3
    with pytest.raises(BudgetExceeded) as denial:
        await ledger.reserve(reserve_request(key, soft, hard))
    assert denial.value.budget == hard


async def test_shadow_budget_only_records_what_it_would_deny(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    shadow = await budget(key, 1, mode=Mode.SHADOW)
    for _ in range(2):
        request = reserve_request(key, shadow)
        grant = await ledger.reserve(request)
        request.estimate.blocking_budget_id = grant.shadow_budget_id
        await settle(ledger, request, grant, cost=PRICE)
    await ledger_harness.wait_until_written()
    blocking_ids = {record.blocking_budget_id async for record in UsageRecord.objects.all()}
    assert blocking_ids == {None, shadow.id} and await UsageRecord.objects.acount() == 2
    assert await ledger_harness.window_total(shadow) == (2 * PRICE, 0)


async def test_remaining_budget_between_minimum_and_maximum_is_granted(ledger: Ledger, key: ApiKey) -> None:
    budget_limit = await budget(key, 10)
    grants = [
        (
            await ledger.reserve(reserve_request(key, budget_limit, min_nano=2 * PRICE, max_nano=7 * PRICE))
        ).amount
        for _ in range(2)
    ]
    assert grants == [7 * PRICE, 3 * PRICE]
    with pytest.raises(BudgetExceeded) as denial:
        await ledger.reserve(reserve_request(key, budget_limit, min_nano=1, max_nano=PRICE))
    assert (denial.value.remaining, denial.value.needed) == (0, 1)


async def test_soft_budget_does_not_reduce_the_grant(ledger: Ledger, key: ApiKey) -> None:
    soft = await budget(key, 3, mode=Mode.SOFT)
    assert (
        await ledger.reserve(reserve_request(key, soft, min_nano=PRICE, max_nano=7 * PRICE))
    ).amount == 7 * PRICE


async def test_changed_limit_applies_from_the_next_request(ledger: Ledger, key: ApiKey) -> None:
    budget_limit = await budget(key, 1)
    await ledger.reserve(reserve_request(key, budget_limit))
    raised = type(budget_limit)(budget_limit.id, budget_limit.period, 2 * PRICE, budget_limit.is_project_wide)
    await ledger.reserve(reserve_request(key, raised))
    with pytest.raises(BudgetExceeded) as denial:
        await ledger.reserve(reserve_request(key, budget_limit))
    assert denial.value.remaining == 0


async def test_days_begin_at_midnight_of_the_projects_timezone(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    auckland = ZoneInfo("Pacific/Auckland")
    budget_limit = await budget(key, 1)
    before, after = (
        local_day(datetime(2026, 11, 20, hour, 30, tzinfo=UTC).timestamp(), auckland) for hour in (10, 11)
    )
    for day in (before, after):
        await ledger.reserve(reserve_request(key, budget_limit, day=day, timezone=auckland))
        with pytest.raises(BudgetExceeded) as denial:
            await ledger.reserve(reserve_request(key, budget_limit, day=day, timezone=auckland))
    assert [
        await ledger_harness.window_total(budget_limit, day)
        for day in (date(2026, 11, 20), date(2026, 11, 21))
    ] == [(0, PRICE)] * 2
    assert denial.value.resets_at == datetime(2026, 11, 21, 11, tzinfo=UTC)


async def test_total_budget_never_resets(ledger: Ledger, key: ApiKey) -> None:
    budget_limit = await budget(key, 1, Period.TOTAL)
    await ledger.reserve(reserve_request(key, budget_limit, day=date(2026, 1, 1)))
    with pytest.raises(BudgetExceeded) as denial:
        await ledger.reserve(reserve_request(key, budget_limit, day=date(2031, 1, 1)))
    assert denial.value.resets_at is None


@pytest.mark.parametrize(
    ("window", "zone", "end"),
    [
        ("2026-03-29", "Europe/Berlin", datetime(2026, 3, 29, 22, tzinfo=UTC)),
        ("2026-10-25", "Europe/Berlin", datetime(2026, 10, 25, 23, tzinfo=UTC)),
        ("2026-03-08", "America/New_York", datetime(2026, 3, 9, 4, tzinfo=UTC)),
        ("2026-11-01", "America/New_York", datetime(2026, 11, 2, 5, tzinfo=UTC)),
        ("2026-09-06", "America/Santiago", datetime(2026, 9, 7, 3, tzinfo=UTC)),
        ("2026-W44", "Europe/Berlin", datetime(2026, 11, 1, 23, tzinfo=UTC)),
        ("2026-12", "America/New_York", datetime(2027, 1, 1, 5, tzinfo=UTC)),
        ("2028-02", "UTC", datetime(2028, 3, 1, tzinfo=UTC)),
    ],
)
def test_window_ends_at_local_midnight_despite_dst(window: str, zone: str, end: datetime) -> None:
    assert ends_at(window, ZoneInfo(zone)) == end


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("America/New_York", date(2026, 3, 8), 23),
        ("America/New_York", date(2026, 11, 1), 25),
        ("Australia/Sydney", date(2026, 10, 4), 23),
        ("Australia/Sydney", date(2026, 4, 5), 25),
    ],
)
def test_every_hour_of_a_dst_day_is_within_its_window(zone: str, day: date, hours: int) -> None:
    local = ZoneInfo(zone)
    end = ends_at(day.isoformat(), local)
    assert end is not None
    days = [local_day(end.timestamp() - 1 - 3600 * n, local) for n in range(hours + 1)]
    assert days == [day] * hours + [date.fromordinal(day.toordinal() - 1)]


@pytest.mark.parametrize("day", [date(2026, 1, 1), date(2027, 1, 3), date(2024, 12, 30), date(2026, 2, 28)])
@pytest.mark.parametrize("period", Period)
def test_day_is_within_each_of_its_windows(day: date, period: Period) -> None:
    first, last = window_days(window_name(period, day))
    assert first <= day <= last


async def test_new_day_starts_while_requests_of_the_old_day_settle(
    ledger_harness: LedgerHarness, gateways: list[Ledger], key: ApiKey
) -> None:
    """Requests in flight join the new windows, but are settled in the day on which they started."""
    budgets = [await budget(key, 10_000, period) for period in (Period.MONTH, Period.DAY)]
    in_flight = [reserve_request(key, *budgets) for _ in range(80)]
    grants = await asyncio.gather(*(gateways[n].reserve(request) for n, request in enumerate(in_flight)))
    settling = [
        settle(gateways[n], *pair, cost=n) for n, pair in enumerate(zip(in_flight, grants, strict=True))
    ]
    arriving = [
        gateways[n + 1].reserve(reserve_request(key, *budgets, day=date(2026, 11, 21))) for n in range(80)
    ]
    await asyncio.gather(*(step for pair in zip(settling, arriving, strict=True) for step in pair))
    await ledger_harness.wait_until_written()
    assert await ledger_harness.window_total(budgets[0]) == (await recorded_cost(), 80 * PRICE)
    assert await ledger_harness.window_total(budgets[1]) == (await recorded_cost(), 0)
    assert await ledger_harness.window_total(budgets[1], date(2026, 11, 21)) == (0, 80 * PRICE)


async def test_days_with_new_records_are_marked_stale(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    request = reserve_request(key)
    await settle(ledger, request, await ledger.reserve(request), cost=1)
    await ledger_harness.wait_until_written()
    await eventually(StaleDay.objects.filter(project=key.project_id, day=TODAY).aexists)
