"""Responses to errors outside of views, such as in middleware: JSON below `/api/`, else pages."""

import sys
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views import defaults

from gateway_project.api.envelope import TEXTS, choose_request_id, error_body
from gateway_project.dashboard import error_pages
from proxy.http.responses import encode


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if is_api(request):
        return json_error(request, 400, "The request is not valid: check its Host header and its path.")
    return defaults.bad_request(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if is_api(request):
        return json_error(request, 404, TEXTS[404])
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Return a 503 if a database or Redis is down, otherwise a 500."""
    if not is_api(request):
        return error_pages.server_error(request)
    if isinstance(sys.exc_info()[1], error_pages.OUTAGE_ERRORS):
        response = json_error(request, 503, TEXTS[503])
        response.headers["Retry-After"] = str(error_pages.RETRY_AFTER_S)
        return response
    return json_error(request, 500, TEXTS[500])


def is_api(request: HttpRequest) -> bool:
    return request.path.startswith("/api/")


def json_error(request: HttpRequest, status: int, text: str) -> HttpResponse:
    request_id = choose_request_id(request.headers.get("x-request-id", ""))
    body: dict[str, Any] = error_body(status, text, request_id)
    headers = {"x-request-id": request_id, "Cache-Control": "private, no-store"}
    return HttpResponse(encode(body), content_type="application/json", status=status, headers=headers)
