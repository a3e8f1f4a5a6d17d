"""Redaction of personal data and secrets in prompts and responses, before they are stored."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from projects.redaction import redact as without_keys
from proxy.models import RedactionRule
from proxy.prompt_log.patterns import MAX_MATCH_LENGTH, find_matches

Rule = Callable[[str], str]
CUT_MARK = "…"
MIN_DATA_LENGTH = 1000
TOO_DEEP_MARK = "[nested too deeply]"
VALUE_CHARACTERS = 8
"""Each JSON value counts as this many characters, in addition to its text."""
PROJECT_MARK = "[redacted]"

EMAIL = re.compile(r"(?<![\w.%+'-])[\w.%+'-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}", re.ASCII)
CARD = re.compile(r"(?<![\d.,-])\d(?:[ -]?\d){12,18}(?![\d])")
"""13 to 19 digits (ISO/IEC 7812-1), in groups or not."""
PHONE = re.compile(
    r"(?<![\w+.:-])(?:\+\d{1,3}(?:[ .()/-]{0,2}\d){6,12}|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}"
    r"|\(?0\d{1,4}\)?[ /-]{1,2}\d{2,4}(?:[ /-]?\d{2,4}){1,3})(?!\w|[.:-]\d)"
)
"""International numbers with a plus sign (E.164), North American numbers, and numbers with an area code that
begins with 0.
"""
CREDENTIAL = re.compile(
    r"(?<![A-Za-z0-9])(?:AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_\w{22,255}"
    r"|xox[abprs]-[A-Za-z0-9-]{10,250}|eyJ[\w-]{10,2000}\.[\w-]{10,2000}\.[\w-]{10,1000}"
    r"|-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----[^-]{1,8000}-----END [A-Z ]{0,20}PRIVATE KEY-----)",
    re.ASCII,
)
"""Keys of AWS, GitHub and Slack, JSON Web Tokens, and private keys in PEM."""
CREDENTIAL_MARKS = ("AKIA", "gh", "xox", "eyJ", "-----BEGIN")
"""Every credential contains one of these texts. Searching for them is much faster than the expression."""
MIN_DIGITS = 7
"""The minimum number of digits in a card or phone number."""


def without_emails(text: str) -> str:
    return EMAIL.sub("[email]", text) if "@" in text else text


def without_cards(text: str) -> str:
    if not has_numbers(text):
        return text
    return CARD.sub(lambda found: "[card]" if passes_luhn(found[0]) else found[0], text)


def without_phones(text: str) -> str:
    return PHONE.sub("[phone]", text) if has_numbers(text) else text


def has_numbers(text: str) -> bool:
    """Return whether a text has enough digits for a card or phone number."""
    return sum(map(text.count, "0123456789")) >= MIN_DIGITS


def without_credentials(text: str) -> str:
    text = without_keys(text)
    return CREDENTIAL.sub("[key]", text) if any(mark in text for mark in CREDENTIAL_MARKS) else text


RULES: dict[str, Rule] = {
    RedactionRule.KEY.value: without_credentials,
    RedactionRule.EMAIL.value: without_emails,
    RedactionRule.CARD.value: without_cards,
    RedactionRule.PHONE.value: without_phones,
}
"""Rules in the order in which they apply. Cards come before phones, because both consist of digits."""


def passes_luhn(text: str) -> bool:
    """Return whether the check digit of a card number is right (ISO/IEC 7812-1, annex B)."""
    digits = [int(digit) for digit in reversed(text) if digit.isdigit()]
    doubled = [digit * 2 - 9 if digit > 4 else digit * 2 for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


@dataclass(frozen=True, slots=True)
class Redactor:
    """The rules and patterns of one project."""

    rules: Sequence[Rule]
    patterns: Sequence[re.Pattern[str]]

    def redact(self, text: str) -> str:
        """Return a text in which everything that the rules and patterns match is replaced."""
        for rule in self.rules:
            text = rule(text)
        return self.without_matches(text) if self.patterns else text

    def without_matches(self, text: str) -> str:
        parts, position = [], 0
        for start, end in sorted(find_matches(self.patterns, text)):
            if start >= position:
                parts += [text[position:start], PROJECT_MARK]
            position = max(position, end)
        return "".join([*parts, text[position:]])

    def shorten(self, text: str, limit: int) -> str:
        """Return the first `limit` characters of a redacted text. A mark at the end shows that it was cut.

        The text is redacted before it is cut, so that the cut does not leave a part of what is redacted.
        """
        redacted = self.redact(text[: limit + MAX_MATCH_LENGTH])
        return (
            redacted[:limit] + CUT_MARK
            if len(redacted) > limit or len(text) > limit + MAX_MATCH_LENGTH
            else redacted
        )

    def redact_json(self, value: Any, limit: int) -> Any:
        """Return a decoded JSON value with redacted texts, which have at most `limit` characters together."""
        try:
            return JsonCopy(self, limit).copy(value)
        except RecursionError:
            return TOO_DEEP_MARK


class JsonCopy:
    """Copies a JSON value, and redacts its texts, until the limit of characters is reached.

    Other values count as characters too, because a body may contain millions of them.
    """

    def __init__(self, redactor: Redactor, limit: int) -> None:
        self.redactor, self.remaining = redactor, limit

    def copy(self, value: Any) -> Any:
        self.remaining -= VALUE_CHARACTERS
        match value:
            case str():
                return self.copy_text(value)
            case list():
                return list(self.copy_items(value))
            case dict():
                return dict(self.copy_fields(value))
            case _:
                return value

    def copy_items(self, items: list[Any]) -> Iterator[Any]:
        for item in items:
            if self.remaining <= 0:
                yield CUT_MARK
                return
            yield self.copy(item)

    def copy_fields(self, fields: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        for name, value in fields.items():
            if self.remaining <= 0:
                yield CUT_MARK, None
                return
            yield self.copy_text(name), self.copy(value)

    def copy_text(self, text: str) -> str:
        if is_data(text):
            return f"[{len(text)} characters of data]"
        copied = self.redactor.shorten(text, max(self.remaining, 0))
        self.remaining -= len(copied)
        return copied


def is_data(text: str) -> bool:
    """Return whether a text is data, such as an image in base64. Such a text has no spaces."""
    return len(text) > MIN_DATA_LENGTH and " " not in text[:MIN_DATA_LENGTH]


@lru_cache(maxsize=256)
def build_redactor(rules: Collection[str], patterns: tuple[str, ...]) -> Redactor:
    """Return the redactor for rules and patterns that were checked when they were saved."""
    chosen = [rule for name, rule in RULES.items() if name in rules]
    return Redactor(chosen, [re.compile(pattern) for pattern in patterns])
