"""The command check_config reports all problems of an installation at once."""

from io import StringIO
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django import Settings

from gateway_project.management import config_check
from keys.models import ApiKey
from projects import vault
from projects.models import Project
from proxy.models import Credential
from tests.support.gateway_server import GatewayProcess

WRONG = """
AI_GATEWAY_RETRY_ATTEMPTS=many
GOOGLE_CLIENT_ID=an-id
REDIS_URL=mysql://h
"""


@pytest.fixture
def keeps_connection(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the connection of the test, whose transaction would end otherwise."""
    monkeypatch.setattr(connection, "close", lambda: None)


@pytest.mark.databases
@pytest.mark.usefixtures("keeps_connection")
def test_a_valid_configuration_is_confirmed() -> None:
    output = StringIO()
    call_command("check_config", stdout=output)
    assert output.getvalue() == "The configuration is valid.\n"


def test_problems_of_all_kinds_are_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "some.env").write_text(WRONG)
    (tmp_path / "routes.yaml").write_text("default_provider: opnai")
    gateway = GatewayProcess(
        tmp_path / "data",
        AI_GATEWAY_ENV_FILE=str(tmp_path / "some.env"),
        AI_GATEWAY_CONFIG=str(tmp_path / "routes.yaml"),
        DATABASE_URL="postgresql://gw:secret@127.0.0.1:1/db",
        AI_GATEWAY_RETRY_ATTEMPTS="",
        PORT="99999",
    )
    done = gateway.run("check_config")
    lines = done.stderr.splitlines()
    expected = (
        "PORT: it must be a whole number from 1 to 65535",
        "REDIS_URL: it must begin with redis://",
        "GOOGLE_CLIENT_SECRET: GOOGLE_CLIENT_ID is set, but",
        "AI_GATEWAY_RETRY_ATTEMPTS: it must be a whole number from 0 to 10",
        f"{tmp_path}/routes.yaml: unknown provider 'opnai'",
        "DATABASE_URL: the database db at 127.0.0.1 cannot be opened",
    )
    assert done.returncode == 2 and "secret@" not in done.stderr and "Traceback" not in done.stderr
    for line, start in zip(lines, expected, strict=False):
        assert line.startswith(f"configuration error: {start}")
    assert lines[-1] == "CommandError: 6 problems found." and len(lines) == 7


def test_secrets_that_no_longer_fit_are_reported(
    project: Project, key: ApiKey, settings: Settings, request: pytest.FixtureRequest
) -> None:
    credential = Credential(project=project, slug="mine", provider="openai")
    credential.set_secret("sk-proj-0123456789")
    credential.save()
    assert list(config_check.problems_of_stored_secrets()) == []
    settings.ENV = settings.ENV.model_copy(
        update={"gateway_encryption_keys": (Fernet.generate_key().decode(),)}
    )
    settings.KEY_PEPPER = "another"
    vault.fernet.cache_clear()
    request.addfinalizer(vault.fernet.cache_clear)
    assert list(config_check.problems_of_stored_secrets()) == [
        "GATEWAY_KEY_PEPPER: 1 API keys were made with another pepper, so they do not work",
        "GATEWAY_ENCRYPTION_KEYS: no key decrypts the credentials acme/mine",
    ]


def test_an_unreachable_redis_is_reported(settings: Settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"redis_url": "redis://:secret@127.0.0.1:1/0"})
    (problem,) = config_check.problems_of_redis()
    assert problem.startswith("REDIS_URL: the server cannot be used: ") and "secret" not in problem


@pytest.mark.usefixtures("keeps_connection")
def test_the_exit_status_is_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_check, "problems_of_redis", lambda: iter(("REDIS_URL: wrong",)))
    errors = StringIO()
    with pytest.raises(CommandError) as refused:
        call_command("check_config", stderr=errors)
    assert refused.value.returncode == 2
    assert errors.getvalue() == "configuration error: REDIS_URL: wrong\n"
