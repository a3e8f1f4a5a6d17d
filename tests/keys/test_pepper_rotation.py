"""Rotation of the pepper: both peppers are accepted, and keys are hashed again at their next use."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from pytest_django import Settings

from gateway_project import env
from keys import tokens
from keys.authentication import AuthenticationFailed, authenticate
from keys.models import ApiKey
from projects import config_cache
from projects.models import Project

pytestmark = pytest.mark.django_db(transaction=True)


def rotate(settings: Settings, new: str, *accepted: str) -> None:
    settings.KEY_PEPPER, settings.ACCEPTED_KEY_PEPPERS = new, accepted
    config_cache.clear_all()


async def is_accepted(token: str) -> bool:
    try:
        await authenticate(token, lambda: "192.0.2.1")
    except AuthenticationFailed:
        return False
    return True


@pytest.fixture
def issued(project: Project, settings: Settings) -> tuple[ApiKey, str]:
    rotate(settings, "old")
    return ApiKey.objects.issue(project, "app")


async def test_a_used_key_gets_a_digest_with_the_new_pepper(
    issued: tuple[ApiKey, str], settings: Settings
) -> None:
    key, token = issued
    rotate(settings, "new", "old")
    assert await is_accepted(token)
    await key.arefresh_from_db()
    assert key.has_current_pepper
    rotate(settings, "new")
    assert await is_accepted(token)


async def test_an_unused_key_stops_working_without_its_pepper(
    issued: tuple[ApiKey, str], settings: Settings
) -> None:
    rotate(settings, "new")
    assert not await is_accepted(issued[1])


async def test_a_wrong_secret_is_rejected_with_every_pepper(
    issued: tuple[ApiKey, str], settings: Settings
) -> None:
    key, _ = issued
    rotate(settings, "new", "old")
    forged = tokens.Token(key.public_id, "A" * tokens.SECRET_LENGTH)
    assert not await is_accepted(str(forged))
    await key.arefresh_from_db()
    assert not key.has_current_pepper


async def test_a_failing_database_does_not_reject_the_key(
    issued: tuple[ApiKey, str], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("database is locked")

    rotate(settings, "new", "old")
    monkeypatch.setattr(ApiKey, "rehash", fail)
    assert await is_accepted(issued[1])


def status() -> str:
    out = io.StringIO()
    call_command("rotate_pepper", "--status", stdout=out)
    return out.getvalue()


def test_the_status_lists_keys_that_were_not_used(issued: tuple[ApiKey, str], settings: Settings) -> None:
    assert status() == "0 of 1 active keys were not used since the rotation.\n"
    rotate(settings, "new", "old")
    assert "1 of 1 active keys" in status() and issued[0].public_id in status()
    issued[0].revoke()
    assert "0 of 0 active keys" in status()


def test_the_file_of_secrets_keeps_the_earlier_pepper(
    project: Project, settings: Settings, tmp_path: Path, change_environment: Callable[..., None]
) -> None:
    change_environment(gateway_data_dir=tmp_path, gateway_key_pepper="", gateway_accepted_key_peppers=())
    settings.ENV = env.with_secrets(settings.ENV)
    before = settings.ENV.gateway_key_pepper
    rotate(settings, before)
    ApiKey.objects.issue(project, "app")
    call_command("rotate_pepper", stdout=io.StringIO())
    change_environment(gateway_key_pepper="", gateway_accepted_key_peppers=())
    settings.ENV = env.with_secrets(settings.ENV)
    rotate(settings, settings.ENV.gateway_key_pepper, *settings.ENV.gateway_accepted_key_peppers)
    assert before != settings.KEY_PEPPER and (before,) == settings.ACCEPTED_KEY_PEPPERS
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == env.PRIVATE_FILE_MODE
    with pytest.raises(CommandError, match="1 active keys would stop working"):
        call_command("rotate_pepper", "--finish")
    call_command("rotate_pepper", "--finish", "--yes", stdout=io.StringIO())
    assert json.loads((tmp_path / "secrets.json").read_text())["accepted_key_peppers"] == []


def test_a_pepper_of_the_environment_is_not_changed(
    project: Project, tmp_path: Path, change_environment: Callable[..., None]
) -> None:
    change_environment(gateway_data_dir=tmp_path, gateway_key_pepper="from-the-environment")
    with pytest.raises(CommandError, match="set in the environment"):
        call_command("rotate_pepper")
