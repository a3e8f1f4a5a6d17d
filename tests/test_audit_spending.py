"""What a window starts with that no request has asked of yet, told while requests and their records move on."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from billing.ledger import Ledger, spending
from billing.ledger.redis import RedisLedger, reader
from billing.ledger.terms import Spending
from billing.models import Budget, UsageRecord
from keys.models import ApiKey
from tests.environment import ON_SERVERS
from tests.ledgers import PRICE, TODAY, Books, budget, demand, settle

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]

moments = pytest.mark.parametrize("moment", ["before", "after"])


def meanwhile(moment: str, read: Callable[..., Iterator[Any]], happens: Callable[[], object]) -> Callable[..., list[Any]]:
    """Reads, and something happens right before or after that."""

    def both(*arguments: Any) -> list[Any]:
        if moment == "before":
            happens()
        found = list(read(*arguments))
        if moment == "after":
            happens()
        return found

    return both


async def unopened(key: ApiKey) -> Spending:
    """Of a budget that no request has asked of."""
    terms = await budget(key, 10)
    row = await Budget.objects.select_related("project").aget(pk=terms.id)
    found = await sync_to_async(spending.spending)(row.project, [row], TODAY)
    return found[row.pk]


async def charge(ledger: Ledger, key: ApiKey) -> None:
    wanted = demand(key)
    await settle(ledger, wanted, await ledger.reserve(wanted), cost=PRICE // 2)


@moments
@pytest.mark.skipif(not ON_SERVERS, reason="needs Redis and PostgreSQL")
@pytest.mark.parametrize("books", ["redis"], indirect=True)
async def test_a_record_that_is_written_meanwhile_counts_once(
    books: Books, key: ApiKey, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    ledger = await books.start()
    assert isinstance(ledger, RedisLedger)
    await charge(ledger, key)
    await books.written()
    await ledger.upkeep.stop()
    await charge(ledger, key)
    assert len(await sync_to_async(lambda: list(reader.undrained(key.project_id)))()) == 1
    drain = async_to_sync(ledger.drainer.drain)
    monkeypatch.setattr(reader, "undrained", meanwhile(moment, reader.undrained, drain))
    assert await unopened(key) == Spending(2 * (PRICE // 2), 0)
    assert await UsageRecord.objects.acount() == 2


@moments
async def test_a_request_that_ends_meanwhile_counts_once(books: Books, key: ApiKey, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    ledger = await books.start()
    wanted = demand(key)
    held = await ledger.reserve(wanted)
    await ledger.reserve(demand(key))

    async def end() -> None:
        await settle(ledger, wanted, held, cost=PRICE // 2)
        await books.written()

    monkeypatch.setattr(spending, "under_way", meanwhile(moment, spending.under_way, async_to_sync(end)))
    assert await unopened(key) == Spending(PRICE // 2, PRICE)
    assert await UsageRecord.objects.acount() == 1


async def test_records_that_wait_and_requests_under_way_count_from_the_start(books: Books, key: ApiKey) -> None:
    ledger = await books.start()
    if isinstance(ledger, RedisLedger):
        await ledger.upkeep.stop()
    await charge(ledger, key)
    await ledger.reserve(demand(key))
    assert await unopened(key) == Spending(PRICE // 2, PRICE)
