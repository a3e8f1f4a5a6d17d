"""The page of constraints contains every row of the table, with a source and a date."""

import re
from collections import Counter
from datetime import date
from typing import get_args

import pytest

from proxy.formats.constraints.constraint import Constraint, Rule
from proxy.formats.constraints.table import CONSTRAINTS
from proxy.providers.catalog import PROVIDERS
from tests.proxy.formats.constraints.page import PAGE, RULES, page

rows = pytest.mark.parametrize("row", CONSTRAINTS, ids=[row.id for row in CONSTRAINTS])


def test_the_page_is_written_from_the_table() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.proxy.formats.constraints.page"


def test_the_page_describes_every_rule() -> None:
    assert RULES.keys() == set(get_args(Rule))
    assert {row.rule for row in CONSTRAINTS} == RULES.keys()


def test_each_row_has_its_own_id() -> None:
    assert [id for id, count in Counter(row.id for row in CONSTRAINTS).items() if count > 1] == []


@rows
def test_each_row_has_a_source_and_its_date(row: Constraint) -> None:
    assert re.fullmatch(r"https://[a-z.-]+/\S+", row.source)
    assert date(2023, 1, 1) < date.fromisoformat(row.stated)


@rows
def test_each_row_is_for_known_providers_that_have_its_format(row: Constraint) -> None:
    for slug in row.providers:
        assert set(row.formats) & PROVIDERS[slug].base_urls.keys()
    assert row.model_pattern and row.rejected
