"""Banned phrases in docstrings, comments, messages, templates and Markdown."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests.style.finding import Finding
from tests.style.vocabulary import banned_phrases

TEXT_SUFFIXES = (".md", ".html", ".txt", ".lua", ".css", ".js", ".sh", ".toml", ".yml", ".yaml")
SKIPPED = ("static/vendor/", "LICENSE", "NOTICE")
GLOSSARY = Path("docs/glossary.md")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LAST_CELL = re.compile(r"\|[^|\n]*\|$", re.MULTILINE)
STRING_TOKENS = (tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))
"""Since Python 3.12, the text of an f-string is a separate token."""
DOCSTRING_FOLLOWS = (tokenize.NEWLINE, tokenize.INDENT, tokenize.NL, tokenize.ENCODING)


def check(path: Path) -> Iterator[Finding]:
    if str(path).startswith(SKIPPED):
        return
    for line, text in fragments(path):
        for offset, phrase, instead in banned_phrases(text):
            message = f'"{phrase}" is not used here; write "{instead}"'
            yield Finding(path, line + text.count("\n", 0, offset), message)


def fragments(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the first line and the text of everything in a file that people read as sentences."""
    if path.suffix == ".py":
        yield from python_fragments(path)
    elif path == GLOSSARY:
        # Its last column lists the words that are not used.
        yield 1, LAST_CELL.sub("", path.read_text())
    elif path.suffix in TEXT_SUFFIXES or path.parent.name == "script":
        yield 1, without_code(path.read_text())


def without_code(text: str) -> str:
    """Return Markdown without its fenced code, with the same number of lines."""
    return FENCE.sub(lambda match: "\n" * match.group().count("\n"), text)


def python_fragments(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the first line and the text of each comment and of each string that is a sentence.

    Tests contain texts of every kind as data, so only their comments and docstrings are checked.
    """
    previous = tokenize.NEWLINE
    for token in tokenize.tokenize(io.BytesIO(path.read_bytes()).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
        elif token.type in STRING_TOKENS and " " in token.string:
            is_docstring = previous in DOCSTRING_FOLLOWS
            if is_docstring or path.parts[0] != "tests":
                yield token.start[0], token.string
        previous = token.type
