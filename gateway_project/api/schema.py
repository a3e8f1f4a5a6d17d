"""The OpenAPI 3.1 document of the REST API, and its pages."""

import gzip
from functools import lru_cache
from pathlib import Path
from typing import Any

import drf_spectacular_sidecar
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator

DOCS_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Swagger UI sets inline styles and has images in its stylesheet."""
ASSETS = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
ASSETS_DIR = Path(drf_spectacular_sidecar.__file__).parent / (
    "static/drf_spectacular_sidecar/swagger-ui-dist"
)
ERROR_STATUSES = {
    "400": "The body or a parameter is not valid.",
    "401": "The request has no valid access token, API key or session.",
    "403": "The role or the scopes do not allow this.",
    "404": "The object does not exist, or the caller has no access to it.",
    "429": "There were too many requests in this minute.",
    "503": "The database or Redis does not respond.",
}
SUCCESS = {"type": "boolean", "const": True}
ERROR_COMPONENT = {
    "type": "object",
    "required": ["success", "error"],
    "properties": {
        "success": {"type": "boolean", "const": False},
        "error": {
            "type": "object",
            "required": ["message", "type", "code", "request_id"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "code": {"type": "string"},
                "request_id": {"type": "string"},
                "fields": {
                    "type": "object",
                    "additionalProperties": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
    },
}


class BearerScheme(OpenApiAuthenticationExtension):
    """Describes access tokens and API keys."""

    target_class = "gateway_project.api.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        """Return the security scheme."""
        return {"type": "http", "scheme": "bearer", "description": "An access token or an API key."}


class PageScheme(OpenApiAuthenticationExtension):
    """Describes the session cookie of a signed-in user."""

    target_class = "gateway_project.api.authentication.PageAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        """Return the security scheme."""
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}


def put_in_envelope(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Wrap the responses of all operations into the envelope, and add errors (POSTPROCESSING_HOOKS)."""
    result.setdefault("components", {}).setdefault("schemas", {})["Error"] = ERROR_COMPONENT
    for name, component in result["components"]["schemas"].items():
        if name.endswith("Request"):
            component["additionalProperties"] = False
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for path, operations in result["paths"].items():
        for operation in operations.values():
            operation["tags"] = [tag_of(path)]
            for response in operation["responses"].values():
                wrap(response)
            for status, text in ERROR_STATUSES.items():
                operation["responses"].setdefault(status, {"description": text, "content": error})
    return result


def tag_of(path: str) -> str:
    """Return the resource of a path: what comes after the project, or `projects` itself."""
    parts = path.removeprefix("/api/v1/").split("/")
    if parts[-1] == "api-keys":
        return "keys"
    return parts[2] if len(parts) > 2 else parts[0]


def wrap(response: dict[str, Any]) -> None:
    """Wrap one successful response. Lists also have a cursor. Without a body, `data` is null."""
    if not response.get("content"):
        response["content"] = {"application/json": {"schema": {"type": "null"}}}
    for media_type, content in response.get("content", {}).items():
        if media_type != "application/json":
            continue
        data = content["schema"]
        properties = {"success": SUCCESS, "data": data}
        if data.get("type") == "array":
            properties["nextCursor"] = {"type": ["string", "null"]}
        content["schema"] = {"type": "object", "required": list(properties), "properties": properties}


@lru_cache(maxsize=1)
def build_schema() -> dict[str, Any]:
    """Return the document. It is the same for all callers."""
    schema: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return schema


@require_safe
def schema_view(_request: HttpRequest) -> HttpResponse:
    return JsonResponse(build_schema())


@require_safe
def docs_view(request: HttpRequest) -> HttpResponse:
    """Show the document in Swagger UI, which is served from this process."""
    response = render(request, "api/docs.html")
    response.headers["Content-Security-Policy"] = DOCS_POLICY
    return response


@require_safe
def docs_asset(_request: HttpRequest, name: str) -> HttpResponse:
    """Return a file of Swagger UI.

    The files are not collected static files, because compressing those takes seconds.
    """
    if name not in ASSETS:
        raise Http404
    headers = {"Content-Encoding": "gzip", "Cache-Control": "public, max-age=86400"}
    return HttpResponse(read_asset(name), content_type=ASSETS[name], headers=headers)


@lru_cache(maxsize=len(ASSETS))
def read_asset(name: str) -> bytes:
    return gzip.compress((ASSETS_DIR / name).read_bytes(), compresslevel=6)
