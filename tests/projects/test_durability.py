"""Commits on PostgreSQL are durable with all defaults of a server; the start names unsafe settings."""

import os
from pathlib import Path

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.db import connection

from billing.ledger.sql.connection import connect
from billing.ledger.sql.postgresql import PostgresConnection
from gateway_project.postgresql.base import DatabaseWrapper
from projects.db import durability
from tests.support.databases import DURABLE, NOT_DURABLE, Server, postgresql_server
from tests.support.environment import ON_SERVERS
from tests.support.gateway_server import GatewayProcess

pytestmark = [pytest.mark.databases, pytest.mark.skipif(not ON_SERVERS, reason="needs PostgreSQL")]

SHOW = "SHOW synchronous_commit"


def setting_of_django(url: str) -> str:
    django = django_connection(url)
    with django.cursor() as cursor:
        cursor.execute(SHOW)
        (value,) = cursor.fetchone()
    django.close()
    return str(value)


def django_connection(url: str) -> DatabaseWrapper:
    parts = psycopg.conninfo.conninfo_to_dict(url)
    address = {"NAME": parts["dbname"], "USER": parts["user"], "HOST": parts["host"], "PORT": parts["port"]}
    return DatabaseWrapper({**connection.settings_dict, "PASSWORD": "", **address}, "other")


async def test_commits_of_the_ledger_survive_a_kill_of_a_lazy_server(
    lazy_server: Server,
) -> None:
    conn = PostgresConnection(conninfo=lazy_server.url)
    await conn.begin()
    await conn.run("CREATE TABLE rows (n int)")
    await conn.commit()
    await conn.begin()
    await conn.run("INSERT INTO rows VALUES (1)")
    await conn.commit()
    lazy_server.kill()
    lazy_server.start()
    await conn.close()
    with psycopg.connect(lazy_server.url) as other:
        assert other.execute("SELECT n FROM rows").fetchall() == [(1,)]


@pytest.mark.django_db
def test_commits_of_a_command_survive_a_kill_of_a_lazy_server(
    lazy_server: Server,
) -> None:
    django = django_connection(lazy_server.url)
    with django.cursor() as cursor:
        cursor.execute("CREATE TABLE rows (n int)")
        cursor.execute("INSERT INTO rows VALUES (1)")
    lazy_server.kill()
    lazy_server.start()
    django.close()
    with psycopg.connect(lazy_server.url) as other:
        assert other.execute("SELECT n FROM rows").fetchall() == [(1,)]


async def test_a_new_connection_commits_durably(lazy_server: Server) -> None:
    conn = PostgresConnection(conninfo=lazy_server.url)
    for _ in range(2):
        await conn.begin()
        assert await conn.run(SHOW) == [("on",)]
        await conn.commit()
        await conn.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("value", ["local", "remote_apply"])
async def test_a_safe_setting_is_not_changed(value: str) -> None:
    with postgresql_server({**DURABLE, "synchronous_commit": value}) as server:
        conn = PostgresConnection(conninfo=server.url)
        await conn.begin()
        assert await conn.run(SHOW) == [(value,)]
        await conn.close()
        assert await sync_to_async(setting_of_django)(server.url) == value


async def test_all_connections_of_the_gateway_commit_durably(transactional_db: None) -> None:
    """The server that the tests share has synchronous_commit off."""
    ledger = connect()
    await ledger.begin()
    assert await ledger.run(SHOW) == [("on",)]
    await ledger.rollback()
    await ledger.close()
    with psycopg.connect(os.environ["DATABASE_URL"]) as other:
        assert other.execute(SHOW.encode()).fetchone() == ("off",)


def test_the_start_names_each_unsafe_setting(tmp_path: Path) -> None:
    (data := tmp_path / "data").mkdir()
    with postgresql_server(NOT_DURABLE) as server:
        gateway = GatewayProcess(data, DATABASE_URL=server.url).start()
        gateway.stop()
    lines = [line for line in gateway.log_lines() if line["message"] == "postgresql_setting_not_durable"]
    assert [(line["level"], line["setting"]) for line in lines] == [
        ("warning", "fsync"),
        ("warning", "full_page_writes"),
        ("warning", "synchronous_commit"),
    ]
    assert all(line["consequence"] for line in lines)


@pytest.mark.django_db
def test_only_unsafe_settings_are_reported_also_of_a_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with postgresql_server() as server:
        found = []
        for statement in ("SELECT 1", "ALTER DATABASE postgres SET synchronous_commit = off"):
            with psycopg.connect(server.url, autocommit=True) as other:
                other.execute(statement.encode())
            django = django_connection(server.url)
            monkeypatch.setattr(durability, "connection", django)
            found.append(durability.unsafe_settings())
            django.close()
    assert found == [[], ["synchronous_commit"]]
