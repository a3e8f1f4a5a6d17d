from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.pricing.price_file import InvalidPriceFile, PriceImport, import_prices


class Command(BaseCommand):
    help = (
        "Imports a signed price file. Its prices replace bundled prices. Prices that the operator or a "
        "project has set take precedence. Requests in the past keep their cost until `reprice` is run."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *_: Any, file: Path, **__: Any) -> None:
        keys = settings.ENV.gateway_price_file_keys
        if not keys:
            raise CommandError("GATEWAY_PRICE_FILE_KEYS is not set, so no signature can be verified.")
        try:
            done = import_prices(file.read_bytes(), keys)
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror}.") from None
        except InvalidPriceFile as error:
            raise CommandError(f"{file} was not imported. {error}") from None
        self.show(done)

    def show(self, done: PriceImport) -> None:
        for verb, names in (("added", done.added), ("changed", done.changed)):
            for name in names:
                self.stdout.write(f"{verb}: {name}")
        self.stdout.write(
            f"{len(done.added)} prices added, {len(done.changed)} changed, {done.unchanged} unchanged."
        )
