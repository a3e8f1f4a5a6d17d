"""The response to requests that are shed before the application sees them."""

from billing.models import Outcome
from keys import tokens
from keys.authentication import principals
from proxy import errors, telemetry
from proxy.http.asgi import ASGIMessage
from proxy.http.handler import GatewayView, resolve_route
from proxy.http.load_shedder import load_shedder
from proxy.http.request import GatewayRequest, extract_api_key
from proxy.http.responses import Response
from proxy.pipeline.responses import unrecorded_error

OVERLOADED = errors.overloaded()


def shed(method: str, path: str, query_string: bytes, headers: list[tuple[bytes, bytes]]) -> Response | None:
    """Return a 503 in the client's format if the request must be shed; None if it may run.

    Only routes that need a key are shed: not health checks, metrics and pages. The request has no record, but
    the metrics count it.
    """
    match = resolve_route(path)
    view = match and match.func
    if not isinstance(view, GatewayView) or not view.operation.scope:
        return None
    scope = {"method": method, "path": path, "query_string": query_string, "headers": headers}
    request = GatewayRequest(scope, receive_nothing)
    reason = load_shedder.reason_to_shed(claimed_project(request))
    if reason is None:
        return None
    load_shedder.shed_counts[reason] += 1
    telemetry.count_rejected(view.operation.api_family, OVERLOADED.status, Outcome.SHED)
    return unrecorded_error(request, OVERLOADED, view.operation.error_format)


def claimed_project(request: GatewayRequest) -> str:
    """Return the project of the request's key; empty if the key is not in the cache.

    The key is not verified: a client that names a key of another project gains nothing, because the request
    still has to authenticate.
    """
    token = tokens.parse(extract_api_key(request))
    principal = token and principals.values.get(token.public_id)
    return principal.project_slug if principal else ""


async def receive_nothing() -> ASGIMessage:
    """Raise RuntimeError, because the body of a shed request is not received."""
    raise RuntimeError("the body of a shed request is not received")
