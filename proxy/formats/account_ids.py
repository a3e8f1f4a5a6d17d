"""Ids of objects in a provider's account: those in requests, and those that a response issues.

The formats find both kinds of ids as data, and `proxy/pipeline/account_ids.py` decides what they mean. The
search of a request is broad: a name that looks like one of these fields counts wherever a provider might read
it. The search of a response is narrow: only fields that the provider itself fills count. A client may control
other parts of a response, for example through its own MCP server, and could put another project's id there.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

import msgspec

RESPONSE = "response"
ISSUED_KINDS = {
    RESPONSE: "Previous response",
    "conversation": "Conversation",
    "item": "Item",
    "container": "Container",
    "audio": "Audio",
    "message": "Message",
}
"""Kinds whose ids responses issue, each with the noun of the vendors' "not found" messages."""
FILE = "file"
"""Responses issue the ids of files that the provider's code tool wrote, but not those of uploaded files."""
UPLOADED_KINDS = {
    FILE: "file",
    "stored_file": "file",
    "vector_store": "vector store",
    "prompt": "stored prompt",
    "cached_content": "cached content",
    "skill": "skill",
    "tunnel": "MCP tunnel",
    "voice": "custom voice",
    "file_search_store": "file search store",
    "data_store": "data store",
    "rag_corpus": "RAG corpus",
    "collection": "collection",
    "secret": "stored secret",
    "service_account": "service account",
    "user_profile": "user profile",
    "memory_store": "memory store",
}
"""Kinds whose objects are created outside the gateway, each with its noun."""
OBJECTS_ONLY = ("audio", "voice")
"""Kinds that are named by an object with an id. A text in these fields is audio or a built-in voice."""
MONTH_S = 30 * 24 * 3600
LONGEST_NAME, MAX_NAMES = 64, 4096
FREE = "free"
"""Meaning of a field that contains the client's own JSON."""
NESTED = (dict, list)

Counts = Callable[[str, str, dict[str, Any]], bool]


class AccountReference(msgspec.Struct, frozen=True):
    """An object of the account that a request names; `param` is the field that names it."""

    kind: str
    id: str
    param: str


class IssuedAccountId(msgspec.Struct, frozen=True):
    """An id that a response gives to the client.

    The provider keeps the object for `kept_s` seconds from now (None: without a limit), or until `until`
    (seconds since 1970) if the response states that.
    """

    kind: str
    id: str
    kept_s: int | None = MONTH_S
    until: int | None = None


class Names(dict[str, str]):
    """Cache of the meanings of field names: a kind, FREE, or empty.

    The keys are names as clients write them. Each entry is added when its name is first looked up.
    """

    def __init__(self, kinds: Mapping[str, str], free: Collection[str]) -> None:
        super().__init__()
        self.meanings = dict.fromkeys(free, FREE) | dict(kinds)

    def __missing__(self, name: str) -> str:
        meaning = self.meanings.get(folded(name), "") if len(name) <= LONGEST_NAME else ""
        if len(self) < MAX_NAMES and len(name) <= LONGEST_NAME:
            self[name] = meaning
        return meaning


class AccountIdFields:
    """The field names of a format, in the form that `folded` returns.

    `kinds` maps a field to the kind of object that it names. The `free` fields contain the client's own JSON,
    such as the arguments of its tools. `counts` returns whether an id is checked; its arguments are the kind,
    the id and the object that contains the field.
    """

    def __init__(self, kinds: Mapping[str, str], free: Collection[str], counts: Counts) -> None:
        self.names, self.counts = Names(kinds, free), counts


class IdReader(Protocol):
    """Collects the ids that one response issues.

    It never raises an exception: if data cannot be decoded, it issues no ids.
    """

    issued: dict[tuple[str, str], IssuedAccountId]
    issues_responses: bool
    """Whether the reader may find ids of responses, which clients can retrieve."""

    def read_response(self, body: bytes) -> None:
        """Collect the ids of a non-streaming response."""

    def read_event(self, event: bytes) -> None:
        """Collect the ids of one event of a stream."""


class WithoutAccountIds:
    """Base of requests that name no objects of an account and whose responses issue no ids."""

    def references(self) -> list[AccountReference]:
        return []

    def id_reader(self) -> IdReader | None:
        return None


class CollectingReader:
    """Base of the readers of all formats."""

    issues_responses = False

    def __init__(self) -> None:
        self.issued: dict[tuple[str, str], IssuedAccountId] = {}

    def add(self, kind: str, id: Any, kept_s: int | None = MONTH_S, until: Any = None) -> None:
        """Add an id if it is a text."""
        if isinstance(id, str) and id:
            until = until if isinstance(until, int) and not isinstance(until, bool) else None
            self.issued[kind, id] = IssuedAccountId(kind, id, kept_s, until)


def folded(name: str) -> str:
    """Return the name without case and underscores, because servers accept different spellings.

    Protocol buffers accept both spellings of a name, and servers in Go ignore case.
    """
    return name.replace("_", "").casefold()


def references_in(values: Iterable[Any], fields: AccountIdFields) -> list[AccountReference]:
    """Return the objects that decoded JSON names.

    The search is not recursive, because the depth of the JSON is not limited.
    """
    found: list[AccountReference] = []
    names = fields.names
    waiting = [value for value in values if isinstance(value, NESTED)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend([item for item in value if isinstance(item, NESTED)])
            continue
        for name, inner in value.items():
            meaning = names[name]
            if meaning and meaning is not FREE:
                named = [id for id in ids_in(meaning, inner) if fields.counts(meaning, id, value)]
                found += [AccountReference(meaning, id, name) for id in named]
            if isinstance(inner, NESTED) and meaning is not FREE:
                waiting.append(inner)
    return found


def ids_in(kind: str, value: Any) -> list[str]:
    """Return the ids in a field. The value is a text, an object with an `id`, or a list of these."""
    items = value if isinstance(value, list) else [value]
    given = [id_of(item) if isinstance(item, dict) else item for item in items if named_by(kind, item)]
    return [str(id) for id in given if isinstance(id, str | int | float) and id not in ("", False, True)]


def named_by(kind: str, item: Any) -> bool:
    return isinstance(item, dict) or kind not in OBJECTS_ONLY


def id_of(value: dict[str, Any]) -> Any:
    return next((inner for name, inner in value.items() if name.casefold() == "id"), None)
