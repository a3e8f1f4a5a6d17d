"""Reservations that are extended, because a failed call has used a part of them."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from billing.ledger import Ledger, ReservationGrant
from billing.ledger.redis import RedisLedger
from billing.ledger.redis.client.protocol import RedisUnavailable
from billing.models import Mode, UsageRecord
from keys.models import ApiKey
from tests.support.ledger_harness import (
    PRICE,
    LedgerHarness,
    budget,
    recorded_cost,
    reserve_request,
    settle,
)

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]


@pytest.fixture
async def ledger(ledger_harness: LedgerHarness) -> Ledger:
    return await ledger_harness.start()


async def test_an_extension_is_reserved_until_the_settlement(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    limit = await budget(key, 10)
    request = reserve_request(key, limit)
    reservation = await ledger.reserve(request)
    extended = await ledger.extend(reservation, 3 * PRICE, request.budgets)
    assert extended == replace(reservation, amount=4 * PRICE)
    assert await ledger_harness.window_total(limit) == (0, 4 * PRICE)
    await settle(ledger, request, extended, 3 * PRICE)
    await ledger_harness.wait_until_written()
    assert await ledger_harness.window_total(limit) == (3 * PRICE, 0)
    assert (await UsageRecord.objects.aget()).reserved_nano == 4 * PRICE


async def test_a_hard_budget_limits_all_extensions_together(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    limit = await budget(key, 50)
    requests = [reserve_request(key, limit) for _ in range(30)]
    reservations = [await ledger.reserve(request) for request in requests]
    extended = await asyncio.gather(
        *(ledger.extend(reservation, PRICE, (limit,)) for reservation in reservations)
    )
    assert sum(each is not None for each in extended) == 20
    assert await ledger_harness.window_total(limit) == (0, 50 * PRICE)


async def test_a_lowered_limit_refuses_an_extension(ledger: Ledger, key: ApiKey) -> None:
    limit = await budget(key, 10)
    reservation = await ledger.reserve(reserve_request(key, limit))
    assert await ledger.extend(reservation, PRICE, (replace(limit, limit_nano=PRICE),)) is None


async def test_a_soft_budget_refuses_no_extension(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    limit = await budget(key, 1, mode=Mode.SHADOW)
    reservation = await ledger.reserve(reserve_request(key, limit))
    assert await ledger.extend(reservation, 5 * PRICE, (limit,)) is not None
    assert await ledger_harness.window_total(limit) == (0, 6 * PRICE)


async def test_a_settled_request_cannot_be_extended(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    limit = await budget(key, 10)
    request = reserve_request(key, limit)
    reservation = await ledger.reserve(request)
    await settle(ledger, request, reservation, PRICE)
    assert await ledger.extend(reservation, PRICE, (limit,)) is None
    await ledger_harness.wait_until_written()
    assert await ledger_harness.window_total(limit) == (PRICE, 0)


async def test_the_estimate_of_a_killed_process_includes_the_extension(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    limit = await budget(key, 10)
    reservation = await ledger.reserve(reserve_request(key, limit))
    assert isinstance(await ledger.extend(reservation, 2 * PRICE, (limit,)), ReservationGrant)
    await ledger_harness.kill(ledger)
    await ledger_harness.recover_dead()
    await ledger_harness.wait_until_written()
    assert await ledger_harness.window_total(limit) == (3 * PRICE, 0)
    assert await recorded_cost() == 3 * PRICE


async def test_an_extension_without_an_answer_is_ended_by_the_settlement(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis has the larger amount, but its answer is lost, so the process does not know about it."""
    if not isinstance(ledger, RedisLedger):
        pytest.skip("needs Redis")
    limit = await budget(key, 10)
    request = reserve_request(key, limit)
    reservation = await ledger.reserve(request)
    run = ledger.client.run_fast

    async def lose_the_answer(*arguments: Any) -> None:
        await run(*arguments)
        raise RedisUnavailable("the connection broke")

    with monkeypatch.context() as patch:
        patch.setattr(ledger.client, "run_fast", lose_the_answer)
        assert await ledger.extend(reservation, PRICE, (limit,)) is None
    assert await ledger_harness.window_total(limit) == (0, 2 * PRICE)
    await settle(ledger, request, reservation, PRICE)
    await ledger_harness.wait_until_written()
    assert await ledger_harness.window_total(limit) == (PRICE, 0)
