"""What a key may do. A scope is `all`, a group, or one operation in the form `post:/openai/v1/chat/completions`.

An operation's scope names its canonical path and covers every alias of it.
"""

from collections.abc import Collection

ALL = "all"
OPERATIONS = {
    "get:/openai/v1/models": "inference",
    "post:/openai/v1/chat/completions": "inference",
    "post:/openai/v1/responses": "inference",
    "post:/openai/v1/completions": "inference",
    "post:/openai/v1/embeddings": "inference",
    "post:/anthropic/v1/messages": "inference",
    "post:/gemini/v1beta/models:generateContent": "inference",
    "post:/gemini/v1beta/models:embedContent": "inference",
}
GROUPS = ("inference", "usage:read", "keys:manage", "project:manage")
ALL_SCOPES = (ALL, *GROUPS, *OPERATIONS)


class UnknownScope(ValueError):
    """A scope that does not exist; the message names it and lists those that do."""


def parse(text: str) -> list[str]:
    """Scopes from a comma or space separated list, in whatever case; raises UnknownScope."""
    canonical = {scope.lower(): scope for scope in ALL_SCOPES}
    scopes = [canonical.get(word.lower(), word) for word in text.replace(",", " ").split()]
    unknown = [scope for scope in scopes if scope not in ALL_SCOPES]
    if unknown or not scopes:
        raise UnknownScope(
            f"Unknown scope {', '.join(unknown) or '(none given)'}. Known: {', '.join(ALL_SCOPES)}."
        )
    return sorted(set(scopes), key=ALL_SCOPES.index)


def allows(granted: Collection[str], operation: str) -> bool:
    """Whether scopes that a key holds cover an operation such as `post:/openai/v1/embeddings`."""
    return ALL in granted or operation in granted or OPERATIONS.get(operation, ALL) in granted
