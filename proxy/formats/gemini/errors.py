"""Google's errors, parsed and rendered (cloud.google.com/apis/design/errors)."""

import re
from typing import Any

import msgspec

from proxy.formats.json_body import DECODE_ERRORS, dict_items, encode
from proxy.formats.metering.token_counts import as_count
from proxy.formats.neutral import ApiError
from proxy.formats.provider_errors import (
    MAX_MESSAGE_LENGTH,
    ContextLengthWords,
    ErrorTable,
    message_of,
    recognize_context_length,
    unspecified_message,
    with_context_length_words,
)

TYPE_URL_PREFIX = "type.googleapis.com/google.rpc."
ERRORS = ErrorTable(
    (
        ("INVALID_ARGUMENT", 400, "invalid_request", "invalid_request_error"),
        ("FAILED_PRECONDITION", 400, "invalid_request", "invalid_request_error"),
        ("OUT_OF_RANGE", 400, "invalid_request", "invalid_request_error"),
        ("UNAUTHENTICATED", 401, "auth", "invalid_api_key"),
        ("PERMISSION_DENIED", 403, "auth", "insufficient_permissions"),
        ("NOT_FOUND", 404, "invalid_request", "invalid_request_error"),
        ("ABORTED", 409, "invalid_request", "invalid_request_error"),
        ("ALREADY_EXISTS", 409, "invalid_request", "invalid_request_error"),
        ("INVALID_ARGUMENT", 413, "invalid_request", "invalid_request_error"),
        ("INVALID_ARGUMENT", 422, "invalid_request", "invalid_request_error"),
        ("RESOURCE_EXHAUSTED", 429, "rate_limit", "rate_limit_exceeded"),
        ("CANCELLED", 499, "invalid_request", "invalid_request_error"),
        ("INTERNAL", 500, "server_error", "server_error"),
        ("UNKNOWN", 500, "server_error", "server_error"),
        ("DATA_LOSS", 500, "server_error", "server_error"),
        ("UNIMPLEMENTED", 501, "server_error", "server_error"),
        ("UNAVAILABLE", 503, "server_error", "server_error"),
        ("UNAVAILABLE", 502, "server_error", "server_error"),
        ("UNAVAILABLE", 529, "server_error", "server_error"),
        ("DEADLINE_EXCEEDED", 504, "timeout", "timeout"),
        ("DEADLINE_EXCEEDED", 408, "timeout", "timeout"),
    )
)
"""Errors by the name of their google.rpc.Code, which Google sends in the field `status`."""
CONTEXT_LENGTH_WORDS = ContextLengthWords(
    "exceeds the maximum number of tokens",
    "The input token count ({used}) exceeds the maximum number of tokens allowed ({limit}).",
    "The input token count exceeds the maximum number of tokens allowed. {message}",
)
RETRY_DELAY = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
"""A google.protobuf.Duration in JSON."""
INVALID_KEY_MARKERS = ("API_KEY_INVALID", "API_KEY_EXPIRED", "API key not valid", "API key expired")


def parse_error(status: int, body: bytes) -> ApiError:
    """Parse the body of a failed response, which need not be valid JSON. The error always has a message.

    If the HTTP status is 200 although the body contains an error, the status is taken from the error.
    """
    error = find_error(body)
    if status < 400:
        status = reported_status(error)
    message = error_message(error) or plain_text(body) or unspecified_message(status)
    if any(marker in message or marker.encode() in body for marker in INVALID_KEY_MARKERS):
        return ApiError(kind="auth", code="invalid_api_key", message=message, status=401)
    row = ERRORS.for_status(status)
    kind, code = row.kind, row.code
    if status == 404 and "models/" in message:
        kind, code = "unknown_model", "model_not_found"
    return recognize_context_length(
        ApiError(
            kind=kind,
            code=code,
            message=message,
            param=violated_field(error),
            status=status,
            retry_after_s=retry_delay(error),
        )
    )


def retry_delay(error: dict[str, Any]) -> float | None:
    """Return the seconds of google.rpc.RetryInfo, or None."""
    for detail in dict_items(error.get("details")):
        match detail.get("retryDelay"):
            case str(text) if found := RETRY_DELAY.fullmatch(text):
                return float(found[1])
            case {"seconds": seconds, **parts}:
                return float(as_count(seconds) or 0) + (as_count(parts.get("nanos")) or 0) / 1e9
            case _:
                continue
    return None


def find_error(body: bytes) -> dict[str, Any]:
    """Return the error object of a body; empty if there is none.

    Google sends the object alone. If the stream is a JSON array, Google sends it as an element of an array.
    """
    try:
        return parse_error_object(msgspec.json.decode(body))
    except DECODE_ERRORS:
        return {}


def parse_error_object(value: Any) -> dict[str, Any]:
    match value:
        case [first, *_]:
            return parse_error_object(first)
        case {"error": dict(error)}:
            return error
        case {"error": str() | list() as message} if message:
            return {"message": message}
        case {"message": _} | {"detail": _}:
            return dict(value)
        case str() if value:
            return {"message": value}
        case _:
            return {}


def reported_status(error: dict[str, Any]) -> int:
    code = error.get("code")
    if isinstance(code, int) and 400 <= code < 600:
        return code
    return ERRORS.status_of(str(error.get("status")), 502)


def error_message(error: dict[str, Any]) -> str:
    return message_of(error)[:MAX_MESSAGE_LENGTH]


def plain_text(body: bytes) -> str:
    """Return a body that is plain text; empty if it is HTML or JSON.

    HTML, and JSON in which no message was found, contain no text for a client.
    """
    text = body[:MAX_MESSAGE_LENGTH].decode("utf-8", "replace").strip()
    return "" if text.startswith(("<", "{", "[")) or is_json(body) else text


def is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except DECODE_ERRORS:
        return False
    return True


def violated_field(error: dict[str, Any]) -> str | None:
    """Return the field that google.rpc.BadRequest names."""
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        match detail:
            case {"fieldViolations": [{"field": str(field)}, *_]}:
                return field or None
            case _:
                continue
    return None


def render_error(api_error: ApiError, request_id: str) -> bytes:
    return encode({"error": render_error_object(api_error, request_id)})


def render_error_object(error: ApiError, request_id: str) -> dict[str, Any]:
    """Render an error in Google's format.

    The request id is in the field in which Google sends its own request ids, and in `request_id`. `reason` is
    the gateway's error code in upper case, like Google's reasons.
    """
    error = with_context_length_words(error, CONTEXT_LENGTH_WORDS)
    details: list[dict[str, Any]] = [
        {"@type": f"{TYPE_URL_PREFIX}ErrorInfo", "reason": error.code.upper(), "domain": "gateway"}
    ]
    if error.param:
        details.append(
            {
                "@type": f"{TYPE_URL_PREFIX}BadRequest",
                "fieldViolations": [{"field": error.param, "description": error.message}],
            }
        )
    if error.retry_after_s is not None:
        delay = f"{error.retry_after_s:.3f}".rstrip("0").rstrip(".")
        details.append({"@type": f"{TYPE_URL_PREFIX}RetryInfo", "retryDelay": f"{delay}s"})
    if request_id:
        details.append({"@type": f"{TYPE_URL_PREFIX}RequestInfo", "requestId": request_id})
    name = ERRORS.for_status(error.status).name
    rendered = {"code": error.status, "message": error.message, "status": name, "details": details}
    return rendered | ({"request_id": request_id} if request_id else {})


def render_error_event(api_error: ApiError, request_id: str) -> bytes:
    """Render an error as an event inside of a started stream."""
    return b"data: " + render_error(api_error, request_id) + b"\r\n\r\n"
