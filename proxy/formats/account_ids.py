"""Ids of objects in a provider's account, found in requests and in responses.

The formats only find the ids; `proxy/pipeline/account_ids.py` decides whether a project may use them. The
search of a request is broad: it considers a field with a matching name wherever a provider might read it. The
search of a response is narrow: it considers only fields that the provider itself fills. A client may control
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
"""Kinds of objects that a provider creates with a response, each with the noun for error messages."""
FILE = "file"
"""The kind of files that the provider's code tool has written.

Their ids are in responses, but those of uploaded files are not.
"""
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
"""Kinds of objects that are created outside of the gateway, each with the noun for messages."""
OBJECTS_ONLY = ("audio", "voice")
"""Kinds for which a field contains an id only if it is an object.

If it is a text, it is audio or a built-in voice.
"""
MONTH_S = 30 * 24 * 3600
LONGEST_NAME, MAX_NAMES = 64, 4096
FREE = "free"
"""The meaning of a field that contains JSON that the client defines."""
NESTED = (dict, list)

Counts = Callable[[str, str, dict[str, Any]], bool]


class AccountReference(msgspec.Struct, frozen=True):
    """A reference in a request to an object of the account. `param` is the field that contains the id."""

    kind: str
    id: str
    param: str


class IssuedAccountId(msgspec.Struct, frozen=True):
    """An id that a response gives to the client.

    The provider keeps the object for `kept_s` seconds from now, or without a limit if `kept_s` is None. If
    the response states when the object expires, `until` is that time, in seconds since 1970.
    """

    kind: str
    id: str
    kept_s: int | None = MONTH_S
    until: int | None = None


class Names(dict[str, str]):
    """Cache of the meanings of field names: a kind, FREE, or empty.

    The keys are names as clients write them. A name is added when it is looked up for the first time.
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
    """The fields of a format that contain ids. Names are in the form that `folded` returns.

    `kinds` maps a field to the kind of object that its id names. The `free` fields contain JSON that the
    client defines, such as the arguments of its tools, and are not searched. `counts` returns whether an id
    must be checked. Its arguments are the kind, the id and the object that contains the field.
    """

    def __init__(self, kinds: Mapping[str, str], free: Collection[str], counts: Counts) -> None:
        self.names, self.counts = Names(kinds, free), counts


class IdReader(Protocol):
    """Collects the ids that one response contains.

    It never raises an exception. Data that cannot be decoded contains no ids.
    """

    issued: dict[tuple[str, str], IssuedAccountId]
    issues_responses: bool
    """Whether the reader may find ids of responses, which clients can retrieve."""

    def read_response(self, body: bytes) -> None:
        """Collect the ids of a non-streaming response."""

    def read_event(self, event: bytes) -> None:
        """Collect the ids of one event of a stream."""


class WithoutAccountIds:
    """Base class of requests that contain no ids of an account, and whose responses contain none."""

    def references(self) -> list[AccountReference]:
        return []

    def id_reader(self) -> IdReader | None:
        return None


class CollectingReader:
    """Base class of the readers of all formats."""

    issues_responses = False

    def __init__(self) -> None:
        self.issued: dict[tuple[str, str], IssuedAccountId] = {}

    def add(self, kind: str, id: Any, kept_s: int | None = MONTH_S, until: Any = None) -> None:
        """Add an id if it is a text."""
        if isinstance(id, str) and id:
            until = until if isinstance(until, int) and not isinstance(until, bool) else None
            self.issued[kind, id] = IssuedAccountId(kind, id, kept_s, until)


def folded(name: str) -> str:
    """Return the name in lower case and without underscores, because servers accept different spellings.

    Protocol buffers accept camelCase and snake_case, and servers in Go ignore case.
    """
    return name.replace("_", "").casefold()


def references_in(values: Iterable[Any], fields: AccountIdFields) -> list[AccountReference]:
    """Return the references to objects of the account in decoded JSON.

    The search does not use recursion, because the depth of the JSON is not limited.
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
