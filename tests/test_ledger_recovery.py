"""What was spent is never lost and never counted twice, whoever dies and whatever goes away."""

import asyncio

import pytest

from billing.ledger import Ledger, Refused, Reservation
from billing.models import Correction, DirtyDay, Outcome, UsageRecord
from billing.prices import Tokens
from keys.models import ApiKey
from tests.ledgers import PRICE, TODAY, Books, budget, demand, eventually, recorded, reserve, settle

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]


@pytest.fixture
async def ledger(books: Books) -> Ledger:
    return await books.start()


async def test_what_a_dead_process_held_is_posted_as_an_estimate(books: Books, key: ApiKey) -> None:
    terms = await budget(key, 10)
    dying = await books.start()
    await dying.reserve(demand(key, terms))
    await books.kill(dying)
    await books.bury()
    await books.written()
    assert await books.taken(terms) == (PRICE, 0)
    record = await UsageRecord.objects.aget()
    assert (record.cost_nano, record.estimated) == (PRICE, True)
    assert await books.held() == 0
    await eventually(DirtyDay.objects.filter(project=key.project_id, day=TODAY).aexists)


async def test_the_estimate_for_a_dead_process_is_no_more_than_what_it_was_granted(books: Books, key: ApiKey) -> None:
    terms = await budget(key, 3)
    dying = await books.start()
    await dying.reserve(demand(key, terms, at_least=PRICE, at_most=7 * PRICE))
    await books.kill(dying)
    await books.bury()
    assert await books.taken(terms) == (3 * PRICE, 0)


async def test_a_request_that_was_given_up_for_an_estimate_and_ends_after_all_is_corrected_once(books: Books, key: ApiKey) -> None:
    terms, total = await budget(key, 10), await budget(key, 10, whole_project=True)
    frozen = await books.start()
    wanted = demand(key, terms, total)
    wanted.draft.tokens = Tokens(input=50, output=50)
    held = await frozen.reserve(wanted)
    await books.kill(frozen)
    await books.bury()
    wanted.draft.tokens = Tokens(input=20, output=3)
    for _ in range(2):
        await settle(books.open[0], wanted, held, cost=300)
    await books.written()
    estimate = await UsageRecord.objects.aget(corrects=None)
    correction = await UsageRecord.objects.aget(corrects=wanted.id)
    assert (estimate.cost_nano, estimate.estimated) == (PRICE, True)
    assert (correction.cost_nano, correction.input_tokens, correction.output_tokens) == (300 - PRICE, -30, -47)
    assert correction.correction == Correction.LATE
    assert await books.taken(terms) == await books.taken(total) == (300, 0)


async def test_settled_twice_it_is_charged_once(books: Books, ledger: Ledger, key: ApiKey) -> None:
    terms = await budget(key, 10)
    wanted = demand(key, terms)
    held = await ledger.reserve(wanted)
    for _ in range(3):
        await settle(ledger, wanted, held, cost=PRICE)
    await books.written()
    assert await books.taken(terms) == (PRICE, 0)
    assert await UsageRecord.objects.acount() == 1


async def test_a_request_that_the_books_do_not_know_is_charged_once_all_the_same(books: Books, ledger: Ledger, key: ApiKey) -> None:
    terms = await budget(key, 10)
    known, unknown = demand(key, terms), demand(key, terms)
    held = await ledger.reserve(known)
    for _ in range(2):
        await settle(ledger, unknown, Reservation(unknown.id, PRICE), cost=70)
    assert await books.taken(terms) == (70, PRICE)
    await settle(ledger, known, held, cost=PRICE)
    await books.written()
    assert await books.taken(terms) == (70 + PRICE, 0) and await recorded() == 70 + PRICE


async def test_a_refused_request_recorded_twice_is_one_record(books: Books, ledger: Ledger, key: ApiKey) -> None:
    entry = demand(key).draft
    entry.cost_nano = 0
    for _ in range(2):
        await ledger.record(entry)
    await books.written()
    assert await UsageRecord.objects.acount() == 1


@pytest.mark.parametrize("room", [0, 1])
async def test_a_caller_that_is_cancelled_while_it_waits_holds_nothing_and_leaves_its_record(
    books: Books, ledger: Ledger, key: ApiKey, room: int
) -> None:
    terms = await budget(key, room)
    await reserve(ledger, demand(key, terms, at_least=2 * PRICE, at_most=2 * PRICE))
    wanted = demand(key, terms)
    asking = asyncio.create_task(ledger.reserve(wanted))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    async def is_recorded() -> bool:
        await books.written()
        return await UsageRecord.objects.filter(pk=wanted.id).aexists()

    await eventually(is_recorded)
    assert await books.taken(terms) == (0, 0)
    record = await UsageRecord.objects.aget(pk=wanted.id)
    assert (record.outcome, record.cost_nano, record.estimated, record.prompt_tokens) == (Outcome.UNAVAILABLE, 0, False, 0)
    assert isinstance(await reserve(ledger, demand(key, terms)), Refused) == (room == 0)


async def test_records_and_counters_agree_after_many_deaths(books: Books, key: ApiKey) -> None:
    terms = await budget(key, 1000)
    for _ in range(5):
        dying = await books.start()
        wanted = [demand(key, terms) for _ in range(6)]
        held = [await dying.reserve(each) for each in wanted]
        await asyncio.gather(*(settle(dying, *pair, cost=77) for pair in list(zip(wanted, held, strict=True))[:4]))
        await books.kill(dying)
        await books.bury()
        for ledger in list(books.open):
            await books.stop(ledger)
    await books.written()
    assert await books.taken(terms) == (await recorded(), 0) == (5 * (4 * 77 + 2 * PRICE), 0)
