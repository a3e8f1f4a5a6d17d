"""Deferred requests have no reservation and no slot, and are charged once when their cost is known."""

import pytest

from billing.ledger import Ledger, RateLimitExceeded
from billing.ledger.interface import RateLimit
from billing.ledger.redis import RedisLedger
from billing.ledger.redis.client.protocol import RedisUnavailable
from billing.models import CorrectionReason, Mode, UsageRecord
from keys.models import ApiKey
from tests.support.ledger_harness import (
    PRICE,
    LedgerHarness,
    budget,
    eventually,
    reserve_request,
    settle,
)

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]


@pytest.fixture
async def ledger(ledger_harness: LedgerHarness) -> Ledger:
    return await ledger_harness.start()


async def test_a_deferred_request_holds_no_money_and_has_no_record(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    budget_limit = await budget(key, 10, mode=Mode.SOFT)
    grant = await ledger.reserve(reserve_request(key, budget_limit))
    assert await ledger_harness.window_total(budget_limit) == (0, PRICE)
    await ledger.defer(grant)
    assert await ledger_harness.window_total(budget_limit) == (0, 0)
    assert await ledger_harness.open_reservations() == 0
    await ledger_harness.wait_until_written()
    assert not await UsageRecord.objects.aexists()


async def test_it_is_charged_once_by_whichever_process_settles_it(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    budget_limit = await budget(key, 10, mode=Mode.SOFT)
    request = reserve_request(key, budget_limit)
    grant = await ledger.reserve(request)
    await ledger.defer(grant)
    if ledger_harness.processes == 1:
        await ledger_harness.stop(ledger)
    others = [await ledger_harness.start() for _ in range(min(ledger_harness.processes, 2))]
    for other in (*others, *others):
        await settle(other, request, grant, cost=70)
    await ledger_harness.wait_until_written()
    assert await ledger_harness.window_total(budget_limit) == (70, 0)
    record = await UsageRecord.objects.aget()
    assert (record.cost_nano, record.estimated, record.reserved_nano) == (70, False, PRICE)


async def test_a_process_killed_before_the_deferral_leaves_an_estimate(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    budget_limit = await budget(key, 10, mode=Mode.SOFT)
    request = reserve_request(key, budget_limit)
    grant = await ledger.reserve(request)
    await ledger_harness.kill(ledger)
    await ledger_harness.recover_dead()
    assert await ledger_harness.window_total(budget_limit) == (PRICE, 0)
    await settle(ledger_harness.running[0], request, grant, cost=70)
    await ledger_harness.wait_until_written()
    assert await ledger_harness.window_total(budget_limit) == (70, 0)
    assert (await UsageRecord.objects.aget(corrects=request.id)).correction_reason == CorrectionReason.LATE


async def test_it_frees_its_slot_and_still_counts_as_a_request(ledger: Ledger, key: ApiKey) -> None:
    slots = RateLimit(f"k{key.pk}", concurrent=1)
    grant = await ledger.reserve(reserve_request(key, limits=(slots,)))
    with pytest.raises(RateLimitExceeded):
        await ledger.reserve(reserve_request(key, limits=(slots,)))
    await ledger.defer(grant)
    await ledger.defer(await ledger.reserve(reserve_request(key, limits=(slots,))))

    counted = RateLimit(f"p{key.project_id}", requests=2, tokens=1000)
    await ledger.defer(await ledger.reserve(reserve_request(key, limits=(counted,), tokens=400)))
    status = await ledger.rate_limit_status(key.project_id, (counted,))
    assert status.requests is not None and status.requests.remaining == 1
    assert status.tokens is not None and status.tokens.remaining == 600


async def test_a_deferral_that_redis_misses_is_sent_again(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not isinstance(ledger, RedisLedger):
        pytest.skip("needs Redis")
    grant = await ledger.reserve(reserve_request(key))

    async def fail(*_: object) -> None:
        raise RedisUnavailable("it does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(ledger.client, "run_fast", fail)
        await ledger.defer(grant)
        assert await ledger_harness.open_reservations() == 1

    async def is_ended() -> bool:
        return await ledger_harness.open_reservations() == 0

    await eventually(is_ended)
