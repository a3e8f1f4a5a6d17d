"""A Valkey server that tests may kill, and processes with a ledger on it."""

from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from billing.ledger.redis import RedisLedger
from billing.ledger.redis.client import blocking_client
from tests.support.databases import Server, valkey_server
from tests.support.redis_gateways import LONG_TIMEOUT, PROCESSES


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A Valkey server with an append-only file. Only these tests use it, because they kill it."""
    with valkey_server(append_only=True) as server:
        yield server


@pytest.fixture
async def gateways(
    transactional_db: None, server: Server, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[RedisLedger]]:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        monkeypatch.setattr(blocking_client, "blocking_client", lambda: client)
        ledgers = [RedisLedger(server.url, LONG_TIMEOUT) for _ in range(PROCESSES)]
        for ledger in ledgers:
            await ledger.start()
        yield ledgers
        for ledger in ledgers:
            await ledger.stop()
