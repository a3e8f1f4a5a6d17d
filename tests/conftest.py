"""What every test stands on: an environment of its own, a database in a file, and a fixed cast.

Alice owns the project, Bob is a member, Charlie is an outsider.
"""

from tests.support import environment

DATA = environment.isolate()

pytest_plugins = ["tests.support.live_gateway"]

# isort: split
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from django.apps import apps
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.db.models.signals import post_migrate
from pytest_django import Settings

from billing.ledger import SqlLedger
from billing.ledger.sql.connection import connect
from keys.auth_throttle import auth_failures
from keys.models import ApiKey
from projects import config_cache
from projects.models import ConfigVersion, Project, Role, User
from tests.support import ledger_harness as ledgers

# A slow machine is no failure.
hypothesis.settings.register_profile("gateway", deadline=None)
hypothesis.settings.load_profile("gateway")
settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests marked `long`, and only those")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    def chosen(item: pytest.Item) -> bool:
        is_long = item.get_closest_marker("long") is not None
        fits = not environment.ON_SERVERS or item.get_closest_marker("databases") is not None
        return fits and is_long == config.getoption("--long")

    config.hook.pytest_deselected(items=[item for item in items if not chosen(item)])
    items[:] = [item for item in items if chosen(item)]


def pytest_unconfigure() -> None:
    DATA.cleanup()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """SQLite's test database is a file: the ledger opens a connection of its own to it."""
    if not environment.ON_SERVERS:
        connection.settings_dict["TEST"]["NAME"] = str(Path(DATA.name) / "test.sqlite3")


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """It goes away with the server or the directory that holds it, whichever connections are still open."""
    return True


@pytest.fixture(scope="session", autouse=True)
def config_version_survives_flushes() -> None:
    """A migration makes this row. Tests with transactions empty all tables; Django then announces a migration."""

    def begin(using: str, **_: object) -> None:
        ConfigVersion.objects.using(using).get_or_create(pk=1)

    post_migrate.connect(begin, sender=apps.get_app_config("projects"), weak=False)


@pytest.fixture(autouse=True)
def clear_caches() -> Iterator[None]:
    """What a process remembers, a test does not learn from the one before it."""
    yield
    config_cache.clear_all()
    auth_failures.clear()
    cache.clear()


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
    """For tests that write budgets' counters themselves: they are read from the database, also where there is Redis."""
    settings.ENV = settings.ENV.model_copy(update={"redis_url": ""})


@pytest.fixture(params=ledgers.BACKENDS)
async def ledger_harness(
    request: pytest.FixtureRequest, transactional_db: None
) -> AsyncIterator[ledgers.LedgerHarness]:
    """The ledger on each store."""
    books = ledgers.ledger_harness_on(request.param)
    yield books
    await books.close()


@pytest.fixture
async def ledger(transactional_db: None) -> AsyncIterator[SqlLedger]:
    ledger = SqlLedger(connect())
    await ledger.start()
    yield ledger
    await ledger.stop()
