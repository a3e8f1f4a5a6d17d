"""Signed price files: verified before they are read, imported all at once, and never older."""

import base64
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.management import CommandError, call_command

from billing.models import PriceOverride
from billing.pricing.price_file import InvalidPriceFile, PriceImport, import_prices, sign
from billing.pricing.price_list import load_price_list
from keys.models import ApiKey
from projects.models import Project
from tests.support.factories import USD

KEY = Ed25519PrivateKey.generate()
PUBLIC = base64.b64encode(KEY.public_key().public_bytes_raw()).decode()
START = "2026-01-01T00:00:00Z"
MODEL = {
    "model": "gpt-9",
    "provider": "openai",
    "effective_from": START,
    "input_usd": "2",
    "output_usd": "8.5",
}


def prices(*models: dict[str, Any], issued_at: str = "2026-11-01T00:00:00Z", **other: Any) -> dict[str, Any]:
    return {"version": 1, "issued_at": issued_at, "models": list(models), **other}


def load(*models: dict[str, Any], **options: str) -> PriceImport:
    return import_prices(sign(prices(*models, **options), KEY), [PUBLIC])


def refusal(content: bytes) -> str:
    with pytest.raises(InvalidPriceFile) as error:
        import_prices(content, [PUBLIC])
    assert not PriceOverride.objects.filter(model="gpt-9").exists()
    return str(error.value)


def test_imported_prices_come_after_those_of_people(project: Project) -> None:
    fees = {"cache_read_usd": "0.2", "tool_fees_usd": {"web_search": "0.01"}}
    assert load(MODEL | fees) == PriceImport(["openai/gpt-9"], [], 0)
    found = load_price_list(project.pk).find(("openai",), "openai", "gpt-9")
    assert found is not None and found.source.startswith("a price file")
    assert (found.base.input, found.base.output, found.base.cache_read) == (2 * USD, 17 * USD // 2, USD // 5)
    PriceOverride.objects.create(model="gpt-9", input_nano=1, output_nano=1)
    found = load_price_list(project.pk).find(("openai",), "openai", "gpt-9")
    assert found is not None and found.source.startswith("the operator's price")


def test_a_file_replaces_the_prices_of_earlier_files(db: None) -> None:
    load(MODEL)
    later = {"issued_at": "2026-11-02T00:00:00Z"}
    assert load(MODEL | {"input_usd": "3"}, **later) == PriceImport([], ["openai/gpt-9"], 0)
    assert load(MODEL | {"input_usd": "3"}, **later) == PriceImport([], [], 1)
    assert PriceOverride.objects.get().input_nano == 3 * USD


def test_an_older_file_is_refused(db: None) -> None:
    load(MODEL | {"model": "other"})
    assert "before the imported one" in refusal(sign(prices(MODEL, issued_at="2026-10-31T00:00:00Z"), KEY))


def test_a_file_from_the_future_is_refused(db: None) -> None:
    later = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    assert "in the future" in refusal(sign(prices(MODEL, issued_at=later), KEY))


def test_a_changed_or_unsigned_file_is_refused(db: None) -> None:
    signed = json.loads(sign(prices(MODEL), KEY))
    changed = signed | {"prices": prices(MODEL | {"input_usd": "0"})}
    unsigned = {"prices": signed["prices"]}
    foreign = sign(prices(MODEL), Ed25519PrivateKey.generate())
    assert "has signed it" in refusal(json.dumps(changed).encode())
    assert "has signed it" in refusal(foreign)
    assert "has signed it" in refusal(json.dumps(unsigned | {"signature": ""}).encode())
    assert "`signature`" in refusal(json.dumps(unsigned).encode())


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"null", b'{"prices": 1, "signature": 5}'])
def test_what_is_not_a_price_file_is_refused(db: None, content: bytes) -> None:
    assert "not a JSON object" in refusal(content)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"models": []}, "length >= 1"),
        ({"version": 2}, "version"),
        ({"extra": 1}, "extra"),
        ({"issued_at": "2026-11-01T00:00:00"}, "timezone"),
        ({"models": [MODEL | {"input_usd": 2}]}, "input_usd"),
        ({"models": [MODEL | {"inputs": "2"}]}, "inputs"),
    ],
)
def test_malformed_prices_are_refused(db: None, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidPriceFile, match=text):
        sign(prices(MODEL) | changes, KEY)


def test_all_prices_out_of_range_are_reported(db: None) -> None:
    wrong = [
        MODEL | {"input_usd": "-1"},
        MODEL | {"model": "a*b"},
        MODEL | {"output_usd": "9999999"},
        MODEL,
        MODEL,
    ]
    text = refusal(sign(prices(*wrong), KEY))
    assert len(text.splitlines()) == 4
    assert "two prices" in text and "wildcard" in text


def run(command: str, *arguments: object) -> str:
    out = io.StringIO()
    call_command(command, *map(str, arguments), stdout=out)
    return out.getvalue()


def test_the_commands_sign_and_import(
    project: Project, key: ApiKey, tmp_path: Path, change_environment: Callable[..., None]
) -> None:
    plain, private, signed = tmp_path / "plain.json", tmp_path / "key", tmp_path / "signed.json"
    plain.write_text(json.dumps(prices(MODEL)))
    public = run("sign_prices", plain, "--key", private, "-o", signed).split()[-1]
    assert private.stat().st_mode & 0o777 == 0o600
    change_environment(gateway_price_file_keys=(PUBLIC, public))
    assert run("import_prices", signed) == "added: openai/gpt-9\n1 prices added, 0 changed, 0 unchanged.\n"
    assert run("sign_prices", plain, "--key", private, "-o", signed).split()[-1] == public
    change_environment(gateway_price_file_keys=(PUBLIC,))
    with pytest.raises(CommandError, match="was not imported"):
        run("import_prices", signed)
    with pytest.raises(CommandError, match="cannot be read"):
        run("import_prices", tmp_path / "missing")
    with pytest.raises(CommandError, match="not JSON"):
        run("sign_prices", private, "--key", private, "-o", signed)
    change_environment(gateway_price_file_keys=())
    with pytest.raises(CommandError, match="GATEWAY_PRICE_FILE_KEYS is not set"):
        run("import_prices", signed)
