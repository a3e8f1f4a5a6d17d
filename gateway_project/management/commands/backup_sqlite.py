import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from gateway_project.env import PRIVATE_FILE_MODE


class Command(BaseCommand):
    help = (
        "Copies the SQLite database into a file, while the gateway runs. The copy is consistent, and is "
        "checked. It does not contain secrets.json, which is needed to use it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="must not exist yet")

    def handle(self, *_: Any, file: Path, **__: Any) -> None:
        if connection.vendor != "sqlite":
            raise CommandError("The database is not SQLite. Use pg_dump, as docs/operations.md describes.")
        if file.exists():
            raise CommandError(f"{file} exists. Choose another name.")
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            back_up(temporary)
            temporary.replace(file)
        except OSError as error:
            raise CommandError(f"{file} cannot be written: {error.strerror}.") from None
        finally:
            temporary.unlink(missing_ok=True)
        self.stdout.write(f"{file.stat().st_size / 1e6:,.1f} MB were written to {file}.")


def back_up(path: Path) -> None:
    """Copy the database. Raises OSError, and CommandError for a copy that is not valid."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_FILE_MODE))
    connection.ensure_connection()
    with closing(sqlite3.connect(path)) as copy:
        # All pages are copied in one step, in one read transaction. In WAL mode, it does not block writers.
        connection.connection.backup(copy)
        [result] = copy.execute("PRAGMA quick_check").fetchone()
    if result != "ok":
        raise CommandError(f"The copy is damaged: {result}. Check the database itself.")
