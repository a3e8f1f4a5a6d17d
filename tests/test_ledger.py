"""Budgets hold under load, on SQLite in one process and on PostgreSQL in several."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from asgiref.sync import sync_to_async
from django.db.models import Sum

from billing.ledger import BudgetExceeded, Demand, Entry, RateExceeded, Refused, Reservation, SqlLedger
from billing.ledger.session import connect
from billing.ledger.terms import BudgetTerms
from billing.ledger.windows import ends_at, local_day
from billing.models import Budget, BudgetWindow, DirtyDay, Period, RequestWindow, UsageRecord
from billing.models import Reservation as StoredReservation
from keys.models import ApiKey
from projects.ids import uuid7
from tests.environment import ON_SERVERS

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]

PRICE = 1_000
UTC_ZONE = ZoneInfo("UTC")
TODAY = date(2026, 11, 20)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
PROCESSES = 4 if ON_SERVERS else 1


@pytest.fixture
async def gateways(transactional_db: None) -> AsyncIterator[list[SqlLedger]]:
    """The ledgers of every gateway process: SQLite serves exactly one."""
    ledgers = [SqlLedger(connect(), alone=PROCESSES == 1) for _ in range(PROCESSES)]
    for ledger in ledgers:
        await ledger.start()
    yield ledgers
    for ledger in ledgers:
        await ledger.stop()


def budget(key: ApiKey, requests: int, *, period: Period = Period.DAY, whole_project: bool = False) -> BudgetTerms:
    """A budget that pays for so many requests."""
    row = Budget.objects.create(project=key.project, key=None if whole_project else key, period=period, limit_nano=requests * PRICE)
    return BudgetTerms(row.pk, row.period, row.limit_nano, covers_project=whole_project)


def demand(
    key: ApiKey, *budgets: BudgetTerms, at_least: int = PRICE, at_most: int = PRICE, rpm: int | None = None,
    day: date = TODAY, zone: ZoneInfo = UTC_ZONE,
) -> Demand:  # fmt: skip
    draft = Entry(
        id=uuid7(), project_id=key.project_id, key_id=key.pk, day=day, created_at=NOON, request_id="request", operation="chat",
        format="openai", cost_nano=at_most, estimated=True,
    )  # fmt: skip
    return Demand(draft.id, key.project_id, key.pk, zone, at_least, at_most, budgets, rpm, draft)


async def reserve(ledger: SqlLedger, wanted: Demand) -> tuple[Demand, Reservation] | Refused:
    try:
        return wanted, await ledger.reserve(wanted)
    except Refused as refusal:
        return refusal


async def settle(ledger: SqlLedger, wanted: Demand, held: Reservation, cost: int) -> None:
    entry = wanted.draft
    entry.cost_nano, entry.estimated = cost, False
    await ledger.settle(held, entry)


async def taken(terms: BudgetTerms) -> tuple[int, int]:
    """What is spent and reserved in the only window of a budget."""
    window = await BudgetWindow.objects.aget(budget_id=terms.id)
    return window.spent_nano, window.reserved_nano


async def recorded() -> int:
    total: int = (await UsageRecord.objects.aaggregate(total=Sum("cost_nano", default=0)))["total"]
    return total


async def test_of_200_requests_at_once_exactly_the_50_that_the_budget_pays_for_are_admitted(gateways: list[SqlLedger], key: ApiKey) -> None:
    terms = await sync_to_async(budget)(key, 50)
    answers = await asyncio.gather(*(reserve(gateways[n % PROCESSES], demand(key, terms)) for n in range(200)))
    refusals = [answer for answer in answers if isinstance(answer, Refused)]
    assert len(answers) - len(refusals) == 50
    assert all(isinstance(refusal, BudgetExceeded) and refusal.left == 0 for refusal in refusals)
    assert await taken(terms) == (0, 50 * PRICE)


async def test_after_settling_and_releasing_nothing_is_reserved_and_spent_is_the_sum_of_the_records(
    gateways: list[SqlLedger], key: ApiKey
) -> None:
    terms = await sync_to_async(budget)(key, 50)
    answers = await asyncio.gather(*(reserve(gateways[n % PROCESSES], demand(key, terms)) for n in range(50)))
    held = [answer for answer in answers if not isinstance(answer, Refused)]
    ledgers = [gateways[n % PROCESSES] for n in range(50)]
    finishing = [settle(ledger, *pair, cost=n * 7) for n, (ledger, pair) in enumerate(zip(ledgers[:30], held[:30], strict=True))]
    abandoned = [ledger.release(pair[1], pair[0].draft) for ledger, pair in zip(ledgers[30:], held[30:], strict=True)]
    await asyncio.gather(*finishing, *abandoned)
    assert await taken(terms) == (await recorded(), 0)
    assert await recorded() == sum(n * 7 for n in range(30))
    assert await UsageRecord.objects.acount() == 50
    assert not await StoredReservation.objects.aexists()


async def test_a_budget_made_in_the_middle_of_the_day_counts_earlier_records_and_requests_in_flight(ledger: SqlLedger, key: ApiKey) -> None:
    earlier, flying = demand(key), demand(key)
    await settle(ledger, earlier, await ledger.reserve(earlier), cost=PRICE)
    held = await ledger.reserve(flying)
    terms = await sync_to_async(budget)(key, 3)
    await ledger.reserve(demand(key, terms))
    assert await taken(terms) == (PRICE, 2 * PRICE)
    with pytest.raises(BudgetExceeded):
        await ledger.reserve(demand(key, terms))
    await settle(ledger, flying, held, cost=1)
    assert await taken(terms) == (PRICE + 1, PRICE)


async def test_records_of_other_days_do_not_count_in_a_new_daily_budget(ledger: SqlLedger, key: ApiKey) -> None:
    yesterday = demand(key, day=date(2026, 11, 19))
    await settle(ledger, yesterday, await ledger.reserve(yesterday), cost=PRICE)
    daily = await sync_to_async(budget)(key, 1)
    monthly = await sync_to_async(budget)(key, 2, period=Period.MONTH)
    await ledger.reserve(demand(key, daily, monthly))
    assert await taken(daily) == (0, PRICE)
    assert await taken(monthly) == (PRICE, PRICE)


async def test_a_keys_day_and_its_projects_month_both_hold(gateways: list[SqlLedger], key: ApiKey) -> None:
    neighbour, _ = await sync_to_async(ApiKey.objects.mint)(key.project, "neighbour")
    month = await sync_to_async(budget)(key, 30, period=Period.MONTH, whole_project=True)
    days = [await sync_to_async(budget)(each, 20) for each in (key, neighbour)]
    wanted = [demand(each, day, month) for each, day in zip((key, neighbour), days, strict=True) for _ in range(40)]
    answers = await asyncio.gather(*(reserve(gateways[n % PROCESSES], each) for n, each in enumerate(wanted)))
    assert sum(not isinstance(answer, Refused) for answer in answers) == 30
    assert await taken(month) == (0, 30 * PRICE)
    reserved = [(await taken(day))[1] for day in days]
    assert max(reserved) <= 20 * PRICE
    assert sum(reserved) == 30 * PRICE


async def test_a_refusal_writes_nothing(ledger: SqlLedger, key: ApiKey) -> None:
    enough, spent = await sync_to_async(budget)(key, 9), await sync_to_async(budget)(key, 0, period=Period.MONTH)
    with pytest.raises(BudgetExceeded) as refusal:
        await ledger.reserve(demand(key, enough, spent, rpm=5))
    assert refusal.value.budget == spent
    assert await taken(enough) == await taken(spent) == (0, 0)
    assert not await StoredReservation.objects.aexists()
    assert not await RequestWindow.objects.aexists()


async def test_it_refuses_more_requests_in_a_minute_than_the_key_may_send(
    gateways: list[SqlLedger], key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(time=lambda: NOON.timestamp() + 15, time_ns=lambda: 1)
    monkeypatch.setattr("billing.ledger.steps.time", clock)
    first = await gateways[0].reserve(demand(key, rpm=10))
    assert first.requests_left == 9
    answers = await asyncio.gather(*(reserve(gateways[n % PROCESSES], demand(key, rpm=10)) for n in range(30)))
    refusals = [answer for answer in answers if isinstance(answer, Refused)]
    assert len(refusals) == 21
    assert all(isinstance(refusal, RateExceeded) and refusal.retry_after == 45 for refusal in refusals)
    clock.time = lambda: NOON.timestamp() + 60
    assert (await gateways[0].reserve(demand(key, rpm=10))).requests_left == 9


async def test_what_a_budget_has_left_is_granted_between_the_least_and_the_most(ledger: SqlLedger, key: ApiKey) -> None:
    terms = await sync_to_async(budget)(key, 10)
    grants = [(await ledger.reserve(demand(key, terms, at_least=2 * PRICE, at_most=7 * PRICE))).amount for _ in range(2)]
    assert grants == [7 * PRICE, 3 * PRICE]
    with pytest.raises(BudgetExceeded) as refusal:
        await ledger.reserve(demand(key, terms, at_least=1, at_most=PRICE))
    assert (refusal.value.left, refusal.value.needed) == (0, 1)


async def test_what_a_dead_process_held_is_posted_as_an_estimate_at_the_next_start(key: ApiKey) -> None:
    terms = await sync_to_async(budget)(key, 10)
    await die_holding(demand(key, terms))
    heir = SqlLedger(connect(), alone=True)
    assert await heir.start() == 1
    assert await taken(terms) == (PRICE, 0)
    record = await UsageRecord.objects.aget()
    assert (record.cost_nano, record.estimated) == (PRICE, True)
    assert not await StoredReservation.objects.aexists()
    await heir.stop()


async def test_the_roll_up_learns_of_an_estimate_even_if_the_process_that_posted_it_stops_at_once(key: ApiKey) -> None:
    await die_holding(demand(key))
    heir = SqlLedger(connect(), alone=True)
    await heir.start()
    await heir.stop()
    assert await DirtyDay.objects.filter(project=key.project_id, day=TODAY).aexists()


async def test_the_estimate_for_a_dead_process_is_no_more_than_what_it_was_granted(key: ApiKey) -> None:
    terms = await sync_to_async(budget)(key, 3)
    await die_holding(demand(key, terms, at_least=PRICE, at_most=7 * PRICE))
    heir = SqlLedger(connect(), alone=True)
    await heir.start()
    await heir.stop()
    assert await taken(terms) == (3 * PRICE, 0)


async def die_holding(wanted: Demand) -> None:
    """A process that ends without a chance to settle: only its connection is closed, as the kernel would."""
    process = SqlLedger(connect(), alone=True)
    await process.start()
    await process.reserve(wanted)
    assert process.heart is not None
    process.heart.cancel()
    await process.connection.close()


async def test_a_living_process_keeps_its_reservations_when_another_one_starts(key: ApiKey) -> None:
    if PROCESSES == 1:
        pytest.skip("one process at a time on SQLite")
    terms = await sync_to_async(budget)(key, 10)
    first, second = SqlLedger(connect(), alone=False), SqlLedger(connect(), alone=False)
    await first.start()
    await first.reserve(demand(key, terms))
    assert await second.start() == 0
    assert await taken(terms) == (0, PRICE)
    for ledger in (first, second):
        await ledger.stop()


async def test_days_begin_at_midnight_of_the_projects_timezone(ledger: SqlLedger, key: ApiKey) -> None:
    auckland = ZoneInfo("Pacific/Auckland")
    terms = await sync_to_async(budget)(key, 1)
    before, after = (local_day(datetime(2026, 11, 20, hour, 30, tzinfo=UTC).timestamp(), auckland) for hour in (10, 11))
    for day in (before, after):
        await ledger.reserve(demand(key, terms, day=day, zone=auckland))
        with pytest.raises(BudgetExceeded) as refusal:
            await ledger.reserve(demand(key, terms, day=day, zone=auckland))
    assert [name async for name in BudgetWindow.objects.order_by("name").values_list("name", flat=True)] == ["2026-11-20", "2026-11-21"]
    assert refusal.value.resets_at == datetime(2026, 11, 21, 11, tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "zone", "end"),
    [
        ("2026-03-29", "Europe/Berlin", datetime(2026, 3, 29, 22, tzinfo=UTC)),
        ("2026-10-25", "Europe/Berlin", datetime(2026, 10, 25, 23, tzinfo=UTC)),
        ("2026-12", "America/New_York", datetime(2027, 1, 1, 5, tzinfo=UTC)),
        ("2028-02", "UTC", datetime(2028, 3, 1, tzinfo=UTC)),
    ],
)
def test_a_window_ends_at_local_midnight_also_where_clocks_change(window: str, zone: str, end: datetime) -> None:
    assert ends_at(window, ZoneInfo(zone)) == end


async def test_a_new_day_begins_while_requests_of_the_old_one_are_settled(gateways: list[SqlLedger], key: ApiKey) -> None:
    """A new window joins the requests in flight, whose settlements hold rows of their own meanwhile."""
    budgets = [await sync_to_async(budget)(key, 10_000, period=period) for period in (Period.MONTH, Period.DAY)]
    flying = [demand(key, *budgets) for _ in range(80)]
    held = await asyncio.gather(*(gateways[n % PROCESSES].reserve(wanted) for n, wanted in enumerate(flying)))
    settling = [settle(gateways[n % PROCESSES], *pair, cost=n) for n, pair in enumerate(zip(flying, held, strict=True))]
    arriving = [gateways[(n + 1) % PROCESSES].reserve(demand(key, *budgets, day=date(2026, 11, 21))) for n in range(80)]
    await asyncio.gather(*(step for pair in zip(settling, arriving, strict=True) for step in pair))
    month = await BudgetWindow.objects.aget(name="2026-11")
    assert (month.spent_nano, month.reserved_nano) == (await recorded(), 80 * PRICE)


async def test_a_caller_that_is_cancelled_while_it_waits_holds_nothing(ledger: SqlLedger, key: ApiKey) -> None:
    terms = await sync_to_async(budget)(key, 1)
    wanted = demand(key, terms)
    asking = asyncio.create_task(ledger.reserve(wanted))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    while ledger.flushing is not None:
        await ledger.flushing
    assert await UsageRecord.objects.filter(pk=wanted.id, cost_nano=0).aexists()
    await ledger.reserve(demand(key, terms))
    assert await taken(terms) == (0, PRICE)


async def test_a_rate_limit_holds_among_processes_from_the_very_first_request(
    gateways: list[SqlLedger], key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.0)
    asked = [gateways[n % PROCESSES].reserve(demand(key, rpm=5)) for n in range(40)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(answer, Reservation) for answer in answers) == 5
    assert sum(isinstance(answer, RateExceeded) for answer in answers) == 35
