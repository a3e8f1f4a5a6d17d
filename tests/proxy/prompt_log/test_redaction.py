"""Redaction: what the rules replace, what they leave, and which patterns of projects are accepted."""

import re
import time

import pytest

from proxy.models import RedactionRule
from proxy.prompt_log.patterns import MAX_WAYS, InvalidPattern, check_pattern
from proxy.prompt_log.redaction import Redactor, build_redactor

ALL = build_redactor(frozenset(RedactionRule.values), ())


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("write to jane.doe+x@mail.example.org.", "write to [email]."),
        ("card 4111 1111 1111 1111, please", "card [card], please"),
        ("card 4111-1111-1111-1111", "card [card]"),
        ("378282246310005", "[card]"),
        ("call +49 (0)30 1234-5678 now", "call [phone] now"),
        ("call (555) 123-4567", "call [phone]"),
        ("call 030 1234567 or 0171-2345678!", "call [phone] or [phone]!"),
        ("(089) 123 456", "[phone]"),
        ("01 23 45 67 89", "[phone]"),
        ("bob.o'neil+x@example.co.uk", "[email]"),
        ("key sk-proj-abcdefghijklmnopqrstuvwxyz", "key sk-…"),
        ("AKIAIOSFODNN7EXAMPLE", "[key]"),
        ("ghp_" + "a1B2" * 9, "[key]"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijkl", "[key]"),
    ],
)
def test_personal_data_and_secrets_are_replaced(text: str, redacted: str) -> None:
    assert ALL.redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112 has a wrong check digit",
        "on 2026-11-20 at 10:30:45",
        "192.168.100.200 and 10.0.0.1",
        "from 01-02 to 03 04, 0.25 1234 and 00:30 12 34",
        "pi is 3.14159265358979323846",
        "order 12345678",
        "a @ b, @decorator, user@localhost",
        "task-abcdefghijklmnopqrstuvwxyz",
        "1699999999999",
    ],
)
def test_other_texts_stay(text: str) -> None:
    assert ALL.redact(text) == text


def test_a_rule_that_is_turned_off_replaces_nothing() -> None:
    text = "jane@example.org, 4111 1111 1111 1111"
    assert build_redactor(frozenset({"card"}), ()).redact(text) == "jane@example.org, [card]"


def with_pattern(*patterns: str) -> Redactor:
    for pattern in patterns:
        check_pattern(pattern)
    return build_redactor(frozenset(), patterns)


def test_patterns_of_a_project_replace_every_match() -> None:
    redactor = with_pattern(r"EMP-\d{4,8}", r"(?i)project (alpha|beta)")
    text = "EMP-12345 leads Project Alpha and " + "x" * 5000 + " EMP-0001"
    assert redactor.redact(text) == "[redacted] leads [redacted] and " + "x" * 5000 + " [redacted]"


def test_a_match_across_two_pieces_of_a_text_is_replaced_once() -> None:
    for length in range(1990, 2002):
        text = "." * length + "EMP-12345678" + "." * 3000
        assert with_pattern(r"EMP-\d{4,8}").redact(text) == "." * length + "[redacted]" + "." * 3000


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(", "not a valid"),
        (r"\d+", "upper limit"),
        (r"(a*)*b", "upper limit"),
        (r"(a{1,12}){1,12}b", "too many ways"),
        (r"(a|a){1,30}b", "too many ways"),
        (r"\w{1,40}\w{1,40}x", "too many ways"),
        (r"(a)\1", "References"),
        (r"(?=a)a", "References"),
        (r"a{0,5}", "empty"),
        ("", "empty"),
        (r"a{300}", "256"),
        ("x" * 201, "200"),
    ],
)
def test_patterns_that_are_invalid_or_may_be_slow_are_rejected(pattern: str, reason: str) -> None:
    with pytest.raises(InvalidPattern, match=reason):
        check_pattern(pattern)


def test_the_slowest_accepted_pattern_is_fast_on_a_long_text() -> None:
    pattern = r"(a|a|a|a|a|a|a|a|a|a){1,2}a{1,9}b"
    check_pattern(pattern)
    text = "a" * 20_000
    started = time.process_time()
    assert not re.compile(pattern).search(text[:2000])
    with_pattern(pattern).redact(text)
    assert time.process_time() - started < 5, f"at most {MAX_WAYS} ways at each position"


def test_the_built_in_rules_take_linear_time() -> None:
    started = time.process_time()
    for text in ("a" * 50_000 + "@", "1" * 50_000, "+1 " * 20_000, "a." * 30_000 + "@", "eyJ" * 20_000):
        ALL.redact(text)
    assert time.process_time() - started < 5


def test_a_long_text_is_cut_after_it_was_redacted() -> None:
    text = "x" * 495 + " jane.doe@example.org and more"
    assert ALL.shorten(text, 500) == "x" * 495 + " [ema…"
    assert ALL.shorten("short", 500) == "short"
    assert ALL.shorten("y" * 900, 500) == "y" * 500 + "…"


def test_json_keeps_its_form_and_loses_its_secrets() -> None:
    value = {"messages": [{"content": "jane@example.org"}], "n": 2, "stop": None, "long": "z" * 300}
    copied = ALL.redact_json(value, 150)
    long = copied.pop("long")
    assert copied == {"messages": [{"content": "[email]"}], "n": 2, "stop": None}
    assert long == "z" * (len(long) - 1) + "…" and 40 < len(long) < 100


def test_a_large_json_value_is_cut() -> None:
    value = {"input": [[number] for number in range(200_000)], "last": 1}
    started = time.process_time()
    cut = ALL.redact_json(value, 1000)
    assert len(cut["input"]) < 70 and cut["input"][-1] == "…" and "last" not in cut
    assert time.process_time() - started < 0.5


def test_json_that_is_nested_too_deeply_has_a_mark() -> None:
    value: object = 1
    for _ in range(5000):
        value = [value]
    assert ALL.redact_json(value, 10**6) == "[nested too deeply]"


def test_media_in_json_is_left_out() -> None:
    value = {"url": "data:image/png;base64," + "iVBORw0K" * 200, "text": "word " * 300}
    assert ALL.redact_json(value, 5000) == {"url": "[1622 characters of data]", "text": "word " * 300}
