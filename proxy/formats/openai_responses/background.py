"""Responses that the provider stores: their paths, and the state of those that run in the background.

Sources: developers.openai.com/api/docs/guides/background ("Keep polling while the request is in the queued or
in_progress state"), platform.openai.com/docs/api-reference/responses/object (`status`, `error`).
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from proxy.formats.json_body import DECODE_ERRORS, as_dict, as_str, decode_lenient
from proxy.formats.neutral import Usage, reported_or_none
from proxy.formats.openai_responses.request import PATH
from proxy.formats.openai_responses.usage import decode_usage_fields, output_tokens, parse_usage

PENDING_STATUSES = ("queued", "in_progress")
CANCELLED, FAILED = "cancelled", "failed"
MAX_ID_LENGTH = 500
"""A longer id is ignored: the gateway stores the ids of responses that it polls."""


class StoredResponse(msgspec.Struct):
    """The fields by which the state of a response is known."""

    id: Any = None
    status: Any = None
    error: Any = None


decode_stored_response = msgspec.json.Decoder(StoredResponse).decode


@dataclass(frozen=True, slots=True)
class ResponseState:
    """The state of a response, as its provider reports it.

    `usage` is None if it is not reported; `output_tokens` is then our own count. `error_code` is that of a
    failed response.
    """

    id: str
    status: str
    error_code: str
    usage: Usage | None
    output_tokens: int

    @property
    def is_pending(self) -> bool:
        """Return whether the response goes on in the background."""
        return self.status in PENDING_STATUSES


def response_path(id: str, action: str = "") -> str:
    """Return the path of a stored response, or of an action on it such as `cancel`."""
    return f"{PATH}/{quote(id, safe='')}{'/' if action else ''}{action}"


def read_state(body: bytes) -> ResponseState | None:
    """Return the state of the response in a body; None for a body that holds no response with an id."""
    try:
        wire = decode_lenient(decode_stored_response, body)
    except DECODE_ERRORS:
        return None
    id, error_code = as_str(wire.id), as_str(as_dict(wire.error).get("code"))
    if not 0 < len(id) <= MAX_ID_LENGTH:
        return None
    return ResponseState(id, as_str(wire.status), error_code, *measure_or_nothing(body))


def measure_or_nothing(body: bytes) -> tuple[Usage | None, int]:
    """Return the reported usage and our own count of output tokens, as far as they can be read."""
    try:
        response = decode_usage_fields(body)
    except DECODE_ERRORS:
        return None, 0
    return reported_or_none(parse_usage(response)), output_tokens(response.get("output"))
