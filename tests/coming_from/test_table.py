"""docs/coming-from.md has a row for each statement of the documents, and names tests that exist."""

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.gateway_server import ROOT

NUMBERS = {"000": 42, "001": 45, "002": 68, "003": 29, "004": 82}
"""The number of statements of each document. Those of 000 that 001 repeats are counted once."""
STATES = ("yes", "differs", "cannot apply", "open")
UNTESTED = ("cannot apply", "open")
ROW_ID = re.compile(r"\d{3}-\d\d")
LINK = re.compile(r"\[(\w+)\]\(\.\./(tests/[\w/]+\.py)\)")


class Row(NamedTuple):
    """A row of the table. `tests` are pairs of a file and the name of a test in it."""

    id: str
    statement: str
    here: str
    state: str
    tests: list[tuple[str, str]]


def read_rows() -> Iterator[Row]:
    for line in (ROOT / "docs" / "coming-from.md").read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and ROW_ID.fullmatch(cells[0]):
            id, statement, here, state, links = cells
            tests = [(file, name) for name, file in LINK.findall(links)]
            yield Row(id, statement, here, state, tests)


ROWS = list(read_rows())


@lru_cache
def read_tests(file: str) -> dict[str, set[str]]:
    """Return the tests of a file, each with the rows that its decorators name."""
    tree = ast.parse(Path(ROOT / file).read_text())
    return {
        node.name: {
            constant.value
            for decorator in node.decorator_list
            for constant in ast.walk(decorator)
            if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
            if ROW_ID.fullmatch(constant.value)
        }
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_statement_has_one_row() -> None:
    expected = [f"{number}-{row:02}" for number, rows in NUMBERS.items() for row in range(1, rows + 1)]
    assert [row.id for row in ROWS] == expected


@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_a_row_has_a_state_and_its_tests(row: Row) -> None:
    assert row.statement and row.here and row.state in STATES
    assert bool(row.tests) == (row.state not in UNTESTED), "only rows that cannot be shown have no test"
    for file, name in row.tests:
        assert name in read_tests(file), f"{file} has no test {name}"


def test_marks_and_table_agree() -> None:
    marked = {
        (id, str(file.relative_to(ROOT)), name)
        for file in (ROOT / "tests" / "coming_from").glob("test_[0-9]*.py")
        for name, ids in read_tests(str(file.relative_to(ROOT))).items()
        for id in ids
    }
    listed = {(row.id, file, name) for row in ROWS for file, name in row.tests if "coming_from" in file}
    assert marked == listed
