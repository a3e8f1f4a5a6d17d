"""Google's errors (cloud.google.com/apis/design/errors), both ways."""

from typing import Any

import msgspec

from proxy.formats.body import encode
from proxy.formats.neutral import Failure
from proxy.formats.provider_errors import message_of

TYPE = "type.googleapis.com/google.rpc."
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
CODES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNKNOWN": 500,
    "DATA_LOSS": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
BAD_KEYS = ("API_KEY_INVALID", "API_KEY_EXPIRED", "API key not valid", "API key expired")
LONGEST_MESSAGE = 2000


def parse_error(status: int, body: bytes) -> Failure:
    """Whatever the body is, a failure with its message; a 200 that holds an error has the status that the error names."""
    error = error_in(body)
    if status < 400:
        status = status_in(error)
    message = message_in(error) or plain_text(body) or f"The provider answered with status {status}."
    if any(mark in message or mark.encode() in body for mark in BAD_KEYS):
        return Failure(kind="auth", code="invalid_api_key", message=message, status=401)
    kind, code = kind_of(status, message)
    return Failure(kind=kind, code=code, message=message, param=field_in(error), status=status)


def error_in(body: bytes) -> dict[str, Any]:
    """The error object: Google sends it bare, or in a list where the stream is one."""
    try:
        return error_of(msgspec.json.decode(body))
    except (msgspec.DecodeError, RecursionError, ValueError):
        return {}


def error_of(value: Any) -> dict[str, Any]:
    match value:
        case [first, *_]:
            return error_of(first)
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


def status_in(error: dict[str, Any]) -> int:
    code = error.get("code")
    if isinstance(code, int) and 400 <= code < 600:
        return code
    return CODES.get(str(error.get("status")), 502)


def message_in(error: dict[str, Any]) -> str:
    return message_of(error)[:LONGEST_MESSAGE]


def plain_text(body: bytes) -> str:
    """Return a body in plain text; a web page, or JSON that holds no message, has no words for a client."""
    text = body[:LONGEST_MESSAGE].decode("utf-8", "replace").strip()
    return "" if text.startswith(("<", "{", "[")) or is_json(body) else text


def is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return False
    return True


def field_in(error: dict[str, Any]) -> str | None:
    """The field that google.rpc.BadRequest names."""
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        match detail:
            case {"fieldViolations": [{"field": str(field)}, *_]}:
                return field or None
            case _:
                continue
    return None


def kind_of(status: int, message: str) -> tuple[str, str]:
    """Our kind, and OpenAI's word, for a status."""
    match status:
        case 401:
            return "auth", "invalid_api_key"
        case 403:
            return "auth", "insufficient_permissions"
        case 404 if "models/" in message:
            return "unknown_model", "model_not_found"
        case 408 | 504:
            return "timeout", "timeout"
        case 429:
            return "rate_limit", "rate_limit_exceeded"
        case _ if status < 500:
            return "invalid_request", "invalid_request_error"
        case _:
            return "server_error", "server_error"


def render_error(failure: Failure, request_id: str) -> bytes:
    return encode({"error": error_object(failure, request_id)})


def error_object(failure: Failure, request_id: str) -> dict[str, Any]:
    """The request's id stands where Google puts its own; `reason` is the vendor-neutral code in Google's spelling."""
    details: list[dict[str, Any]] = [{"@type": f"{TYPE}ErrorInfo", "reason": failure.code.upper(), "domain": "gateway"}]
    if failure.param:
        details.append({"@type": f"{TYPE}BadRequest", "fieldViolations": [{"field": failure.param, "description": failure.message}]})
    if request_id:
        details.append({"@type": f"{TYPE}RequestInfo", "requestId": request_id})
    status = STATUSES.get(failure.status, "INTERNAL" if failure.status >= 500 else "INVALID_ARGUMENT")
    return {"code": failure.status, "message": failure.message, "status": status, "details": details}


def error_event(failure: Failure, request_id: str) -> bytes:
    """The same as an event of a stream that has begun."""
    return b"data: " + render_error(failure, request_id) + b"\r\n\r\n"
