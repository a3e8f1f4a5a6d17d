"""Errors of the Messages API, parsed and rendered (platform.claude.com/docs/en/api/errors)."""

import re
from typing import Any

from proxy.formats.anthropic.wire import decode_any
from proxy.formats.json_body import DECODE_ERRORS, as_dict, as_str, encode
from proxy.formats.neutral import ApiError
from proxy.formats.provider_errors import (
    MAX_MESSAGE_LENGTH,
    ContextLengthWords,
    ErrorTable,
    is_about_content,
    message_of,
    recognize_context_length,
    unspecified_message,
    with_context_length_words,
)

ERRORS = ErrorTable(
    (
        ("invalid_request_error", 400, "invalid_request", "invalid_request_error"),
        ("authentication_error", 401, "auth", "invalid_api_key"),
        ("billing_error", 402, "rate_limit", "insufficient_quota"),
        ("permission_error", 403, "auth", "insufficient_permissions"),
        ("not_found_error", 404, "unknown_model", "model_not_found"),
        ("timeout_error", 504, "timeout", "upstream_timeout"),
        ("timeout_error", 408, "timeout", "upstream_timeout"),
        ("request_too_large", 413, "invalid_request", "request_too_large"),
        ("rate_limit_error", 429, "rate_limit", "rate_limit_exceeded"),
        ("api_error", 500, "server_error", "server_error"),
        ("overloaded_error", 529, "server_error", "overloaded"),
    )
)
"""Errors by their `type`.

An error inside of a stream has no status, so it gets the status of its type.
"""
CONTEXT_LENGTH_WORDS = ContextLengthWords(
    "prompt is too long",
    "prompt is too long: {used} tokens > {limit} maximum",
    "prompt is too long: {message}",
)
"""Claude Code compacts its history if an error has this text."""
HTML_TAG = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)


def parse_error(status: int, body: bytes) -> ApiError:
    """Parse the body of a failed response into an error.

    The body may contain an error of this API or of another one, a web page of a proxy, or nothing.
    """
    try:
        value = decode_any(body)
    except DECODE_ERRORS:
        return build_error(status, "", html_to_text(body))
    kind, message = parse_error_fields(value)
    if status == 403 and is_about_content(as_dict(as_dict(value).get("error")), message):
        kind = "invalid_request_error"
    return build_error(status, kind, message)


def parse_error_fields(value: Any) -> tuple[str, str]:
    """Return the type and the message of an error of this API or of a compatible server."""
    match value:
        case [first, *_]:
            return parse_error_fields(first)
        case {"error": dict() as error}:
            return as_str(error.get("type")), message_of(error)
        case _:
            return "", message_of(value)


def html_to_text(body: bytes) -> str:
    return " ".join(HTML_TAG.sub(" ", body.decode(errors="replace")).split())


def build_error(status: int, type: str, message: str) -> ApiError:
    name, _, kind, code = ERRORS.by_name.get(type) or ERRORS.for_status(status)
    if name == "not_found_error" and "model" not in message.lower():
        kind, code = "invalid_request", "not_found"
    return recognize_context_length(
        ApiError(
            kind=kind,
            code=code,
            message=message[:MAX_MESSAGE_LENGTH] or unspecified_message(status),
            status=status,
        )
    )


def parse_stream_error(error: Any, data: bytes) -> ApiError:
    """Parse an error event. It gets the status that the error has outside of a stream."""
    try:
        type, message = parse_error_fields(decode_any(data))
    except DECODE_ERRORS:
        type, message = parse_error_fields({"error": error})
    return build_error(
        ERRORS.status_of(type, 500),
        type,
        message or "The provider reported an error in the middle of its response.",
    )


def render_error(api_error: ApiError, request_id: str) -> bytes:
    api_error = with_context_length_words(api_error, CONTEXT_LENGTH_WORDS)
    error = {"type": "error", "error": {"type": render_error_type(api_error), "message": api_error.message}}
    return encode(error | {"request_id": request_id} if request_id else error)


def render_error_type(error: ApiError) -> str:
    """Return the type that Anthropic uses for this kind of error (docs, "Errors")."""
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
