"""Records that SQL does not have yet are counted: in Redis, and in the memory of a process."""

import pytest
from asgiref.sync import sync_to_async

from billing.ledger import SqlLedger
from billing.ledger.interface import LedgerLag
from billing.ledger.reader import current_reader
from billing.ledger.redis import RedisLedger
from billing.ledger.redis.outbox.pending_state import PendingRecord, PendingState
from keys.models import ApiKey
from tests.support.environment import ON_SERVERS
from tests.support.ledger_harness import PRICE, LedgerHarness, reserve_request, settle

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]


@pytest.mark.skipif(not ON_SERVERS, reason="needs Redis and PostgreSQL")
@pytest.mark.parametrize("ledger_harness", ["redis"], indirect=True)
async def test_undrained_records_are_counted_until_sql_has_them(
    ledger_harness: LedgerHarness, key: ApiKey
) -> None:
    ledger = await ledger_harness.start()
    assert isinstance(ledger, RedisLedger)
    await ledger.background_tasks.stop()
    request = reserve_request(key)
    await settle(ledger, request, await ledger.reserve(request), cost=PRICE)
    lag = await sync_to_async(current_reader().lag)()
    assert lag.records == 1 and 0 <= lag.oldest_s < 60
    assert ledger.unsent_records() == 0
    await ledger.drainer.drain()
    assert await sync_to_async(current_reader().lag)() == LedgerLag()


@pytest.mark.skipif(ON_SERVERS, reason="needs the SQL ledger")
async def test_the_sql_ledger_has_no_undrained_records(ledger_harness: LedgerHarness, key: ApiKey) -> None:
    ledger = await ledger_harness.start()
    assert isinstance(ledger, SqlLedger)
    request = reserve_request(key)
    await settle(ledger, request, await ledger.reserve(request), cost=PRICE)
    assert await sync_to_async(current_reader().lag)() == LedgerLag() and ledger.unsent_records() == 0


def test_records_without_a_stream_id_are_unsent(key: ApiKey) -> None:
    state = PendingState()
    for stream_id in (None, "1-0"):
        request = reserve_request(key)
        state.records[request.id] = PendingRecord(request.estimate, stream_id=stream_id)
    assert state.unsent_count() == 1
