"""Signed price files: prices of models that an operator imports between releases.

A file is a JSON object with `prices` and `signature`. The signature is that of Ed25519 over the canonical
JSON of `prices`: UTF-8, sorted keys, no white space. Amounts are US dollars as texts, because numbers have
several canonical forms.
"""

import base64
import binascii
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max
from msgspec import Meta

from billing.models import PriceOverride
from billing.money import InvalidAmount, parse_usd

MAX_CLOCK_DIFFERENCE = timedelta(days=1)
"""How far in the future a file may be issued.

If a file were issued later, all files until then would count as old.
"""
Time = Annotated[datetime, Meta(tz=True)]


class InvalidPriceFile(Exception):
    """Raised if a price file is not imported. The message says why. Nothing was changed."""


class FilePrice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The price of a model from a certain time on, in US dollars; for tokens, per million of them."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    effective_from: Time
    input_usd: str
    output_usd: str
    provider: str = ""
    ended_at: Time | None = None
    cache_read_usd: str | None = None
    cache_write_5m_usd: str | None = None
    cache_write_1h_usd: str | None = None
    cache_write_12h_usd: str | None = None
    reasoning_usd: str | None = None
    request_usd: str = "0"
    tool_fees_usd: dict[str, str] = {}

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.model}" if self.provider else self.model

    def columns(self) -> dict[str, Any]:
        """Return the columns of `PriceOverride` that the file sets. Raises InvalidAmount."""
        amounts = {
            field.replace("_usd", "_nano"): None if text is None else parse_usd(text)
            for field, text in msgspec.structs.asdict(self).items()
            if field.endswith("_usd") and field != "tool_fees_usd"
        }
        fees = {kind: parse_usd(text) for kind, text in self.tool_fees_usd.items()}
        return {**amounts, "tool_fees": fees, "ended_at": self.ended_at}


class SignedPrices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The signed part of a price file."""

    version: Literal[1]
    issued_at: Time
    models: Annotated[tuple[FilePrice, ...], Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class PriceImport:
    """The models whose prices a file has added or changed, and the number of models without a change."""

    added: list[str]
    changed: list[str]
    unchanged: int


def canonical(prices: Any) -> bytes:
    return json.dumps(prices, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sign(prices: Any, key: Ed25519PrivateKey) -> bytes:
    """Return a signed file with these prices. Raises InvalidPriceFile if they are malformed."""
    parse_prices(prices)
    signature = base64.b64encode(key.sign(canonical(prices))).decode()
    return json.dumps({"prices": prices, "signature": signature}, indent=1, ensure_ascii=False).encode()


def public_key(text: str) -> Ed25519PublicKey:
    """Decode a public key from base64. Raises ValueError."""
    return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))


def verify(content: bytes, keys: Collection[str]) -> SignedPrices:
    """Return the prices of a file that one of these keys has signed. Raises InvalidPriceFile."""
    try:
        file = json.loads(content)
        prices, signature = file["prices"], base64.b64decode(file["signature"], validate=True)
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise InvalidPriceFile("It is not a JSON object with `prices` and a `signature`.") from None
    if not any(is_signed(canonical(prices), signature, key) for key in keys):
        raise InvalidPriceFile("No key of GATEWAY_PRICE_FILE_KEYS has signed it.")
    return parse_prices(prices)


def is_signed(content: bytes, signature: bytes, key: str) -> bool:
    try:
        public_key(key).verify(signature, content)
    except InvalidSignature:
        return False
    return True


def parse_prices(prices: Any) -> SignedPrices:
    try:
        return msgspec.convert(prices, SignedPrices)
    except msgspec.ValidationError as error:
        raise InvalidPriceFile(f"Its prices are malformed: {error}.") from None


@transaction.atomic
def import_prices(content: bytes, keys: Collection[str]) -> PriceImport:
    """Store the prices of a signed file. Raises InvalidPriceFile."""
    signed = verify(content, keys)
    check_age(signed.issued_at)
    if problems := list(problems_of(signed)):
        raise InvalidPriceFile("\n".join(problems))
    stored = {(row.provider, row.model, row.effective_from): row for row in PriceOverride.objects.from_file()}
    added, changed = [], []
    for price in signed.models:
        row = stored.get((price.provider, price.model, price.effective_from))
        if row is None:
            new_row(price, signed.issued_at).save()
            added.append(price.name)
        elif update_row(row, price, signed.issued_at):
            changed.append(price.name)
    return PriceImport(added, changed, len(signed.models) - len(added) - len(changed))


def check_age(issued_at: datetime) -> None:
    """Raise InvalidPriceFile for a file that is older than the last imported one, or from the future."""
    last: datetime | None = PriceOverride.objects.from_file().aggregate(last=Max("file_issued_at"))["last"]
    if last is not None and issued_at < last:
        raise InvalidPriceFile(f"It was issued at {issued_at}, before the imported one of {last}.")
    if issued_at > datetime.now(UTC) + MAX_CLOCK_DIFFERENCE:
        raise InvalidPriceFile(f"It was issued at {issued_at}, which is in the future.")


def problems_of(signed: SignedPrices) -> Iterator[str]:
    """Yield each reason why a price cannot be stored."""
    for price in signed.models:
        try:
            new_row(price, signed.issued_at).full_clean()
        except InvalidAmount as error:
            yield f"{price.name}: {error}"
        except ValidationError as error:
            yield f"{price.name}: {' '.join(error.messages)}"
    identities = [(price.provider, price.model, price.effective_from) for price in signed.models]
    for provider, model, start in {each for each in identities if identities.count(each) > 1}:
        yield f"{provider}/{model}: it has two prices from {start}."


def new_row(price: FilePrice, issued_at: datetime) -> PriceOverride:
    identity = {"provider": price.provider, "model": price.model, "effective_from": price.effective_from}
    return PriceOverride(file_issued_at=issued_at, **identity, **price.columns())


def update_row(row: PriceOverride, price: FilePrice, issued_at: datetime) -> bool:
    """Store the price of a newer file in the row of an earlier one. Return whether the price differs."""
    columns = price.columns()
    is_changed = any(getattr(row, name) != value for name, value in columns.items())
    if is_changed or row.file_issued_at != issued_at:
        for name, value in (columns | {"file_issued_at": issued_at}).items():
            setattr(row, name, value)
        row.save()
    return is_changed
