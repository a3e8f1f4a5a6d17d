"""Fixtures of all tests: an isolated environment, a database in a file, and users of a project.

Alice owns the project, Bob is a member, Charlie is not a member.
"""

from tests.support import environment

DATA = environment.isolate()

pytest_plugins = ["tests.support.live_gateway", "tests.support.canary"]

# isort: split
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from pytest_django import Settings

from billing.ledger import SqlLedger
from billing.ledger.sql.connection import connect
from keys.auth_throttle import anonymous_requests, auth_failures
from keys.models import ApiKey
from projects import config_cache
from projects.models import Project, Role, User
from proxy.cache.store import memory_store
from proxy.routing.health.target_health import health
from tests.support import empty_tables
from tests.support import ledger_harness as ledgers

# A slow machine must not fail the tests.
hypothesis.settings.register_profile("gateway", deadline=None)
hypothesis.settings.load_profile("gateway")
config_cache.POLL_TIMEOUT_S = 20
settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
empty_tables.install()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests marked `long`, and only those")
    parser.addoption("--clients", action="store_true", help="run the tests marked `clients`, and only those")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    def chosen(item: pytest.Item) -> bool:
        is_long = item.get_closest_marker("long") is not None
        fits_stores = not environment.ON_SERVERS or item.get_closest_marker("databases") is not None
        fits_clients = not config.getoption("--clients") or item.get_closest_marker("clients") is not None
        return fits_stores and fits_clients and is_long == config.getoption("--long")

    config.hook.pytest_deselected(items=[item for item in items if not chosen(item)])
    items[:] = [item for item in items if chosen(item)]
    if (marker := os.environ.get("GATEWAY_TEST_SERVERS_WANTED")) and any(
        item.get_closest_marker("databases") for item in items
    ):
        Path(marker).touch()


def pytest_xdist_setupnodes() -> None:
    """Let each process of pytest-xdist load the settings after it has set its own environment.

    pytest-django would load them before, because the process inherits this variable.
    """
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)


def pytest_unconfigure() -> None:
    DATA.cleanup()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """Put SQLite's test database into a file, because the ledger opens a separate connection to it."""
    if not environment.ON_SERVERS:
        connection.settings_dict["TEST"]["NAME"] = str(Path(DATA.name) / "test.sqlite3")


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """Do not delete the test database.

    It is deleted with its server or directory, even if connections are open.
    """
    return True


@pytest.fixture(autouse=True)
def clear_caches() -> Iterator[None]:
    """Clear what one process caches, so that tests do not affect each other."""
    yield
    config_cache.clear_all()
    auth_failures.clear()
    anonymous_requests.clear()
    health.clear()
    cache.clear()
    memory_store.clear()


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice@example.org", "alice-password")


@pytest.fixture
def bob(db: None) -> User:
    return User.objects.create_user("bob@example.org", "bob-password")


@pytest.fixture
def charlie(db: None) -> User:
    return User.objects.create_user("charlie@example.org", "charlie-password")


@pytest.fixture
def project(alice: User, bob: User) -> Project:
    project = Project.objects.create_with_owner("Acme", owner=alice)
    project.memberships.create(user=bob, role=Role.MEMBER)
    return project


@pytest.fixture
def key(project: Project) -> ApiKey:
    return ApiKey.objects.issue(project, "app")[0]


@pytest.fixture
def change_environment(settings: Settings) -> Callable[..., None]:
    """Return a function that changes variables of the environment until the test ends."""

    def change(**variables: object) -> None:
        settings.ENV = settings.ENV.model_copy(update=variables)

    return change


@pytest.fixture
def counters_in_sql(settings: Settings) -> None:
    """Read the counters of budgets from the database, for tests that write them there, even with Redis."""
    settings.ENV = settings.ENV.model_copy(update={"redis_url": ""})


@pytest.fixture(params=ledgers.BACKENDS)
async def ledger_harness(
    request: pytest.FixtureRequest, transactional_db: None
) -> AsyncIterator[ledgers.LedgerHarness]:
    """Ledger on each store."""
    harness = ledgers.ledger_harness_on(request.param)
    yield harness
    await harness.close()


@pytest.fixture
async def ledger(transactional_db: None) -> AsyncIterator[SqlLedger]:
    ledger = SqlLedger(connect())
    await ledger.start()
    yield ledger
    await ledger.stop()
