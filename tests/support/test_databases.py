"""Tests use the databases of their run."""

import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import connection

from tests.support.environment import ON_SERVERS

pytestmark = [pytest.mark.databases, pytest.mark.django_db]


def query(sql: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        (value,) = cursor.fetchone()
    return value


@pytest.mark.skipif(not ON_SERVERS, reason="needs PostgreSQL")
def test_the_database_is_a_real_postgresql() -> None:
    assert "PostgreSQL" in str(query("SELECT version()"))


@pytest.mark.skipif(not ON_SERVERS, reason="needs Redis")
def test_the_cache_is_a_real_server() -> None:
    assert settings.CACHES["default"]["LOCATION"] == settings.ENV.redis_url
    cache.set("greeting", "hello")
    assert cache.get("greeting") == "hello"


@pytest.mark.skipif(ON_SERVERS, reason="needs SQLite")
def test_the_embedded_database_is_a_file_in_wal_mode() -> None:
    assert query("PRAGMA journal_mode") == "wal"
    assert settings.DATABASES["default"]["NAME"] == connection.settings_dict["NAME"]


def test_the_configuration_version_exists_before_a_flush() -> None:
    assert query("SELECT count(*) FROM projects_configversion WHERE id = 1") == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", [1, 2])
def test_the_configuration_version_survives_a_flush(turn: int) -> None:
    assert query("SELECT count(*) FROM projects_configversion WHERE id = 1") == 1
