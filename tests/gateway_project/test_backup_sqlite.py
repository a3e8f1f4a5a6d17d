"""backup_sqlite copies the database of a running gateway, and the copy opens with all its rows."""

import io
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from django.core.management import CommandError, call_command
from django.db import connection
from pytest import MonkeyPatch

from keys.models import ApiKey
from projects.models import Project

pytestmark = pytest.mark.django_db(transaction=True)


def back_up(path: Path) -> str:
    out = io.StringIO()
    call_command("backup_sqlite", str(path), stdout=out)
    return out.getvalue()


def test_a_copy_has_all_committed_rows(project: Project, key: ApiKey, tmp_path: Path) -> None:
    path = tmp_path / "copy.sqlite3"
    assert "MB were written" in back_up(path)
    with closing(sqlite3.connect(path)) as copy:
        assert copy.execute("SELECT public_id FROM keys_apikey").fetchall() == [(key.public_id,)]
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["copy.sqlite3"]


async def test_a_copy_does_not_wait_for_a_writer(project: Project, tmp_path: Path) -> None:
    """Check a copy while another connection has the write lock."""
    writer = sqlite3.connect(connection.settings_dict["NAME"])
    with closing(writer):
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE projects_project SET name = 'Changed'")
        await sync_to_async(back_up)(tmp_path / "copy.sqlite3")
        writer.rollback()
    with closing(sqlite3.connect(tmp_path / "copy.sqlite3")) as copy:
        assert copy.execute("SELECT name FROM projects_project").fetchall() == [("Acme",)]


def test_an_existing_file_or_a_missing_folder_is_refused(project: Project, tmp_path: Path) -> None:
    existing = tmp_path / "copy.sqlite3"
    existing.write_text("data")
    with pytest.raises(CommandError, match="exists"):
        back_up(existing)
    with pytest.raises(CommandError, match="No such file"):
        back_up(tmp_path / "missing" / "copy.sqlite3")
    assert existing.read_text() == "data"


def test_another_database_is_refused(db: None, tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(type(connection), "vendor", "postgresql", raising=False)
    with pytest.raises(CommandError, match="pg_dump"):
        back_up(tmp_path / "copy.sqlite3")
