"""Generator of the table of variables in `docs/configuration.md`, from the docstrings of the fields.

`python -m tests.gateway_project.configuration_page` writes it. A docstring that ends in a paragraph
`Default: ...` describes a default that is not the value of the field.
"""

import ast
import inspect
import itertools
from collections.abc import Iterator
from typing import Any

from gateway_project.env.descriptions import names_of
from gateway_project.env.variables import Variables
from tests.support.gateway_server import ROOT

PAGE = ROOT / "docs" / "configuration.md"
SOURCE = ROOT / "gateway_project" / "env" / "variables.py"
HEADER = "| variable | default | meaning |\n|---|---|---|\n"
ENV_FILE = "| `AI_GATEWAY_ENV_FILE` | `.env` | A file with further variables, also `--env-file FILE`. |"
DEFAULT = "\n\nDefault: "


def docstrings() -> dict[str, str]:
    """Return the docstrings of the fields, which Python does not keep."""
    tree = ast.parse(SOURCE.read_text())
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef))
    found = {}
    for node, following in itertools.pairwise(body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            found[node.target.id] = inspect.cleandoc(str(following.value.value)) if is_text else ""  # type: ignore[attr-defined]
    return found


def rows() -> Iterator[str]:
    texts = docstrings()
    for name, field in Variables.model_fields.items():
        names = ", ".join(f"`{each.upper()}`" for each in names_of(name, field))
        meaning, _, default = texts[name].partition(DEFAULT)
        default = " ".join(default.split()).removesuffix(".") or shown(field.default)
        yield f"| {names} | {default} | {' '.join(meaning.split())} |"
    yield ENV_FILE


def shown(value: Any) -> str:
    """Return a default as the page shows it."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str) and value:
        return f"`{value}`"
    return f"{value:g}" if isinstance(value, int | float) else ""


def page(text: str) -> str:
    """Return the text of the page with a current table."""
    before, rest = text.split(HEADER)
    after = rest.partition("\n\n")[2]
    return before + HEADER + "\n".join(rows()) + "\n\n" + after


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
