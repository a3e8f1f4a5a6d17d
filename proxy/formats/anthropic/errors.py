"""Errors of the Messages API, parsed and rendered (platform.claude.com/docs/en/api/errors)."""

import re
from typing import Any

from proxy.formats.anthropic.wire import decode_any
from proxy.formats.json_body import DECODE_ERRORS, encode
from proxy.formats.neutral import ApiError
from proxy.formats.provider_errors import message_of, text_of, unspecified_message

ERROR_TYPES = {
    "invalid_request_error": ("invalid_request", "invalid_request_error", 400),
    "request_too_large": ("invalid_request", "request_too_large", 413),
    "authentication_error": ("auth", "invalid_api_key", 401),
    "permission_error": ("auth", "insufficient_permissions", 403),
    "billing_error": ("rate_limit", "insufficient_quota", 402),
    "not_found_error": ("unknown_model", "model_not_found", 404),
    "rate_limit_error": ("rate_limit", "rate_limit_exceeded", 429),
    "timeout_error": ("timeout", "upstream_timeout", 504),
    "overloaded_error": ("server_error", "overloaded", 529),
    "api_error": ("server_error", "server_error", 500),
}
"""Kind, code and HTTP status for each type of error. An error in a stream has no status of its own."""
ERROR_TYPE_BY_STATUS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
HTML_TAG = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)
MAX_MESSAGE_LENGTH = 2000


def parse_error(status: int, body: bytes) -> ApiError:
    """Parse the body of a failed response into an error.

    The body may hold an error of this API or of another one, a proxy's web page, or nothing.
    """
    try:
        value = decode_any(body)
    except DECODE_ERRORS:
        return build_error(status, "", html_to_text(body))
    kind, message = parse_error_fields(value)
    return build_error(status, kind, message)


def parse_error_fields(value: Any) -> tuple[str, str]:
    """Return the type and the message of an error, as this API and its imitations nest them."""
    match value:
        case [first, *_]:
            return parse_error_fields(first)
        case {"error": dict() as error}:
            return text_of(error.get("type")), message_of(error)
        case _:
            return "", message_of(value)


def html_to_text(body: bytes) -> str:
    return " ".join(HTML_TAG.sub(" ", body.decode(errors="replace")).split())


def build_error(status: int, type: str, message: str) -> ApiError:
    known_type = (
        type
        if type in ERROR_TYPES
        else ERROR_TYPE_BY_STATUS.get(status, "invalid_request_error" if 400 <= status < 500 else "api_error")
    )
    kind, code, _ = ERROR_TYPES[known_type]
    if known_type == "not_found_error" and "model" not in message.lower():
        kind, code = "invalid_request", "not_found"
    return ApiError(
        kind=kind,
        code=code,
        message=message[:MAX_MESSAGE_LENGTH] or unspecified_message(status),
        status=status,
    )


def parse_stream_error(error: Any, data: bytes) -> ApiError:
    """Parse an error event. Its status is the one that the error has outside of a stream."""
    try:
        type, message = parse_error_fields(decode_any(data))
    except DECODE_ERRORS:
        type, message = parse_error_fields({"error": error})
    status = ERROR_TYPES[type][2] if type in ERROR_TYPES else 500
    return build_error(
        status, type, message or "The provider reported an error in the middle of its response."
    )


def render_error(api_error: ApiError, request_id: str) -> bytes:
    error = {"type": "error", "error": {"type": render_error_type(api_error), "message": api_error.message}}
    return encode(error | {"request_id": request_id} if request_id else error)


def render_error_type(error: ApiError) -> str:
    """Return the type that Anthropic gives to such an error (docs, "Errors")."""
    match error.kind, error.status:
        case ("auth", 403):
            return "permission_error"
        case ("auth", _):
            return "authentication_error"
        case ("unknown_model", _) | (_, 404):
            return "not_found_error"
        case ("rate_limit", status):
            return "billing_error" if status == 402 else "rate_limit_error"
        case ("timeout", _):
            return "timeout_error"
        case ("invalid_request", status):
            return "request_too_large" if status == 413 else "invalid_request_error"
        case (_, 503 | 529):
            return "overloaded_error"
        case _:
            return "api_error"


def render_error_event(api_error: ApiError, request_id: str) -> bytes:
    """Render an error as an event of a stream that has started."""
    return b"event: error\ndata: " + render_error(api_error, request_id) + b"\n\n"
