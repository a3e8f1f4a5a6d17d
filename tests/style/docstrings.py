"""Rules of the first line of a docstring: a short sentence that begins with a verb or a name.

ruff checks the layout of docstrings (rules D). This module checks the words.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.style.finding import Finding
from tests.style.vocabulary import RIDDLE_OPENINGS

MAX_FIRST_LINE = 100

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def check(path: Path) -> Iterator[Finding]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, Documented) and (text := ast.get_docstring(node)):
            line, first = node.body[0].lineno, text.split("\n", 1)[0]
            for problem in problems_of(first):
                yield Finding(path, line, problem)


def problems_of(first: str) -> Iterator[str]:
    """Yield what is wrong with the first line of a docstring."""
    if len(first) > MAX_FIRST_LINE:
        yield f"the docstring's first line has {len(first)} characters; use at most {MAX_FIRST_LINE}"
    opening = first.split(" ", 1)[0].strip("`,.:;").lower()
    if opening in RIDDLE_OPENINGS:
        yield f'the docstring begins with "{opening}"; begin with a verb, or name the thing'
