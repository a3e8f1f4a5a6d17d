"""Fixtures of the tests of tenancy, configuration and the database."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from django.conf import settings
from django.db import connection

from projects import vault
from projects.config_cache import ConfigCache
from projects.db import executor
from projects.db.health import database_health
from proxy.upstream.client import HttpUpstreamClient
from proxy.upstream.timeouts import Timeouts
from tests.support.databases import NOT_DURABLE, Server, postgresql_server
from tests.support.flaky_network import FlakyProxy

original_with_reconnect = executor.with_reconnect
LAZY = {**NOT_DURABLE, "wal_writer_delay": "10s", "wal_writer_flush_after": "1GB"}
"""Settings with which commits stay in memory long enough for a test to kill the server."""


@pytest.fixture
def restore_database() -> Iterator[None]:
    before = settings.ENV
    yield
    settings.ENV = before
    executor.with_reconnect = original_with_reconnect
    database_health.is_down = False


@pytest.fixture
async def flaky_proxy(transactional_db: None) -> AsyncIterator[FlakyProxy]:
    database = connection.settings_dict
    proxy = FlakyProxy(database["HOST"], int(database["PORT"]))
    async with await asyncio.start_server(proxy.accept, "127.0.0.1", 0) as server:
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy
        await proxy.close()


@pytest.fixture
def stored_values() -> dict[str, str]:
    return {"a": "1"}


@pytest.fixture
def value_cache(stored_values: dict[str, str]) -> ConfigCache[str, str]:
    return ConfigCache(stored_values.__getitem__)


@pytest.fixture
def lazy_server() -> Iterator[Server]:
    with postgresql_server(LAZY) as server:
        yield server


@pytest.fixture
def no_private_hosts(change_environment: Callable[..., None]) -> None:
    change_environment(gateway_private_upstreams=())


@pytest.fixture
async def upstream_client() -> AsyncIterator[HttpUpstreamClient]:
    upstream = HttpUpstreamClient(Timeouts(first_chunk_s=1, idle_s=1))
    yield upstream
    await upstream.close()


@pytest.fixture
def use_encryption_keys() -> Iterator[Callable[..., None]]:
    before = settings.ENV

    def use(*encryption_keys: str) -> None:
        settings.ENV = before.model_copy(update={"gateway_encryption_keys": encryption_keys})
        vault.fernet.cache_clear()

    yield use
    settings.ENV = before
    vault.fernet.cache_clear()
