"""The audit finds every way in which books can be wrong, and finds nothing in books that are right."""

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

from billing.ledger import Ledger, inspection
from billing.ledger.audit import Difference, State, differences
from billing.ledger.inspection import audit_books, redis_state, sql_state
from billing.ledger.redis import reader
from billing.ledger.redis.scripts import prefix
from billing.ledger.terms import BudgetTerms
from billing.models import Budget, BudgetWindow, DailyUsage, Period, Reservation, UsageRecord
from billing.prices import Tokens, bundled
from billing.tasks import audit_ledger, roll_up_usage
from keys.models import ApiKey
from projects.ids import uuid7
from projects.models import Project
from tests.ledgers import PRICE, Books, books_on, budget, demand, settle
from tests.live import LiveGateway
from tests.pages_fixtures import USD, record

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "PAUSE_S", 0.0)
    monkeypatch.setattr(inspection, "RESOLVED_S", 0.0)


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


def all_of(states: Iterable[State]) -> list[Difference]:
    return [difference for state in states for difference in differences(state)]


def found() -> list[str]:
    roll_up_usage()
    return [f"{each.rule} {each.expected} {each.found}" for each in all_of(sql_state(served=True))]


def told() -> list[str]:
    """What one look at the books says, of whichever ledger they are."""
    return list(map(str, all_of(redis_state() if configured.ENV.redis_url else sql_state(served=True))))


async def tell() -> list[str]:
    return await sync_to_async(told)()


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
    differing = await sync_to_async(lambda: all_of(sql_state(served=False)))()
    assert [each.rule for each in differing if each.rule != "roll-up"] == ["I4"]


async def test_a_sum_that_is_not_that_of_its_records_is_found(busy: None) -> None:
    assert await look() == []
    await DailyUsage.objects.all().aupdate(cost_nano=1)
    assert await look() == [f"roll-up {PRICE + PRICE // 2} 1"]


