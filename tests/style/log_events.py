"""Log events: stable snake_case names that an operator can search for, with sentences in `message`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.style.finding import Finding

LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
NAME = re.compile(r"[a-z]+(?:_[a-z0-9]+)+")


def check(path: Path) -> Iterator[Finding]:
    calls = [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call)]
    for call in calls:
        for event in logged_events(call):
            if not NAME.fullmatch(event):
                message = f'the log event "{event}" is not a snake_case name; put the sentence into message='
                yield Finding(path, call.lineno, message)


def logged_events(call: ast.Call) -> Iterator[str]:
    """Yield the events that a call of `log` may log: its first argument, or both branches of a condition."""
    match call:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=level), args=[event, *_]):
            branches = [event.body, event.orelse] if isinstance(event, ast.IfExp) else [event]
            yield from (str_value(branch) for branch in branches if level in LEVELS and str_value(branch))


def str_value(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
