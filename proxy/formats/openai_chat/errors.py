"""Errors of OpenAI and of compatible servers."""

from typing import Any

import msgspec

from proxy.formats.json_body import as_dict, as_str, dict_items, encode
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
        ("invalid_api_key", 401, "auth", "invalid_api_key"),
        ("insufficient_permissions", 403, "auth", "insufficient_permissions"),
        ("not_found", 404, "invalid_request", "not_found"),
        ("request_timeout", 408, "timeout", "request_timeout"),
        ("request_too_large", 413, "invalid_request", "request_too_large"),
        ("rate_limit_exceeded", 429, "rate_limit", "rate_limit_exceeded"),
        ("server_error", 500, "server_error", "server_error"),
        ("service_unavailable", 503, "server_error", "service_unavailable"),
        ("upstream_timeout", 504, "timeout", "upstream_timeout"),
        ("service_unavailable", 529, "server_error", "service_unavailable"),
    )
)
"""Errors by OpenAI's codes."""
REFUSED_KEY = ("invalid_api_key", "authentication_error")
CONTEXT_LENGTH_WORDS = ContextLengthWords(
    "maximum context length",
    "This model's maximum context length is {limit} tokens. However, your messages resulted in {used} "
    "tokens. Please reduce the length of the messages.",
    "The messages exceed this model's maximum context length: {message}",
)


# Reading ------------------------------------------------------------------------------------------


def parse_error(status: int, body: bytes) -> ApiError:
    """Return the neutral form of a provider's error.

    The body may contain OpenAI's error object, a flat object, a web page, or nothing.
    """
    try:
        value: Any = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return parse_error_object(plain_text(body), status)
    if isinstance(value, list) and value:
        value = value[0]
    fields = as_dict(value)
    return parse_error_object(
        next((fields[name] for name in ("error", "errors", "detail") if fields.get(name)), value), status
    )


def find_error(wire: dict[str, Any]) -> ApiError | None:
    """Return the error in a body or an event with status 200, or None."""
    if error := wire.get("error"):
        return parse_error_object(error, reported_status(error))
    if wire.get("object") == "error" or ("message" in wire and "choices" not in wire):
        return parse_error_object(wire, reported_status(wire))
    for choice in dict_items(wire.get("choices")):
        if error := choice.get("error"):
            return parse_error_object(error, reported_status(error))
    return None


def parse_error_object(error: Any, status: int) -> ApiError:
    fields = as_dict(error)
    message = message_of(error) or unspecified_message(status)
    code = as_str(fields.get("code"))
    code = code if code and not code.isdigit() else ""
    row = ERRORS.for_status(status)
    kind = row.kind
    if status == 403 and is_about_content(fields, message):
        kind, code = "invalid_request", code or "content_filter"
    if status == 404 and (code == "model_not_found" or (not code and "model" in message.lower())):
        kind, code = "unknown_model", "model_not_found"
    param = as_str(fields.get("param")) or None
    return recognize_context_length(
        ApiError(
            kind=kind,
            code=code or row.code,
            message=message[:MAX_MESSAGE_LENGTH],
            param=param,
            status=status,
        )
    )


def reported_status(error: Any) -> int:
    """Return the status that OpenRouter and Groq state inside an error.

    If there is none, return 401 for an error whose name says that the key was refused, else 502.
    """
    fields = as_dict(error)
    reported = [fields.get(name) for name in ("status", "status_code", "code")]
    is_refused_key = any(as_str(fields.get(name)) in REFUSED_KEY for name in ("code", "type"))
    default = 401 if is_refused_key else 502
    return next((status for status in reported if isinstance(status, int) and 400 <= status <= 599), default)


def plain_text(body: bytes) -> str:
    """Return a plain text unchanged. Return an empty text for a web page, which does not help a client."""
    text = body.decode(errors="replace").strip()
    return "" if text.startswith("<") else text


# Writing ------------------------------------------------------------------------------------------


def render_error(api_error: ApiError, request_id: str) -> bytes:
    """Render OpenAI's error body with the request's id. `type` is the kind by which operators filter."""
    api_error = with_context_length_words(api_error, CONTEXT_LENGTH_WORDS)
    error = {
        "message": api_error.message,
        "type": api_error.kind,
        "param": api_error.param,
        "code": api_error.code,
        "request_id": request_id,
    }
    return encode({"error": error})


def render_error_event(api_error: ApiError, request_id: str) -> bytes:
    """Render the error as an event. No [DONE] follows, because the response is not complete."""
    return b"data: " + render_error(api_error, request_id) + b"\n\n"
