"""A request waits no longer than documented while another program locks SQLite."""

import asyncio
import sqlite3
import threading
import time

import pytest
from django.db import connection

from billing.ledger import LedgerUnavailable, SqlLedger
from billing.ledger.sql import sqlite
from billing.ledger.sql.connection import connect
from billing.models import UsageRecord
from keys.models import ApiKey
from tests.support.environment import ON_SERVERS
from tests.support.ledger_harness import reserve_request

pytestmark = pytest.mark.skipif(ON_SERVERS, reason="needs SQLite")


async def test_request_waits_no_longer_than_the_busy_timeout(
    transactional_db: None, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request does not wait for an earlier one, and does not wait a second time to record its denial."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.5)
    ledger = SqlLedger(connect())
    writer = sqlite3.connect(str(connection.settings_dict["NAME"]), isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    started_at = time.monotonic()

    async def denied_after(after_s: float) -> float:
        await asyncio.sleep(after_s)
        with pytest.raises(LedgerUnavailable):
            await ledger.reserve(request := reserve_request(key))
        await ledger.record(request.estimate)
        return time.monotonic() - started_at

    ends = await asyncio.gather(*map(denied_after, (0, 0.1, 0.2, 0.4)))
    assert max(ends) < 0.5 + 0.3
    writer.close()
    await asyncio.sleep(0)
    await ledger.flush_retries()
    assert await UsageRecord.objects.acount() == 4
    await ledger.stop()


async def test_each_lock_of_sqlite_gets_its_own_timeout(
    transactional_db: None, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.4)
    monkeypatch.setattr(sqlite, "BUSY_GAP_S", 0.1)
    ledger = SqlLedger(connect())
    writer = sqlite3.connect(
        str(connection.settings_dict["NAME"]), isolation_level=None, check_same_thread=False
    )
    for _ in range(2):
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable):
            await ledger.reserve(reserve_request(key))
        await asyncio.sleep(0.2)
        started_at = time.monotonic()
        threading.Timer(0.2, writer.execute, ("ROLLBACK",)).start()
        await ledger.release(await ledger.reserve(request := reserve_request(key)), request.estimate)
        assert 0.1 < time.monotonic() - started_at < 2
    writer.close()
    await ledger.stop()