async def serve(ledger: Ledger, key: ApiKey, budgets: tuple[BudgetTerms, ...], over: asyncio.Event) -> None:
    while not over.is_set():
        wanted = demand(key, *budgets)
        held = await ledger.reserve(wanted)
        await asyncio.sleep(0.001)
        await settle(ledger, wanted, held, cost=PRICE // 2)


def told_slowly() -> list[str]:
    """By a database that takes its time, in which the ledger goes on."""

    def slowly(execute: Callable[..., object], *arguments: object) -> object:
        time.sleep(0.005)
        return execute(*arguments)

    with connection.execute_wrapper(slowly):
        return told()


async def test_books_that_are_written_while_they_are_read_have_no_differences(books: Books, key: ApiKey) -> None:
    ledgers = [await books.start() for _ in range(min(books.processes, 2))]
    budgets = await budget(key, 10**9), await budget(key, 10**9, Period.MONTH, whole_project=True)
    over = asyncio.Event()
    serving = [asyncio.create_task(serve(ledger, key, budgets, over)) for ledger in ledgers for _ in range(24)]
    differing: list[str] = []
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        await sync_to_async(roll_up_usage)()
        differing += await sync_to_async(told_slowly)()
    over.set()
    await asyncio.gather(*serving)
    assert differing == []
    await books.written()
    assert await tell() == []
    assert await UsageRecord.objects.acount() > 200


async def test_only_what_a_second_look_still_finds_is_reported(books: Books, key: ApiKey, monkeypatch: pytest.MonkeyPatch) -> None:
    await books.start()
    row = await Budget.objects.acreate(project_id=key.project_id, period="day", limit_nano=5)
    lasting = Difference("I5", f"budget {row.pk}: spent", 1, 2)
    looks = iter([[lasting, Difference("I2", "passing", 1, 2)], [Difference("I2", "new", 1, 2), lasting]])
    monkeypatch.setattr(inspection, "look", lambda: inspection.Audit(1, 1, next(looks)))
    assert (await sync_to_async(audit_books)()).found == [lasting]


async def test_a_limit_that_was_lowered_while_a_request_was_under_way_is_not_taken_for_overspending(books: Books, key: ApiKey) -> None:
    ledger = await books.start()
    day = await budget(key, 3)
    wanted = demand(key, day)
    held = await ledger.reserve(wanted)
    row = await Budget.objects.aget()
    row.limit_nano = 1
    await row.asave()
    assert await tell() == []
    await settle(ledger, wanted, held, cost=PRICE)
    assert [text for text in await tell() if text.startswith("I")] == []
    await Budget.objects.aupdate(changed_at=timezone.now() - timedelta(days=400))
    assert [text.partition(":")[0] for text in await tell() if text.startswith("I")] == ["I1"]


@pytest.mark.parametrize("column", ["requests", "failures", "input_tokens", "output_tokens", "cost_nano"])
def test_each_column_of_a_roll_up_is_compared(key: ApiKey, column: str) -> None:
    record(key, cost_nano=USD)
    record(key, cost_nano=USD, model="other")
    day = key.project.today()
    DailyUsage.objects.rebuild(day)
    assert all_of(sql_state(served=True)) == []
    row = DailyUsage.objects.get(model_asked="other")
    DailyUsage.objects.filter(pk=row.pk).update(**{column: 77})
    (difference,) = map(str, all_of(sql_state(served=True)))
    name = f"roll-up: project {key.project_id}, {day}, key {key.pk}, 'other' of 'demo': {column}"
    assert difference == f"{name}: expected {getattr(row, column)}, found 77"


def test_a_roll_up_that_gives_costs_to_another_key_or_model_is_found(key: ApiKey) -> None:
    made = record(key, cost_nano=USD)
    DailyUsage.objects.rebuild(made.day)
    DailyUsage.objects.update(model_asked="other")
    assert len(all_of(sql_state(served=True))) == 2 * 4
    DailyUsage.objects.update(model_asked=made.model_asked, key=None)
    assert len(all_of(sql_state(served=True))) == 2 * 4
    DailyUsage.objects.all().delete()
    assert len(all_of(sql_state(served=True))) == 4


def test_sums_of_keys_that_were_deleted_are_taken_together(key: ApiKey) -> None:
    other, _ = ApiKey.objects.mint(key.project, "other")
    made = record(key, cost_nano=USD)
    record(other, cost_nano=USD)
    DailyUsage.objects.rebuild(made.day)
    key.delete()
    other.delete()
    assert DailyUsage.objects.filter(key=None).count() == 2
    assert all_of(sql_state(served=True)) == []


async def forget_windows(books: Books, key: ApiKey) -> None:
    """Reservations name no window any more, and none holds their amount."""
    if not configured.ENV.redis_url:
        await Reservation.objects.aupdate(windows="")
        await BudgetWindow.objects.aupdate(reserved_nano=0)
        return
    client, place = reader.client(), prefix(key.project_id)
    for id, text in client.hgetall(f"{place}open").items():
        head, _, draft = text.partition(b"\n")
        parts = head.split(b" ")
        client.hset(f"{place}open", id, b" ".join([*parts[:7], b"-", parts[8]]) + b"\n" + draft)
    for name in client.keys(f"{place}w:*"):
        client.hset(name, "reserved", 0)


async def test_a_request_that_holds_nothing_in_a_window_that_covers_it_is_found(books: Books, key: ApiKey) -> None:
    other, _ = await sync_to_async(ApiKey.objects.mint)(await Project.objects.aget(), "other")
    ledger = await books.start()
    day, total, others = await budget(key, 10), await budget(key, 10, whole_project=True), await budget(other, 10)
    wanted = demand(key, day, total)
    await ledger.reserve(wanted)
    await ledger.reserve(demand(other, others, at_least=0, at_most=0))
    assert await tell() == []
    await forget_windows(books, key)
    assert sorted(await tell()) == [
        f"I2: request {wanted.id}: held in budget {terms.id}, window 2026-11-20: expected {PRICE}, found 0" for terms in (day, total)
    ]


async def test_a_cost_that_does_not_fit_its_tokens_and_its_price_is_found(books: Books, key: ApiKey) -> None:
    ledger, price = await books.start(), bundled("openai", "gpt-4o-mini")
    assert price is not None
    wanted, tokens = demand(key), Tokens(input=1000, output=100)
    wanted.draft.price, wanted.draft.tokens = price, tokens
    held = await ledger.reserve(wanted)
    await settle(ledger, wanted, held, cost=price.cost(tokens))
    unused = demand(key)
    unused.draft.estimated, unused.draft.price = False, msgspec.structs.replace(price, per_request=5)
    await ledger.release(await ledger.reserve(unused), unused.draft)
    await books.written()
    await sync_to_async(roll_up_usage)()
    assert await tell() == []
    await UsageRecord.objects.filter(pk=wanted.id).aupdate(output_tokens=90, input_tokens=1010)
    assert [text for text in await tell() if text.startswith("price")] == [
        f"price: record {wanted.id}: cost of its tokens: expected {price.cost(Tokens(1010, output=90))}, found {price.cost(tokens)}"
    ]
    await UsageRecord.objects.filter(pk=wanted.id).aupdate(estimated=True)
    assert not [text for text in await tell() if text.startswith("price")]


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
    assert figures(live_gateway)["gateway_ledger_differences"] == 1
    BudgetWindow.objects.all().delete()
    assert audit_ledger() == 0
    assert figures(live_gateway)["gateway_ledger_differences"] == 0


def test_before_the_first_audit_there_is_no_figure_and_then_it_says_how_old_it_is(
    db: None, settings: Settings, live_gateway: LiveGateway
) -> None:
    settings.ENV = settings.ENV.model_copy(update={"redis_url": ""})
    assert figures(live_gateway) == {}
    before = time.time()
    audit_ledger()
    assert before <= figures(live_gateway)["gateway_ledger_audit_timestamp_seconds"] <= time.time()


def figures(live_gateway: LiveGateway) -> dict[str, float]:
    """Those of the last audit."""
    lines = httpx.get(f"{live_gateway.url}/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.split() for line in lines if line.startswith("gateway_ledger_"))}
