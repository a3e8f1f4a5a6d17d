"""The balance of an unopened window is correct while requests change their state."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from billing.ledger import Ledger, balances
from billing.ledger.interface import WindowBalance
from billing.ledger.reader import current_reader
from billing.ledger.redis import RedisLedger, queries
from billing.models import Budget, UsageRecord
from keys.models import ApiKey
from tests.support.environment import ON_SERVERS
from tests.support.ledger_harness import PRICE, TODAY, LedgerHarness, budget, reserve_request, settle

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]

both_orders = pytest.mark.parametrize("when", ["before", "after"])


def run_between(
    when: str, read: Callable[..., Iterator[Any]], action: Callable[[], object]
) -> Callable[..., list[Any]]:
    """Return a reader that performs an action directly before or after it reads."""

    def read_and_act(*arguments: Any) -> list[Any]:
        if when == "before":
            action()
        found = list(read(*arguments))
        if when == "after":
            action()
        return found

    return read_and_act


async def unopened_window_balance(key: ApiKey) -> WindowBalance:
    """Return the balance of a new budget without requests."""
    budget_limit = await budget(key, 10)
    row = await Budget.objects.select_related("project").aget(pk=budget_limit.id)
    found = await sync_to_async(balances.window_balances)(row.project, [row], TODAY)
    return found[row.pk]


async def charge(ledger: Ledger, key: ApiKey) -> None:
    request = reserve_request(key)
    await settle(ledger, request, await ledger.reserve(request), cost=PRICE // 2)


@both_orders
@pytest.mark.skipif(not ON_SERVERS, reason="needs Redis and PostgreSQL")
@pytest.mark.parametrize("ledger_harness", ["redis"], indirect=True)
async def test_record_written_during_the_read_counts_once(
    ledger_harness: LedgerHarness, key: ApiKey, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    ledger = await ledger_harness.start()
    assert isinstance(ledger, RedisLedger)
    await charge(ledger, key)
    await ledger_harness.wait_until_written()
    await ledger.background_tasks.stop()
    await charge(ledger, key)
    assert len(await sync_to_async(lambda: list(queries.undrained_records(key.project_id)))()) == 1
    drain = async_to_sync(ledger.drainer.drain)
    monkeypatch.setattr(queries, "undrained_records", run_between(when, queries.undrained_records, drain))
    assert await unopened_window_balance(key) == WindowBalance(2 * (PRICE // 2), 0)
    assert await UsageRecord.objects.acount() == 2


@both_orders
async def test_request_finished_during_the_read_counts_once(
    ledger_harness: LedgerHarness, key: ApiKey, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    ledger = await ledger_harness.start()
    request = reserve_request(key)
    grant = await ledger.reserve(request)
    await ledger.reserve(reserve_request(key))

    async def end() -> None:
        await settle(ledger, request, grant, cost=PRICE // 2)
        await ledger_harness.wait_until_written()

    reader = type(current_reader())
    monkeypatch.setattr(
        reader, "open_reservations", run_between(when, reader.open_reservations, async_to_sync(end))
    )
    assert await unopened_window_balance(key) == WindowBalance(PRICE // 2, PRICE)
    assert await UsageRecord.objects.acount() == 1


async def test_backlog_and_open_reservations_count_from_the_start(
    ledger_harness: LedgerHarness, key: ApiKey
) -> None:
    ledger = await ledger_harness.start()
    if isinstance(ledger, RedisLedger):
        await ledger.background_tasks.stop()
    await charge(ledger, key)
    await ledger.reserve(reserve_request(key))
    assert await unopened_window_balance(key) == WindowBalance(PRICE // 2, PRICE)
