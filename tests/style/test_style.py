"""The checker finds every kind of mistake in a bad sample, and nothing in a good one."""

from pathlib import Path

import pytest

from tests.style import vocabulary
from tests.style.__main__ import check, main

GOOD_MODULE = '''"""Detect a hung server. There is no limit of the server's own that would apply."""

MAX_RETRIES = 3


def release_slot(slot_id: str, *, timeout_s: float) -> None:
    """Release the slot of a request that was settled or cancelled.

    A request that ends twice frees one slot.
    """
    # The lock comes first: another process may hold the slot.
    raise TimeoutError(f"The slot {slot_id} was not released within {timeout_s} s. Try again.")
'''
GOOD_PAGE = """# Rate limits

There is no longer a limit on requests that never reached a provider.

```python
books = told = "not checked: examples show what others wrote"
```
"""
BAD_PROSE = [
    ("docs/page.md", "First line.\n\nThe stream is still under\nway.\n", 3, "under way", "in flight"),
    ("docs/page.md", "An expired key is no key.\n", 1, "is no", "is not a"),
    ("templates/page.html", "<p>It holds for\n   new requests.</p>\n", 1, "It holds for", "applies"),
    ("billing/ledger/lua/settle.lua", "-- whoever asks\n", 1, "whoever", "the caller"),
    (
        "keys/tokens.py",
        'TEXT = 1\n"""Bytes that the client\n    never heard of."""\n',
        3,
        "heard",
        "received",
    ),
    ("keys/tokens.py", "TEXT = 1  # Strangers get a 401.\n", 1, "Strangers", "unauthenticated client"),
    ("keys/tokens.py", 'ERROR = "Redis is away."\n', 1, "is away", "is down"),
    ("keys/tokens.py", 'ERROR = f"{name} was told why."\n', 1, "told", "reported"),
    ("tests/keys/test_tokens.py", "# It is written anew.\n", 1, "anew", "again"),
]
BAD_NAMES = [
    ("def told() -> None: ...\n", "told", "reported"),
    ("class Postman: ...\n", "postman", "outbox_writer"),
    ("def send(dialect: str) -> None: ...\n", "dialect", "format"),
    ("class Ledger:\n    def __init__(self) -> None:\n        self.owed_records = 1\n", "owed", "unsent"),
    ("MAX_PICTURES = 4\n", "pictures", "images"),
    ("import asyncio as aim\n", "aim", "route"),
]
BAD_DOCSTRINGS = [
    ('def f() -> None:\n    """What is held for it counts."""\n', 2, 'begins with "what"'),
    ('class Key:\n    """Whether the key works."""\n', 2, 'begins with "whether"'),
    ('"""For requests that end early."""\n', 1, 'begins with "for"'),
    (f'"""Return {"x" * 100}."""\n', 1, "has 108 characters"),
]


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty directory, as if it were the root of the repository."""
    monkeypatch.chdir(tmp_path)


def write(path: str, text: str) -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def findings_in(path: str, text: str) -> list[str]:
    return [str(finding) for finding in check([write(path, text)])]


@pytest.mark.parametrize("path", ["projects/db/hang_detection.py", "tests/projects/test_vault.py"])
def test_a_good_module_has_no_finding(path: str) -> None:
    assert findings_in(path, GOOD_MODULE) == []


def test_a_good_page_has_no_finding() -> None:
    assert findings_in("docs/page.md", GOOD_PAGE) == []


@pytest.mark.parametrize(("path", "text", "line", "phrase", "instead"), BAD_PROSE)
def test_a_banned_phrase_is_found(path: str, text: str, line: int, phrase: str, instead: str) -> None:
    [finding] = findings_in(path, text)
    assert finding.startswith(f'{path}:{line}: "{phrase}" is not used here; write "')
    assert instead in finding.rpartition("write ")[2]


def test_texts_that_tests_send_are_not_checked() -> None:
    assert findings_in("tests/keys/test_tokens.py", 'TEXT = "I was told to go."\n') == []


def test_the_glossary_may_list_words_that_are_not_used() -> None:
    row = "| ledger | Counts costs. | books |\n"
    assert findings_in("docs/glossary.md", row) == []
    assert len(findings_in("docs/page.md", row)) == 1
    assert len(findings_in("docs/glossary.md", "| ledger | The books. | |\n")) == 1


@pytest.mark.parametrize(("text", "word", "instead"), BAD_NAMES)
def test_a_banned_word_in_a_name_is_found(text: str, word: str, instead: str) -> None:
    [finding] = findings_in("keys/tokens.py", text)
    assert f'contains "{word}"; use "{instead}"' in finding


def test_a_banned_word_in_the_name_of_a_module_is_found() -> None:
    [finding] = findings_in("keys/postman.py", "")
    assert 'the name "postman" contains "postman"' in finding


def test_a_long_test_name_is_found() -> None:
    [finding] = findings_in("tests/keys/test_tokens.py", f"def test_{'x' * 70}() -> None: ...\n")
    assert "is longer than 70 characters" in finding


@pytest.mark.parametrize(("text", "line", "problem"), BAD_DOCSTRINGS)
def test_a_bad_docstring_is_found(text: str, line: int, problem: str) -> None:
    [finding] = findings_in("keys/tokens.py", text)
    assert finding.startswith(f"keys/tokens.py:{line}: the docstring")
    assert problem in finding


def test_a_log_event_that_is_a_sentence_is_found() -> None:
    [finding] = findings_in("keys/tokens.py", 'log.error("Redis failed", error="timeout")\n')
    assert 'the log event "Redis failed" is not a snake_case name' in finding
    assert len(findings_in("keys/tokens.py", 'log.info("key_issued" if ok else "failed")\n')) == 1


def test_a_log_event_with_a_message_has_no_finding() -> None:
    text = 'log.warning("redis_timed_out", message="Redis timed out. The command is sent again.")\n'
    assert findings_in("keys/tokens.py", text) == []


@pytest.mark.parametrize("name", ["utils", "helpers", "relaying"])
def test_a_module_that_is_not_named_after_a_thing_is_found(name: str) -> None:
    [finding] = findings_in(f"proxy/{name}.py", "")
    assert "name the module after what it holds" in finding


def test_a_crowded_folder_is_found() -> None:
    modules = [write(f"keys/module{number}.py", "") for number in range(13)]
    assert list(check(modules[:12])) == []
    [finding] = check(modules)
    assert "holds 13 modules" in finding.message
    assert list(check([write(f"tests/keys/test_{number}.py", "") for number in range(13)])) == []


def test_a_codec_that_lacks_a_module_is_found() -> None:
    present = [write(f"proxy/formats/gemini/{name}.py", "") for name in ("request", "response", "wire")]
    missing = {finding.message.split()[4] for finding in check(present)}
    assert "decoder.py;" in missing
    assert "request.py;" not in missing


def test_names_in_migrations_and_vendored_files_are_not_checked() -> None:
    assert findings_in("keys/migrations/0001_told.py", '"""What is told."""\ntold = 1\n') == [
        'keys/migrations/0001_told.py:1: "told" is not used here; write "reported, received, or sent"'
    ]
    assert findings_in("static/vendor/library.js", "// what we were told\n") == []


def test_the_status_says_whether_there_is_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    write("docs/good.md", GOOD_PAGE)
    write("docs/bad.md", "The books.\n")
    assert main(["docs/good.md"]) == 0
    assert main(["docs/good.md", "docs/bad.md"]) == 1
    assert capsys.readouterr().out.startswith('docs/bad.md:1: "books"')


def test_no_advice_contains_a_banned_word() -> None:
    advice = [*vocabulary.PHRASES.values(), *vocabulary.NAME_WORDS.values()]
    assert [text for text in advice if list(vocabulary.banned_phrases(text))] == []
    assert not set(vocabulary.NAME_WORDS) & {word for text in advice for word in text.split("_")}
