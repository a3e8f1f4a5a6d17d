"""Metadata of requests: the client's tags, its end users, and whether its body may be logged.

Tags are the pairs of `metadata` in a body, with the limits of OpenAI
(platform.openai.com/docs/api-reference/chat/create, "metadata"). A client whose format has no such field
sends them in the header `x-gateway-metadata`. A tag of the header replaces a tag of the body with the same
name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.formats.json_body import DECODE_ERRORS, as_dict, as_str, decode_object
from proxy.formats.neutral import InvalidRequest

TAGS_HEADER = "x-gateway-metadata"
LOG_HEADER = "x-gateway-log"
MAX_TAGS = 16
MAX_NAME_LENGTH = 64
MAX_VALUE_LENGTH = 512
END_USER_TAG = "user_id"
"""The name of the end user in the `metadata` of Anthropic (docs.anthropic.com/en/api/messages).

It is never a tag, because an end user's data must be deletable.
"""
END_USER_FIELDS = ("user", "safety_identifier")
"""Fields of OpenAI's formats that name the end user."""
METADATA_FIELDS = frozenset({"metadata", *END_USER_FIELDS})
LOG_CHOICES = {"": True, "on": True, "off": False}


@dataclass(frozen=True, slots=True)
class RequestMetadata:
    """The metadata of one request.

    `end_users` are the ids that the request gives to its end user. `is_logged` is false if the client keeps
    the body out of the prompt log.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    end_users: tuple[str, ...] = ()
    is_logged: bool = True


NO_METADATA = RequestMetadata()


def read_metadata(fields: Mapping[str, Any], tags_header: bytes, log_header: str) -> RequestMetadata:
    """Return the metadata of a request. Raises InvalidRequest for a malformed header.

    `fields` is the decoded body. Values in it that are not tags are ignored, because some servers accept
    other metadata, and the provider reports what it does not accept.
    """
    if not (tags_header or log_header) and METADATA_FIELDS.isdisjoint(fields):
        return NO_METADATA
    given = as_dict(fields.get("metadata"))
    sent = parse_header(tags_header) if tags_header else {}
    named = [*(as_str(fields.get(name)) for name in END_USER_FIELDS), as_str(given.get(END_USER_TAG))]
    named.append(sent.pop(END_USER_TAG, ""))
    tags = body_tags(given, MAX_TAGS - len(sent)) | sent
    return RequestMetadata(tags, tuple(dict.fromkeys(filter(None, named))), parse_log_header(log_header))


def body_tags(given: Mapping[str, Any], limit: int) -> dict[str, str]:
    """Return the first `limit` tags of a body."""
    tags = {name: value for name, value in given.items() if is_tag(name, value) and name != END_USER_TAG}
    return dict(list(tags.items())[:limit])


def is_tag(name: str, value: Any) -> bool:
    """Return whether a pair is a tag: a printable name and text within the limits."""
    return (
        isinstance(value, str)
        and 0 < len(name) <= MAX_NAME_LENGTH
        and len(value) <= MAX_VALUE_LENGTH
        and name.isprintable()
        and value.isprintable()
    )


def parse_header(header: bytes) -> dict[str, str]:
    """Return the tags of the header: a JSON object, or pairs such as `team=search, env=test`.

    Raises InvalidRequest.
    """
    try:
        text = header.decode().strip()
        pairs = decode_object(text.encode()) if text.startswith("{") else dict(map(parse_pair, split(text)))
    except DECODE_ERRORS:
        raise invalid_header("is neither a JSON object nor a list of name=value pairs") from None
    if len(pairs) > MAX_TAGS:
        raise invalid_header(f"has {len(pairs)} tags; at most {MAX_TAGS} are allowed")
    for name, value in pairs.items():
        if not is_tag(name, value):
            raise invalid_header(
                f"has an invalid tag. A name has 1 to {MAX_NAME_LENGTH} printable characters, and a value is "
                f"a printable text of at most {MAX_VALUE_LENGTH} characters"
            )
    return pairs


def split(text: str) -> list[str]:
    return [pair for pair in text.split(",") if pair.strip()]


def parse_pair(pair: str) -> tuple[str, str]:
    """Return the name and the value of a pair. Raises ValueError if it has no equals sign."""
    name, equals, value = pair.partition("=")
    if not equals:
        raise ValueError(pair)
    return name.strip(), value.strip()


def parse_tag(text: str) -> tuple[str, str]:
    """Return the name and the value of a tag in a query, such as `team:search`. Raises InvalidRequest."""
    name, colon, value = text.partition(":")
    if not (name and colon):
        raise InvalidRequest("tag must be a name and a value, such as team:search.", "tag")
    return name, value


def parse_log_header(value: str) -> bool:
    """Return whether the body may be logged. Raises InvalidRequest for an unknown value.

    A misspelled value is an error, because the client relies on the header.
    """
    is_logged = LOG_CHOICES.get(value.strip().lower())
    if is_logged is None:
        raise InvalidRequest(f"The header {LOG_HEADER} must be on or off.", LOG_HEADER)
    return is_logged


def invalid_header(problem: str) -> InvalidRequest:
    return InvalidRequest(f"The header {TAGS_HEADER} {problem}.", TAGS_HEADER)
