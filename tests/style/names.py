"""Banned words in the names of functions, classes, parameters, attributes, variables and modules."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.style.finding import Finding
from tests.style.vocabulary import NAME_WORDS

WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
MAX_TEST_NAME = 70


def check(path: Path) -> Iterator[Finding]:
    yield from problems_of(path, path.stem, 1)
    for node in ast.walk(ast.parse(path.read_bytes())):
        for name, line in defined_names(node):
            yield from problems_of(path, name, line)


def problems_of(path: Path, name: str, line: int) -> Iterator[Finding]:
    """Yield what is wrong with one name."""
    for word in WORD.findall(name):
        if instead := NAME_WORDS.get(word.lower()):
            yield Finding(path, line, f'the name "{name}" contains "{word.lower()}"; use "{instead}"')
    if name.startswith("test_") and len(name) > MAX_TEST_NAME:
        yield Finding(path, line, f'the test name "{name}" is longer than {MAX_TEST_NAME} characters')


def defined_names(node: ast.AST) -> Iterator[tuple[str, int]]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name, node.lineno
        case ast.arg():
            yield node.arg, node.lineno
        case ast.Name(ctx=ast.Store()):
            yield node.id, node.lineno
        case ast.Attribute(ctx=ast.Store()):
            yield node.attr, node.lineno
        case ast.alias(asname=str(name)) | ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
            yield name, node.lineno
