"""The words that this project does not use, and the standard terms to use instead.

`docs/glossary.md` has the terms. A word is listed here only if every use of it would be wrong.
"""

import re
from collections.abc import Iterator

PHRASES = {
    r"anew": "again, or reset",
    r"whoever|whomever": "name the subject: the caller, the process",
    r"that which|who leaves?": "name the subject: the client, the record",
    r"(?<!there )is no(?= (?!longer|more|less)\w)": "is not a",
    r"told|hears?|heard": "reported, received, or sent",
    r"(?:held|holds|hold|keeps|kept) back": "delays, withholds or blocks",
    r"in one piece": "non-streaming, or complete",
    r"(?<!far )as (?:it|they) came": "unchanged",
    r"signs? of life": "keep-alive, or heartbeat",
    r"strangers?": "unauthenticated client",
    r"dearest|dearer": "highest, or more expensive",
    r"proofs?": "signature",
    r"aim(?:s|ed|ing)?": "route, or goal",
    r"standing": "rate-limit status",
    r"books": "balances, or ledger",
    r"ow(?:e|es|ed|ing)": "unsent, or pending",
    r"debts?": "unsent records",
    r"bur(?:y|ies|ied)": "recover",
    r"li(?:fe|ves) of redis": "epoch",
    r"chores?": "background task",
    r"postm[ae]n": "outbox writer",
    r"let(?:s|ting)? go": "release",
    r"g(?:ive|ives|iven|iving|ave) up (?:on|for)": "time out, stop waiting for, or record as an estimate",
    r"(?:is|are|was|were|be|been|being) away": "is down",
    r"answers? nobody": "answers no query",
    r"in vain": "without a response",
    r"for ever": "forever, or without a limit",
    r"last words": "final error",
    r"br(?:eaks?|oke|oken|eaking) off": "is interrupted",
    r"under way": "in flight, or in progress",
    r"(?:has|have) no words for": "does not support",
    r"(?:whose|own) words": "format, or text",
    r"dialects?|tongues?": "format, or API family",
    r"the (?:neutral )?hub": "the neutral types",
    r"pictures?": "image",
    r"films?": "video",
    r"(?:of|in|with|hold|cached) sound": "audio",
    r"(?:it|they|that|prices?|limits?|budgets?) holds? (?:for|from|within)": "applies to, or takes effect",
    r"mend(?:s|ed|ing)?": "repair, or solve",
    r"sisters?": "siblings, or the others",
    r"catalogues?": "catalog",
    r"shall": "must, or will",
}
"""Regular expressions of whole words, with what to write in their place. A space is any white space."""

PATTERN = re.compile(
    r"(?<![\w-])(?:" + "|".join(f"({phrase})" for phrase in PHRASES) + r")(?![\w-])", re.IGNORECASE
)
REPLACEMENTS = tuple(PHRASES.values())

NAME_WORDS = {
    "aim": "route",
    "anew": "again",
    "away": "down",
    "books": "ledger",
    "bury": "recover",
    "catalogue": "catalog",
    "chore": "background_task",
    "chores": "background_tasks",
    "dearer": "premium",
    "dearest": "max",
    "debt": "unsent",
    "debts": "unsent",
    "dialect": "format",
    "dialects": "formats",
    "dirty": "stale",
    "doomed": "failing",
    "film": "video",
    "films": "videos",
    "fleet": "cluster",
    "fullest": "most_used",
    "hear": "receive",
    "heard": "received",
    "hub": "neutral",
    "mended": "repaired",
    "owe": "unsent",
    "owed": "unsent",
    "patience": "timeout",
    "picture": "image",
    "pictures": "images",
    "posting": "record",
    "postings": "records",
    "postman": "outbox_writer",
    "proof": "signature",
    "proofs": "signatures",
    "sayable": "supported",
    "sound": "audio",
    "spoken": "supported",
    "standing": "rate_limit_status",
    "stranger": "unauthenticated",
    "strangers": "unauthenticated",
    "strays": "non_event_bytes",
    "thaw": "resume",
    "told": "reported",
    "unsaid": "unsupported",
    "whoever": "caller",
}
"""Words that no name contains, with a standard term for each."""


RIDDLE_OPENINGS = frozenset(
    """
    what whatever whether where who whoever whom whose when while which whichever why how that
    those these this there it its they their them one ones so
    for with without of from as by to in at before after because if unless until
    also only neither nor nobody nothing none another
    """.split()
)
"""Words with which a docstring may not begin: they begin a clause, or refer to an unnamed thing."""


def banned_phrases(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the offset, the phrase and its replacement for every banned phrase in `text`."""
    line, offsets = collapse_white_space(text)
    for match in PATTERN.finditer(line):
        assert match.lastindex is not None
        yield offsets[match.start()], match.group().strip(), REPLACEMENTS[match.lastindex - 1]


def collapse_white_space(text: str) -> tuple[str, list[int]]:
    """Return `text` on one line, to find phrases across line breaks, and the offset of each character."""
    offsets = [at for at, char in enumerate(text) if not (char.isspace() and text[at - 1 : at].isspace())]
    return "".join(" " if text[at].isspace() else text[at] for at in offsets), offsets
