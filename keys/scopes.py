"""Scopes, which define what a key may do.

A scope is `all` (what applications need), `admin` (everything), a group, or one operation in the form
`post:/openai/v1/chat/completions`. An operation can have several paths. Its scope contains the canonical
path, and covers all of them.
"""

from collections.abc import Collection

ALL = "all"
"""Every inference and model operation, and `usage:read`: what applications need."""
ADMIN = "admin"
"""`all`, and the management of the project and of its keys."""
OPERATIONS = {
    "get:/openai/v1/models": "inference",
    "post:/openai/v1/chat/completions": "inference",
    "post:/openai/v1/responses": "inference",
    "get:/openai/v1/responses": "inference",
    "delete:/openai/v1/responses": "inference",
    "post:/openai/v1/completions": "inference",
    "post:/openai/v1/embeddings": "inference",
    "post:/anthropic/v1/messages": "inference",
    "post:/gemini/v1beta/models:generateContent": "inference",
    "post:/gemini/v1beta/models:embedContent": "inference",
}
GROUPS = ("inference", "usage:read", "logs:read", "keys:manage", "project:manage")
MANAGEMENT_SCOPES = ("usage:read", "logs:read", "keys:manage", "project:manage")
"""Scopes of the REST API, which access tokens can have too."""
NOT_IN_ALL = ("logs:read", "keys:manage", "project:manage", ADMIN)
FIRST_KEY_SCOPES = (ADMIN,)
"""Scopes of the first key of a project, which manages it."""
ALL_SCOPES = (ALL, ADMIN, *GROUPS, *OPERATIONS)


class UnknownScope(ValueError):
    """Raised for a scope that does not exist, or for an empty list. The message lists the valid scopes."""


def parse(text: str) -> list[str]:
    """Parse scopes that are separated by commas or spaces, ignoring case.

    Raises UnknownScope for an unknown scope, and for an empty list.
    """
    canonical = {scope.lower(): scope for scope in ALL_SCOPES}
    scopes = [canonical.get(word.lower(), word) for word in text.replace(",", " ").split()]
    unknown = [scope for scope in scopes if scope not in ALL_SCOPES]
    if unknown or not scopes:
        problem = f"Unknown scopes: {', '.join(unknown)}." if unknown else "At least one scope is required."
        raise UnknownScope(f"{problem} Valid scopes: {', '.join(ALL_SCOPES)}.")
    return sorted(set(scopes), key=ALL_SCOPES.index)


def allows(granted: Collection[str], operation: str) -> bool:
    """Return whether the granted scopes cover an operation, for example `post:/openai/v1/embeddings`."""
    if ADMIN in granted or operation in granted:
        return True
    return OPERATIONS.get(operation) in granted or (ALL in granted and operation not in NOT_IN_ALL)


def management_part(granted: Collection[str]) -> list[str]:
    """Return the scopes of the REST API that the granted scopes include."""
    return [scope for scope in MANAGEMENT_SCOPES if allows(granted, scope)]
