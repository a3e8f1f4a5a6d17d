"""The first line of each docstring: short, a sentence, and with a verb or a name at its beginning.

ruff holds the layout of docstrings (rules D); this module holds what ruff does not know.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.style.finding import Finding

MAX_FIRST_LINE = 100
RIDDLE_OPENINGS = frozenset(
    [
        "what",
        "whether",
        "where",
        "who",
        "whoever",
        "whom",
        "whose",
        "when",
        "why",
        "how",
        "that",
        "those",
        "it",
        "they",
        "one",
    ]
)
"""Words that begin a relative clause or refer to something not named yet."""

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def check(path: Path) -> Iterator[Finding]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if not isinstance(node, Documented):
            continue
        text = ast.get_docstring(node)
        if not text:
            continue
        line = node.body[0].lineno
        first = text.split("\n", 1)[0]
        if len(first) > MAX_FIRST_LINE:
            yield Finding(
                path,
                line,
                f"the docstring's first line has {len(first)} characters; use at most {MAX_FIRST_LINE}",
            )
        if first.split(" ", 1)[0].strip("`,.").lower() in RIDDLE_OPENINGS:
            yield Finding(
                path,
                line,
                f'the docstring begins with "{first.split()[0]}"; begin with a verb, or name the thing',
            )
