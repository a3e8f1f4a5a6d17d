"""While another program keeps SQLite locked, a request waits as long as the documents say, and no longer."""

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


async def test_a_request_that_comes_while_sqlite_is_locked_waits_no_longer_than_the_lock_may(
    transactional_db: None, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither behind a request that came before it, nor again for the record of its refusal."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.5)
    ledger = SqlLedger(connect())
    writer = sqlite3.connect(str(connection.settings_dict["NAME"]), isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    begun = time.monotonic()

    async def refused(after_s: float) -> float:
        await asyncio.sleep(after_s)
        with pytest.raises(LedgerUnavailable):
            await ledger.reserve(wanted := reserve_request(key))
        await ledger.record(wanted.estimate)
        return time.monotonic() - begun

    ends = await asyncio.gather(*map(refused, (0, 0.1, 0.2, 0.4)))
    assert max(ends) < 0.5 + 0.3
    writer.close()
    await asyncio.sleep(0)
    await ledger.flush_retries()
    assert await UsageRecord.objects.acount() == 4
    await ledger.stop()


async def test_a_lock_that_begins_later_is_waited_for_again(
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
        begun = time.monotonic()
        threading.Timer(0.2, writer.execute, ("ROLLBACK",)).start()
        await ledger.release(await ledger.reserve(wanted := reserve_request(key)), wanted.estimate)
        assert 0.1 < time.monotonic() - begun < 0.4
    writer.close()
    await ledger.stop()
