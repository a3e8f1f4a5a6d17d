from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway_project.management.hashed_keys import DEFAULT_PATH, write_keys


class Command(BaseCommand):
    help = "Writes the usable API keys into a file, as HMACs. import_api_keys reads it."

    def add_arguments(self, parser: CommandParser) -> None:
        default = f"default: {DEFAULT_PATH}"
        parser.add_argument("file", nargs="?", type=Path, default=DEFAULT_PATH, help=default)

    def handle(self, *_: Any, **options: Any) -> None:
        path: Path = options["file"]
        try:
            count = write_keys(path)
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}") from None
        self.stdout.write(f"{count} keys written to {path}. They work only with the same GATEWAY_KEY_PEPPER.")
