"""The documentation names existing files and settings, its links work, and its example is correct."""

import base64
import re
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import AliasChoices

from billing.alerts import webhook
from gateway_project.env import Environment
from tests.support.gateway_server import ROOT

DOCS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SOURCES = (
    *("projects", "keys", "billing", "proxy", "gateway_project"),
    *("tests", "templates", "static", "docs", "script", "deploy"),
)
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")
CODE = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"[\w.-]+/[\w./-]+\.(?:py|lua|md|html|css|js)")
MAX_LINES = {"README.md": 70, "CONTRIBUTING.md": 120}


def text_of(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def glossary() -> list[list[str]]:
    """Return the cells of each row of the glossary."""
    rows = [line for line in text_of("glossary.md").splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[1:]]


def variables() -> set[str]:
    """Return every name under which a variable is read."""
    names = set()
    for name, field in Environment.model_fields.items():
        alias = field.validation_alias
        names |= {str(choice) for choice in alias.choices} if isinstance(alias, AliasChoices) else {name}
    return {name.upper() for name in names}


def test_every_variable_is_described() -> None:
    text = text_of("configuration.md")
    assert {name for name in variables() if f"`{name}`" not in text} == set()


def test_exactly_the_failpoints_that_exist_are_listed() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "billing" / "ledger").rglob("*.py"))
    named = set(
        re.findall(r"`([a-z_]+\.[a-z_]+)`", text_of("ledger.md").split("## Failpoints")[1].split("\n## ")[0])
    ) - {"settle.before:3"}
    assert named == set(re.findall(r'failpoint\("([^"]+)"\)', sources))


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_a_file_and_a_heading(path: Path) -> None:
    # A regular expression in code may look like a link.
    for name, anchor in LINK.findall(CODE.sub("", path.read_text())):
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), name
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in {
                re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings
            }, anchor


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_named_exist(path: Path) -> None:
    """A file may be named by the end of its path: `sql/ledger.py`."""
    named = {code for code in CODE.findall(path.read_text()) if FILE.fullmatch(code)}
    assert {
        name for name in named if not any(file.endswith(f"/{name}") for file in existing_files())
    } == set()


@cache
def existing_files() -> tuple[str, ...]:
    return tuple(f"/{file}" for folder in (".", *SOURCES) for file in files_in(folder))


def files_in(folder: str) -> Iterator[Path]:
    found = ROOT.glob("*") if folder == "." else (ROOT / folder).rglob("*")
    return (file.relative_to(ROOT) for file in found)


@pytest.mark.parametrize(("name", "most"), MAX_LINES.items())
def test_the_first_pages_stay_short(name: str, most: int) -> None:
    assert len((ROOT / name).read_text().splitlines()) <= most


def test_the_glossary_lists_each_term_once_in_alphabetical_order() -> None:
    terms = [row[0].lower().replace("-", " ") for row in glossary()]
    assert terms == sorted(set(terms))
    assert {len(row) for row in glossary()} == {3}


def test_code_that_the_glossary_names_exists() -> None:
    named = {word for row in glossary() for code in CODE.findall(row[1]) for word in re.findall(r"\w+", code)}
    sources = " ".join(path.read_text() for folder in SOURCES[:5] for path in (ROOT / folder).rglob("*.py"))
    assert named - set(re.findall(r"\w+", sources)) == set()


def test_the_example_verifies_genuine_messages_only() -> None:
    names: dict[str, object] = {}
    exec(text_of("alerts.md").split("```python\n")[1].split("```")[0], names)
    is_genuine = names["is_genuine"]
    assert callable(is_genuine)
    key = b"k" * 32
    secret = f"whsec_{base64.b64encode(key).decode()}"
    sent = webhook.sign(uuid4(), "https://example.org/", {"type": "webhook.test"}, key)
    assert is_genuine(secret, sent.headers, sent.body)
    assert not is_genuine(secret, sent.headers, sent.body + b" ")
    assert not is_genuine(f"whsec_{base64.b64encode(b'x' * 32).decode()}", sent.headers, sent.body)
    late = {**sent.headers, "webhook-timestamp": str(int(time.time()) - 600)}
    late["webhook-signature"] = webhook.signature(
        key, late["webhook-id"], late["webhook-timestamp"], sent.body
    )
    assert not is_genuine(secret, late, sent.body)
