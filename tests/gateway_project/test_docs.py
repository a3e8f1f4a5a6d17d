"""The documentation names every variable and failpoint, its links work, and so does its example."""

import base64
import re
import time
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import AliasChoices

from billing.alerts import webhook
from gateway_project.env import Environment
from tests.support.gateway_server import ROOT

DOCS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")
UNDESCRIBED = {"__init__.py", "apps.py", "admin.py", "urls.py"}


def text_of(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def variables() -> set[str]:
    """Return every name of every variable."""
    names = set()
    for name, field in Environment.model_fields.items():
        alias = field.validation_alias
        names |= {str(choice) for choice in alias.choices} if isinstance(alias, AliasChoices) else {name}
    return {name.upper() for name in names}


def test_every_variable_is_described() -> None:
    text = text_of("configuration.md")
    assert {name for name in variables() if f"`{name}`" not in text} == set()


def test_the_failpoints_are_described() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "billing" / "ledger").rglob("*.py"))
    named = set(
        re.findall(r"`([a-z_]+\.[a-z_]+)`", text_of("ledger.md").split("## Failpoints")[1].split("\n## ")[0])
    ) - {"settle.before:3"}
    assert named == set(re.findall(r'failpoint\("([^"]+)"\)', sources))


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_have_a_target(path: Path) -> None:
    for name, anchor in LINK.findall(path.read_text()):
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), name
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in {
                re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings
            }, anchor


def test_the_example_detects_forged_messages() -> None:
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
