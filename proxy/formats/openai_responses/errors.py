"""Errors of the Responses API and of compatible servers."""

import re
from typing import Any

import msgspec

from proxy.formats.json_body import as_str, encode
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

MAX_SEQUENCE_NUMBER = 2**31 - 1
"""The sequence number of an error event that the gateway adds to a stream. Other events have lower ones."""
HTML_TITLE = re.compile(r"<title>\s*(.*?)\s*</title>", re.IGNORECASE | re.DOTALL)
ERRORS = ErrorTable(
    (
        ("invalid_request_error", 400, "invalid_request", "invalid_request_error"),
        ("invalid_prompt", 400, "invalid_request", "invalid_prompt"),
        ("context_length_exceeded", 400, "invalid_request", "context_length_exceeded"),
        ("invalid_api_key", 401, "auth", "invalid_api_key"),
        ("invalid_api_key", 403, "auth", "invalid_api_key"),
        ("invalid_request_error", 404, "invalid_request", "invalid_request_error"),
        ("model_not_found", 404, "unknown_model", "model_not_found"),
        ("upstream_timeout", 504, "timeout", "upstream_timeout"),
        ("upstream_timeout", 408, "timeout", "upstream_timeout"),
        ("rate_limit_exceeded", 429, "rate_limit", "rate_limit_exceeded"),
        ("insufficient_quota", 429, "rate_limit", "insufficient_quota"),
        ("server_error", 500, "server_error", "server_error"),
    )
)
"""Errors by OpenAI's codes."""
CONTEXT_LENGTH_WORDS = ContextLengthWords(
    "exceeds the context window",
    "Your input exceeds the context window of this model: {used} tokens > {limit} maximum context length. "
    "Please adjust your input and try again.",
    "Your input exceeds the context window of this model. {message}",
)
"""Codex compacts its history when a failed response has the code `context_length_exceeded`."""


# Reading ------------------------------------------------------------------------------------------


def parse_error(status: int, body: bytes) -> ApiError:
    """Return the error in a provider's error response.

    The body may be OpenAI's error object, a flat object, a list, HTML, or empty.
    """
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body.decode(errors="replace").strip()
        found = HTML_TITLE.search(text)
        value = {"message": found[1] if found else "" if text.startswith("<") else text}
    if isinstance(value, list):
        value = value[0] if value else {}
    return parse_error_object(value if isinstance(value, dict) else {"message": as_str(value)}, status)


def parse_error_object(wire: dict[str, Any], status: int | None = None) -> ApiError:
    """Return the error in an error body, an error event or a failed response.

    `status` is the HTTP status of an error response.
    """
    error = wire.get("error")
    fields = error if isinstance(error, dict) else wire
    message = message_of(fields)
    code = as_str(fields.get("code")) or as_str(fields.get("type") if fields is error else None)
    if status is None or status < 400:
        status = ERRORS.status_of(code, 400 if code.startswith("invalid_") or "image" in code else 500)
    row = ERRORS.for_status(status)
    if status == 403 and is_about_content(fields, message):
        row = ERRORS.for_status(400)
    return recognize_context_length(
        ApiError(
            kind="unknown_model" if code == "model_not_found" else row.kind,
            code=code or row.code,
            message=message[:MAX_MESSAGE_LENGTH] or unspecified_message(status),
            param=as_str(fields.get("param")) or None,
            status=status,
        )
    )


# Writing ------------------------------------------------------------------------------------------


def render_error_fields(error: ApiError, request_id: str) -> dict[str, Any]:
    """Return the fields of an error.

    `type` is the gateway's error kind, by which operators filter; `code` is the vendor's code.
    """
    error = with_context_length_words(error, CONTEXT_LENGTH_WORDS)
    return {
        "message": error.message,
        "type": error.kind,
        "param": error.param,
        "code": error.code,
        "request_id": request_id,
    }


def render_error(api_error: ApiError, request_id: str) -> bytes:
    """Return an error body in OpenAI's form, with the request's id."""
    return encode({"error": render_error_fields(api_error, request_id)})


def render_error_event(api_error: ApiError, request_id: str) -> bytes:
    """Return the error as an event inside of a started stream."""
    return (
        b"event: error\ndata: "
        + encode(render_error_data(api_error, request_id, MAX_SEQUENCE_NUMBER))
        + b"\n\n"
    )


def render_error_data(api_error: ApiError, request_id: str, sequence_number: int) -> dict[str, Any]:
    """Return the data of an error event.

    In OpenAI's documentation, the fields are in the event itself
    (docs/api-reference/responses-streaming/error). In fact, OpenAI sends them in an object `error`, where its
    clients look for them. The gateway writes both.
    """
    error = render_error_fields(api_error, request_id)
    flat = {name: error[name] for name in ("code", "message", "param")}
    return {"type": "error", "sequence_number": sequence_number, **flat, "error": error}
