"""The words that this project does not use, and the standard terms to use instead."""

import re
from collections.abc import Iterator

PHRASES = {
    r"anew": "again, or reset",
    r"whoever|whomever": "name the subject: the caller, the process",
    r"(?<!there )is no(?= (?!longer|more|less)\w)": "is not a",
    r"told": "reported, or sent",
    r"heard": "received, or reported",
    r"(?:held|holds|hold|keeps|kept) back": "delays, withholds or blocks",
    r"in one piece": "non-streaming, or complete",
    r"signs? of life": "keep-alive, or heartbeat",
    r"strangers?": "unauthenticated client",
    r"dearest|dearer": "highest, or more expensive",
    r"aim(?:s|ed|ing)?": "route, or goal",
    r"standing": "rate-limit status",
    r"books": "balances, or ledger",
    r"ow(?:e|es|ed|ing)": "unsent, or pending",
    r"debts?": "unsent records",
    r"bur(?:y|ies|ied)": "recover",
    r"postman": "outbox writer",
    r"let(?:s|ting)? go": "release",
    r"give(?:s|n)? up on": "time out, or stop waiting for",
    r"last words": "final error",
    r"under way": "in flight, or in progress",
    r"has no words for": "does not support",
}
"""Regular expressions of whole words, with what to write in their place."""

PATTERN = re.compile(
    r"(?<![\w-])(?:" + "|".join(f"({phrase})" for phrase in PHRASES) + r")(?![\w-])", re.IGNORECASE
)
REPLACEMENTS = tuple(PHRASES.values())

NAME_WORDS = {
    "anew": "again",
    "whoever": "caller",
    "told": "reported",
    "heard": "received",
    "stranger": "unauthenticated",
    "strangers": "unauthenticated",
    "dearest": "max",
    "dearer": "premium",
    "aim": "route",
    "standing": "rate_limit_status",
    "books": "ledger",
    "owe": "unsent",
    "owed": "unsent",
    "debt": "unsent",
    "debts": "unsent",
    "bury": "recover",
    "postman": "outbox_writer",
    "patience": "timeout",
    "sayable": "supported",
    "unsaid": "unsupported",
    "spoken": "supported",
}
"""Words that no name contains, with a standard term for each."""


def banned_phrases(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the offset, the phrase and its replacement for every banned phrase in `text`."""
    for match in PATTERN.finditer(text):
        assert match.lastindex is not None
        yield match.start(), match.group().strip(), REPLACEMENTS[match.lastindex - 1]
