from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway_project.management.hashed_keys import DEFAULT_PATH, InvalidKeyFile, read_keys


class Command(BaseCommand):
    help = (
        "Imports the API keys of a file that export_api_keys has written. Existing keys are not changed. "
        "If one key cannot be imported, none is."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        default = f"default: {DEFAULT_PATH}"
        parser.add_argument("file", nargs="?", type=Path, default=DEFAULT_PATH, help=default)

    def handle(self, *_: Any, **options: Any) -> None:
        path: Path = options["file"]
        try:
            new, existing = read_keys(path)
        except OSError as error:
            raise CommandError(f"{path} cannot be read: {error.strerror}") from None
        except InvalidKeyFile as error:
            raise CommandError(f"{path}: nothing was imported:\n{error}") from None
        self.stdout.write(f"{new} keys imported, {existing} existed already.")
