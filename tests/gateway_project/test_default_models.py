"""No default or example of the gateway names a model that ends within six months."""

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path

from billing.pricing.retirements import CHECKED, RETIREMENTS
from tests.support.gateway_server import ROOT

SIX_MONTHS = dt.timedelta(days=183)
TABLES = {"vendor-constraints.md", "CHANGELOG.md", "model_features.py", "coming-from.md"}
"""Files that are about all models, or about the documents of other gateways, retired models included."""
FOLDERS = ("docs", "templates", "static/js", "gateway_project", "keys", "projects", "script", "deploy")
ROUTING = ("proxy/routing", "proxy/providers", "proxy/endpoints", "proxy/pipeline")
SUFFIXES = {".md", ".html", ".js", ".py", ".yaml", ".yml", ".txt", ""}


def sources() -> Iterator[Path]:
    """Yield the files that contain defaults or examples."""
    yield from (path for path in ROOT.glob("*.md"))
    yield from (ROOT / name for name in (".env.example", "docker-compose.yml") if (ROOT / name).exists())
    for folder in (*FOLDERS, *ROUTING):
        yield from (path for path in (ROOT / folder).rglob("*") if path.is_file())


def ending_models(today: dt.date) -> list[str]:
    return [model for row in RETIREMENTS if row.date <= today + SIX_MONTHS for model in row.models]


def named_in(text: str, models: list[str]) -> list[str]:
    """Return the models that a text names, not as a part of a longer name."""
    names = "|".join(re.escape(model) for model in sorted(models, key=len, reverse=True))
    return sorted(set(re.findall(rf"(?<![\w.-])(?:{names})(?![\w-]|\.\w)", text)))


def test_no_default_or_example_names_a_model_that_ends_soon() -> None:
    ending = ending_models(CHECKED)
    found = {
        str(path.relative_to(ROOT)): names
        for path in sources()
        if path.suffix in SUFFIXES and path.name not in TABLES
        if (names := named_in(path.read_text(errors="ignore"), ending))
    }
    assert not found


def test_the_search_finds_a_name_only_as_a_whole() -> None:
    ending = ending_models(dt.date(2026, 12, 1))
    assert {"gpt-4o-mini", "gpt-5-mini"} <= set(ending)
    assert named_in('model="gpt-4o-mini",', ending) == ["gpt-4o-mini"]
    assert named_in("`gpt-5-mini`.", ending) == ["gpt-5-mini"]
    assert named_in("gpt-5.6-sol, gpt-4o-mini-2099", ending) == []
