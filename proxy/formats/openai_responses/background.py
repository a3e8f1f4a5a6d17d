"""Paths of stored responses, and the state of background responses.

Sources: developers.openai.com/api/docs/guides/background ("Keep polling while the request is in the queued or
in_progress state"), platform.openai.com/docs/api-reference/responses/object (`status`, `error`).
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from proxy.formats.json_body import DECODE_ERRORS, as_dict, as_str, decode_lenient
from proxy.formats.neutral import NO_DEFAULTS, Usage, UsageDefaults, reported_or_none
from proxy.formats.openai_responses.request import PATH
from proxy.formats.openai_responses.usage import (
    decode_usage_fields,
    output_tokens,
    parse_usage,
    with_billed_items,
)

PENDING_STATUSES = ("queued", "in_progress")
CANCELLED, FAILED = "cancelled", "failed"
MAX_ID_LENGTH = 500
"""The maximum length of a response's id.

The gateway stores ids of responses that it polls, and ignores longer ones.
"""


class StoredResponse(msgspec.Struct):
    """The fields of a response that show its state."""

    id: Any = None
    status: Any = None
    error: Any = None


decode_stored_response = msgspec.json.Decoder(StoredResponse).decode


@dataclass(frozen=True, slots=True)
class ResponseState:
    """The state of a response, as its provider reports it.

    `fields` are the decoded fields that contain its usage. `error_code` is empty unless the response has
    failed.
    """

    id: str
    status: str
    error_code: str
    fields: dict[str, Any]

    @property
    def is_pending(self) -> bool:
        """Return whether the response continues in the background."""
        return self.status in PENDING_STATUSES

    @property
    def output_tokens(self) -> int:
        """The gateway's count of output tokens. It is used if no usage is reported."""
        return output_tokens(self.fields.get("output"))

    def usage(self, defaults: UsageDefaults = NO_DEFAULTS) -> Usage | None:
        """Return the reported usage, or None."""
        return reported_or_none(parse_usage(self.fields, defaults))

    def billed_items(self, defaults: UsageDefaults) -> Usage:
        """Return the billed items other than tokens, if no usage is reported."""
        return with_billed_items(Usage(), self.fields, defaults)


def response_path(id: str, action: str = "") -> str:
    """Return the path of a stored response, or of an action on it such as `cancel`."""
    return f"{PATH}/{quote(id, safe='')}{'/' if action else ''}{action}"


def read_state(body: bytes) -> ResponseState | None:
    """Return the state of the response in a body; None if the body contains no response with an id."""
    try:
        wire = decode_lenient(decode_stored_response, body)
    except DECODE_ERRORS:
        return None
    id, error_code = as_str(wire.id), as_str(as_dict(wire.error).get("code"))
    if not 0 < len(id) <= MAX_ID_LENGTH:
        return None
    return ResponseState(id, as_str(wire.status), error_code, usage_fields(body))


def usage_fields(body: bytes) -> dict[str, Any]:
    """Return the fields of a response that contain its usage, as far as they can be decoded."""
    try:
        return decode_usage_fields(body)
    except DECODE_ERRORS:
        return {}
