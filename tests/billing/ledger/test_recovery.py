"""What was spent is never lost and never counted twice, whoever dies and whatever goes away."""

import asyncio

import pytest

from billing.ledger import AdmissionDenied, Ledger, ReservationGrant
from billing.models import CorrectionReason, Outcome, StaleDay, UsageRecord
from billing.pricing import Tokens
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
async def ledger(ledger_harness: LedgerHarness) -> Ledger:
    return await ledger_harness.start()


async def test_reservation_of_a_dead_process_is_settled_as_an_estimate(
    ledger_harness: LedgerHarness, key: ApiKey
) -> None:
    terms = await budget(key, 10)
    dying = await ledger_harness.start()
    await dying.reserve(reserve_request(key, terms))
    await ledger_harness.kill(dying)
    await ledger_harness.recover_dead()
    await ledger_harness.wait_until_written()
    assert await ledger_harness.window_total(terms) == (PRICE, 0)
    record = await UsageRecord.objects.aget()
    assert (record.cost_nano, record.estimated) == (PRICE, True)
    assert await ledger_harness.open_reservations() == 0
    await eventually(StaleDay.objects.filter(project=key.project_id, day=TODAY).aexists)


async def test_estimate_for_a_dead_process_does_not_exceed_its_reservation(
    ledger_harness: LedgerHarness, key: ApiKey
) -> None:
    terms = await budget(key, 3)
    dying = await ledger_harness.start()
    await dying.reserve(reserve_request(key, terms, min_nano=PRICE, max_nano=7 * PRICE))
    await ledger_harness.kill(dying)
    await ledger_harness.recover_dead()
    assert await ledger_harness.window_total(terms) == (3 * PRICE, 0)


async def test_late_settlement_corrects_the_estimate_once(ledger_harness: LedgerHarness, key: ApiKey) -> None:
    terms, total = await budget(key, 10), await budget(key, 10, whole_project=True)
    frozen = await ledger_harness.start()
    wanted = reserve_request(key, terms, total)
    wanted.estimate.tokens = Tokens(input=50, output=50)
    held = await frozen.reserve(wanted)
    await ledger_harness.kill(frozen)
    await ledger_harness.recover_dead()
    wanted.estimate.tokens = Tokens(input=20, output=3)
    for _ in range(2):
        await settle(ledger_harness.running[0], wanted, held, cost=300)
    await ledger_harness.wait_until_written()
    estimate = await UsageRecord.objects.aget(corrects=None)
    correction = await UsageRecord.objects.aget(corrects=wanted.id)
    assert (estimate.cost_nano, estimate.estimated) == (PRICE, True)
    assert (correction.cost_nano, correction.input_tokens, correction.output_tokens) == (
        300 - PRICE,
        -30,
        -47,
    )
    assert correction.correction_reason == CorrectionReason.LATE
    assert await ledger_harness.window_total(terms) == await ledger_harness.window_total(total) == (300, 0)


async def test_settled_twice_it_is_charged_once(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    terms = await budget(key, 10)
    wanted = reserve_request(key, terms)
    held = await ledger.reserve(wanted)
    for _ in range(3):
        await settle(ledger, wanted, held, cost=PRICE)
    await ledger_harness.wait_until_written()
    assert await ledger_harness.window_total(terms) == (PRICE, 0)
    assert await UsageRecord.objects.acount() == 1


async def test_unknown_reservation_is_charged_once(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    terms = await budget(key, 10)
    known, unknown = reserve_request(key, terms), reserve_request(key, terms)
    held = await ledger.reserve(known)
    for _ in range(2):
        await settle(ledger, unknown, ReservationGrant(unknown.id, PRICE), cost=70)
    assert await ledger_harness.window_total(terms) == (70, PRICE)
    await settle(ledger, known, held, cost=PRICE)
    await ledger_harness.wait_until_written()
    assert await ledger_harness.window_total(terms) == (70 + PRICE, 0) and await recorded_cost() == 70 + PRICE


async def test_a_refused_request_recorded_twice_is_one_record(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    entry = reserve_request(key).estimate
    entry.cost_nano = 0
    for _ in range(2):
        await ledger.record(entry)
    await ledger_harness.wait_until_written()
    assert await UsageRecord.objects.acount() == 1


@pytest.mark.parametrize("room", [0, 1])
async def test_cancelled_reserve_releases_and_leaves_a_record(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey, room: int
) -> None:
    terms = await budget(key, room)
    await reserve(ledger, reserve_request(key, terms, min_nano=2 * PRICE, max_nano=2 * PRICE))
    wanted = reserve_request(key, terms)
    asking = asyncio.create_task(ledger.reserve(wanted))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    async def is_recorded() -> bool:
        await ledger_harness.wait_until_written()
        return await UsageRecord.objects.filter(pk=wanted.id).aexists()

    await eventually(is_recorded)
    assert await ledger_harness.window_total(terms) == (0, 0)
    record = await UsageRecord.objects.aget(pk=wanted.id)
    assert (record.outcome, record.cost_nano, record.estimated, record.prompt_tokens) == (
        Outcome.UNAVAILABLE,
        0,
        False,
        0,
    )
    assert isinstance(await reserve(ledger, reserve_request(key, terms)), AdmissionDenied) == (room == 0)


async def test_records_and_counters_agree_after_many_crashes(
    ledger_harness: LedgerHarness, key: ApiKey
) -> None:
    terms = await budget(key, 1000)
    for _ in range(5):
        dying = await ledger_harness.start()
        wanted = [reserve_request(key, terms) for _ in range(6)]
        held = [await dying.reserve(each) for each in wanted]
        await asyncio.gather(
            *(settle(dying, *pair, cost=77) for pair in list(zip(wanted, held, strict=True))[:4])
        )
        await ledger_harness.kill(dying)
        await ledger_harness.recover_dead()
        for ledger in list(ledger_harness.running):
            await ledger_harness.stop(ledger)
    await ledger_harness.wait_until_written()
    assert (
        await ledger_harness.window_total(terms)
        == (await recorded_cost(), 0)
        == (5 * (4 * 77 + 2 * PRICE), 0)
    )
