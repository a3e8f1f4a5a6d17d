"""API keys move between installations as a file of hashes, and a script creates them."""

import json
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from gateway_project.management.hashed_keys import DEFAULT_PATH
from keys import tokens
from keys.models import ApiKey
from projects.models import Project
from tests.support.gateway_server import ROOT


def run(command: str, *arguments: str) -> str:
    output = StringIO()
    call_command(command, *arguments, stdout=output)
    return output.getvalue()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / DEFAULT_PATH


def change(file: Path, **fields: Any) -> None:
    content = json.loads(file.read_text())
    content["keys"][0] |= fields
    file.write_text(json.dumps(content))


def test_exported_keys_work_after_an_import(db: None, file: Path) -> None:
    printed = run("create_api_key", "john.doe", "get:/openai/v1/models", "--rpm", "5", "--models", "a,b")
    run("create_api_key", "sys-42", "all").split()
    ApiKey.objects.issue(Project.objects.create_with_owner("Gone"), "revoked")[0].revoke()
    assert run("export_api_keys").startswith("2 keys written")
    assert file.stat().st_mode & 0o777 == 0o600 and printed.split()[-1] not in file.read_text()
    ApiKey.objects.all().delete()
    assert run("import_api_keys") == "2 keys imported, 0 existed already.\n"
    assert run("import_api_keys") == "0 keys imported, 2 existed already.\n"
    key, token = ApiKey.objects.get(label="john.doe"), tokens.parse(printed.split()[-1])
    assert token is not None and key.verify(token) and key.project.slug == "demo"
    assert (key.scopes, key.rpm_limit, key.allowed_models) == (["get:/openai/v1/models"], 5, ["a", "b"])


def test_an_import_does_not_reactivate_a_revoked_key(key: ApiKey, file: Path) -> None:
    run("export_api_keys")
    key.revoke()
    assert "0 keys imported" in run("import_api_keys")
    key.refresh_from_db()
    assert not key.is_active


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"project": "nowhere"}, "there is no project nowhere"),
        ({"scopes": ["everything"]}, "unknown scopes: everything"),
        ({"id": "short"}, "the id has 5 characters"),
        ({"pepperId": "00000000"}, "hashed with another pepper"),
        ({"digset": "x"}, "unknown field `digset`"),
        ({"rpmLimit": "many"}, "$.keys[0].rpmLimit"),
    ],
)
def test_nothing_is_imported_if_one_key_is_invalid(
    key: ApiKey, file: Path, fields: dict[str, Any], problem: str
) -> None:
    ApiKey.objects.issue(key.project, "second")
    run("export_api_keys")
    ApiKey.objects.all().delete()
    change(file, **fields)
    with pytest.raises(CommandError) as refused:
        run("import_api_keys")
    assert problem in str(refused.value) and not ApiKey.objects.exists()


def test_keys_of_an_accepted_pepper_are_imported(key: ApiKey, file: Path, settings: Settings) -> None:
    run("export_api_keys")
    ApiKey.objects.all().delete()
    settings.ACCEPTED_KEY_PEPPERS, settings.KEY_PEPPER = (settings.KEY_PEPPER,), "another"
    assert "1 keys imported" in run("import_api_keys")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"version": 2, "keys": []}', "version 2"),
        ("{", "not valid"),
        (None, "cannot be read: No such file"),
    ],
)
def test_unusable_files_are_reported(db: None, file: Path, content: str | None, problem: str) -> None:
    if content is not None:
        file.parent.mkdir(parents=True)
        file.write_text(content)
    with pytest.raises(CommandError, match=problem):
        run("import_api_keys")


def test_the_key_script_passes_its_arguments_on(tmp_path: Path) -> None:
    shutil.copy(ROOT / "script" / "api-key-generator.py", tmp_path)
    (tmp_path / "manage").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "manage").chmod(0o755)
    command = [sys.executable, str(tmp_path / "api-key-generator.py"), "john.doe", "all"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == (
        "create_api_key john.doe all\n"
    )
