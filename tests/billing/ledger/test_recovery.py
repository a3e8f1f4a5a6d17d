"""Spend is never lost and never counted twice, even if processes die or servers go down."""

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
    budget_limit = await budget(key, 10)
    dying = await ledger_harness.start()
    await dying.reserve(reserve_request(key, budget_limit))
    await ledger_harness.kill(dying)
    await ledger_harness.recover_dead()
    await ledger_harness.wait_until_written()
    assert await ledger_harness.window_total(budget_limit) == (PRICE, 0)
    record = await UsageRecord.objects.aget()
    assert (record.cost_nano, record.estimated) == (PRICE, True)
    assert await ledger_harness.open_reservations() == 0
    await eventually(StaleDay.objects.filter(project=key.project_id, day=TODAY).aexists)


async def test_estimate_for_a_dead_process_does_not_exceed_its_reservation(
    ledger_harness: LedgerHarness, key: ApiKey
) -> None:
    budget_limit = await budget(key, 3)
    dying = await ledger_harness.start()
    await dying.reserve(reserve_request(key, budget_limit, min_nano=PRICE, max_nano=7 * PRICE))
    await ledger_harness.kill(dying)
    await ledger_harness.recover_dead()
    assert await ledger_harness.window_total(budget_limit) == (3 * PRICE, 0)


async def test_late_settlement_corrects_the_estimate_once(ledger_harness: LedgerHarness, key: ApiKey) -> None:
    budget_limit, total = await budget(key, 10), await budget(key, 10, whole_project=True)
    frozen = await ledger_harness.start()
    request = reserve_request(key, budget_limit, total)
    request.estimate.tokens = Tokens(input=50, output=50)
    grant = await frozen.reserve(request)
    await ledger_harness.kill(frozen)
    await ledger_harness.recover_dead()
    request.estimate.tokens = Tokens(input=20, output=3)
    for _ in range(2):
        await settle(ledger_harness.running[0], request, grant, cost=300)
    await ledger_harness.wait_until_written()
    estimate = await UsageRecord.objects.aget(corrects=None)
    correction = await UsageRecord.objects.aget(corrects=request.id)
    assert (estimate.cost_nano, estimate.estimated) == (PRICE, True)
    assert (correction.cost_nano, correction.input_tokens, correction.output_tokens) == (
        300 - PRICE,
        -30,
        -47,
    )
    assert correction.correction_reason == CorrectionReason.LATE
    assert (
        await ledger_harness.window_total(budget_limit)
        == await ledger_harness.window_total(total)
        == (300, 0)
    )


async def test_request_settled_twice_is_charged_once(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    budget_limit = await budget(key, 10)
    request = reserve_request(key, budget_limit)
    grant = await ledger.reserve(request)
    for _ in range(3):
        await settle(ledger, request, grant, cost=PRICE)
    await ledger_harness.wait_until_written()
    assert await ledger_harness.window_total(budget_limit) == (PRICE, 0)
    assert await UsageRecord.objects.acount() == 1


async def test_unknown_reservation_is_charged_once(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    budget_limit = await budget(key, 10)
    known, unknown = reserve_request(key, budget_limit), reserve_request(key, budget_limit)
    grant = await ledger.reserve(known)
    for _ in range(2):
        await settle(ledger, unknown, ReservationGrant(unknown.id, PRICE), cost=70)
    assert await ledger_harness.window_total(budget_limit) == (70, PRICE)
    await settle(ledger, known, grant, cost=PRICE)
    await ledger_harness.wait_until_written()
    assert (
        await ledger_harness.window_total(budget_limit) == (70 + PRICE, 0)
        and await recorded_cost() == 70 + PRICE
    )


async def test_denied_request_recorded_twice_has_one_record(
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
    budget_limit = await budget(key, room)
    await reserve(ledger, reserve_request(key, budget_limit, min_nano=2 * PRICE, max_nano=2 * PRICE))
    request = reserve_request(key, budget_limit)
    reserving = asyncio.create_task(ledger.reserve(request))
    await asyncio.sleep(0)
    reserving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reserving

    async def is_recorded() -> bool:
        await ledger_harness.wait_until_written()
        return await UsageRecord.objects.filter(pk=request.id).aexists()

    await eventually(is_recorded)
    assert await ledger_harness.window_total(budget_limit) == (0, 0)
    record = await UsageRecord.objects.aget(pk=request.id)
    assert (record.outcome, record.cost_nano, record.estimated, record.prompt_tokens) == (
        Outcome.UNAVAILABLE,
        0,
        False,
        0,
    )
    assert isinstance(await reserve(ledger, reserve_request(key, budget_limit)), AdmissionDenied) == (
        room == 0
    )


async def test_records_and_counters_agree_after_many_crashes(
    ledger_harness: LedgerHarness, key: ApiKey
) -> None:
    budget_limit = await budget(key, 1000)
    for _ in range(5):
        dying = await ledger_harness.start()
        requests = [reserve_request(key, budget_limit) for _ in range(6)]
        grants = [await dying.reserve(each) for each in requests]
        await asyncio.gather(
            *(settle(dying, *pair, cost=77) for pair in list(zip(requests, grants, strict=True))[:4])
        )
        await ledger_harness.kill(dying)
        await ledger_harness.recover_dead()
        for ledger in list(ledger_harness.running):
            await ledger_harness.stop(ledger)
    await ledger_harness.wait_until_written()
    assert (
        await ledger_harness.window_total(budget_limit)
        == (await recorded_cost(), 0)
        == (5 * (4 * 77 + 2 * PRICE), 0)
    )
