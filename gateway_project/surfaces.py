"""Surfaces: what this process serves, and at which port (GATEWAY_SURFACES, GATEWAY_ADMIN_PORT)."""

from typing import Any

from django.conf import settings

from gateway_project.env import ADMIN, GATEWAY, WEB
from proxy.http.request_id import REQUEST_ID_HEADER
from proxy.http.responses import Response

MONITORING_PATHS = ("/health", "/ready", "/metrics")
ADMIN_ROOT = "/admin/"


def serves(scope: dict[str, Any], *, is_gateway_route: bool) -> bool:
    """Return whether this process serves a path at the port at which the request arrived."""
    env, path = settings.ENV, scope["path"]
    if path in MONITORING_PATHS or path.startswith(settings.STATIC_URL):
        return True
    surfaces = surfaces_of(path, is_gateway_route=is_gateway_route)
    if env.gateway_admin_port is not None and is_admin_port(scope) != (ADMIN in surfaces):
        return False
    return not surfaces.isdisjoint(env.gateway_surfaces)


def surfaces_of(path: str, *, is_gateway_route: bool) -> frozenset[str]:
    """Return the surfaces to which a path belongs. The management API is a part of two."""
    if is_gateway_route:
        return frozenset({GATEWAY})
    if path.startswith("/api/"):
        return frozenset({GATEWAY, WEB})
    return frozenset({ADMIN if path == ADMIN_ROOT.rstrip("/") or path.startswith(ADMIN_ROOT) else WEB})


def is_admin_port(scope: dict[str, Any]) -> bool:
    """Return whether a request arrived at GATEWAY_ADMIN_PORT."""
    # `server` is the address of the socket that accepted the connection.
    _, port = scope.get("server") or ("", None)
    return port is not None and port == settings.ENV.gateway_admin_port


def response_to_unserved(scope: dict[str, Any], request_id: str) -> Response:
    """Return the response to a request that this process does not serve."""
    headers = {REQUEST_ID_HEADER: request_id}
    if is_admin_port(scope) and scope["path"] == "/":
        return Response(302, {**headers, "location": ADMIN_ROOT}, b"")
    text = b"This process does not serve this path (GATEWAY_SURFACES, GATEWAY_ADMIN_PORT).\n"
    return Response(404, {**headers, "content-type": "text/plain; charset=utf-8"}, text)
