import base64
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.pricing.price_file import InvalidPriceFile, sign
from gateway_project.env import create_private_file


class Command(BaseCommand):
    help = (
        "Signs a JSON file of prices for import_prices. If the file of the private key does not exist, it is "
        "created. The command prints the public key, for GATEWAY_PRICE_FILE_KEYS."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="version, issued_at and models; docs/pricing.md")
        parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="the private key, base64")
        parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")

    def handle(self, *_: Any, file: Path, key: Path, output: Path, **__: Any) -> None:
        try:
            private_key = load_key(key)
            output.write_bytes(sign(json.loads(file.read_bytes()), private_key))
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}.") from None
        except InvalidPriceFile as error:
            raise CommandError(f"{file}: {error}") from None
        except ValueError:
            raise CommandError(f"{file} is not JSON, or {key} is not a key in base64.") from None
        public = base64.b64encode(private_key.public_key().public_bytes_raw()).decode()
        self.stdout.write(f"{output} was signed. Public key: {public}")


def load_key(path: Path) -> Ed25519PrivateKey:
    """Return the private key of a file; create it if the file does not exist. Raises ValueError."""
    if not path.exists():
        new_key = Ed25519PrivateKey.generate()
        create_private_file(path, base64.b64encode(new_key.private_bytes_raw()).decode())
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(path.read_text(), validate=True))
