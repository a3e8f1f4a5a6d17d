"""The envelope of responses: `{"success": true, "data": ...}`, or `false` with an `error`."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import IO, Any
from uuid import uuid4

import msgspec
import structlog
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.response import Response

from gateway_project.dashboard.error_pages import OUTAGE_ERRORS, RETRY_AFTER_S
from keys.auth_throttle import TooManyFailures
from projects.redaction import contains_key, redact
from proxy.errors import ERROR_TYPE_HEADER
from proxy.http.responses import encode

log = structlog.get_logger()

MAX_REQUEST_ID_LENGTH = 128
decoder = msgspec.json.Decoder(float_hook=Decimal)
ERRORS: dict[int, tuple[str, str]] = {
    400: ("invalid_request", "invalid_request_error"),
    401: ("auth", "invalid_api_key"),
    403: ("auth", "insufficient_permissions"),
    404: ("invalid_request", "not_found"),
    405: ("invalid_request", "method_not_allowed"),
    406: ("invalid_request", "not_acceptable"),
    413: ("invalid_request", "request_too_large"),
    415: ("invalid_request", "unsupported_media_type"),
    429: ("rate_limit", "rate_limit_exceeded"),
    503: ("server_error", "service_unavailable"),
}
"""The type and the code of an error by its status. Other statuses are internal errors."""
GENERAL = "non_field_errors"
"""The name that Django REST framework gives to errors that belong to no field."""
INTERNAL_ERROR = ("server_error", "internal_error")
TEXTS = {
    401: "This needs an access token, an API key or a signed-in user: send Authorization: Bearer ...",
    404: "This does not exist, or you have no access to it.",
    500: "The gateway failed. The log has the reason under the request id of this response.",
    503: "The database or Redis does not respond. Try again in a few seconds.",
}
"""Texts of errors whose exceptions have no text that people can understand."""


class InvalidFields(Exception):
    """Raised if fields of a request are not valid. `fields` contains the error texts by field name."""

    def __init__(self, fields: Mapping[str, Sequence[str]]) -> None:
        super().__init__("Fields of the request are not valid.")
        self.fields = fields


class JsonParser(BaseParser):
    """Parses JSON. Numbers with a fraction become decimals, so amounts of money stay exact."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the object of the body, which may be empty. Raises ParseError."""
        body = stream.read()
        try:
            parsed = decoder.decode(body) if body.strip() else {}
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise ParseError(f"The body is not valid JSON: {error}.") from None
        if not isinstance(parsed, dict):
            raise ParseError("The body must be a JSON object.")
        return parsed


class JsonRenderer(BaseRenderer):
    """Renders JSON. Decimals become numbers. Clients get JSON, whatever their `Accept` header says."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        """Return the body; empty for a response without content."""
        return b"" if data is None else encode(data)


def success(data: Any, status: int = 200) -> Response:
    return Response({"success": True, "data": data}, status)


def page(items: Sequence[Any], next_cursor: str | None) -> Response:
    """Return one page of a list. `next_cursor` is None on the last page."""
    return Response({"success": True, "data": items, "nextCursor": next_cursor})


def handle_exception(error: Exception, context: Mapping[str, Any]) -> Response:
    """Return the response to an exception of a view (setting EXCEPTION_HANDLER)."""
    request_id = context["view"].request_id
    headers: dict[str, str] = {}
    fields: Mapping[str, Sequence[str]] = {}
    match error:
        case InvalidFields():
            status, fields = 400, error.fields
            text = summarize(fields)
        case ValidationError():
            status, text = 400, " ".join(error.messages)
        case exceptions.ValidationError():
            status, fields = 400, dict(flatten(error.detail))
            text = summarize(fields)
        case Http404():
            status, text = 404, TEXTS[404]
        case exceptions.NotAuthenticated():
            status, text, headers = 401, TEXTS[401], {"WWW-Authenticate": "Bearer"}
        case TooManyFailures():
            status, text = 429, "There were too many requests without a valid key from this address."
            headers = {"Retry-After": str(max(1, round(error.retry_after)))}
        case PermissionDenied():
            status, text = 403, str(error) or "Your role in this project does not allow this."
        case APIException():
            status, text, headers = error.status_code, str(error.detail), headers_of(error)
        case error if isinstance(error, OUTAGE_ERRORS):
            status, text, headers = 503, TEXTS[503], {"Retry-After": str(RETRY_AFTER_S)}
        case _:
            status, text = 500, TEXTS[500]
            log.error("api_request_failed", message=text, request_id=request_id, exc_info=error)
    context["view"].set_rollback()
    body = error_body(status, text, request_id, fields)
    headers = {**headers, ERROR_TYPE_HEADER: body["error"]["type"]}
    return Response(body, status, headers=headers)


def flatten(detail: Any, path: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield the errors of a serializer by the path of their field, such as `targets.0.model`."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            own_name = "" if name == GENERAL else str(name)
            yield from flatten(inner, ".".join(filter(None, (path, own_name))))
    elif isinstance(detail, list) and any(isinstance(each, dict) for each in detail):
        for number, inner in enumerate(detail):
            yield from flatten(inner, f"{path}.{number}")
    else:
        texts = detail if isinstance(detail, list) else [detail]
        if texts:
            yield path, [str(text) for text in texts]


def summarize(fields: Mapping[str, Sequence[str]]) -> str:
    """Return the errors of all fields as one text."""
    return " ".join(f"{name}: {text}" if name else text for name, texts in fields.items() for text in texts)


def headers_of(error: APIException) -> dict[str, str]:
    found = {"WWW-Authenticate": getattr(error, "auth_header", "")}
    if wait := getattr(error, "wait", None):
        found["Retry-After"] = str(max(1, round(wait)))
    return {name: value for name, value in found.items() if value}


def error_body(
    status: int, text: str, request_id: str, fields: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    kind, code = ERRORS.get(status, INTERNAL_ERROR)
    error: dict[str, Any] = {"message": redact(text), "type": kind, "code": code, "request_id": request_id}
    if fields:
        error["fields"] = {name: [redact(each) for each in texts] for name, texts in fields.items() if name}
    return {"success": False, "error": error}


def choose_request_id(given: str) -> str:
    """Return the client's request id if it can be logged, else a new one."""
    is_usable = 0 < len(given) <= MAX_REQUEST_ID_LENGTH and given.isascii() and given.isprintable()
    return given if is_usable and not contains_key(given) else f"req_{uuid4().hex}"
