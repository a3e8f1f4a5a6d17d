"""Views of paths that match no gateway route: a 404 in the format of the client's API, never a page."""

from django.conf import settings
from django.urls import ResolverMatch

from proxy import errors, operations, telemetry
from proxy.endpoints.views import keyed
from proxy.http.content_coding import BodyTooLarge
from proxy.http.disconnect import ClientDisconnected
from proxy.http.handler import GatewayView
from proxy.http.request import GatewayRequest, extract_api_key
from proxy.http.responses import Response, ResponseWriter
from proxy.pipeline.authenticate import Authenticated
from proxy.pipeline.responses import unrecorded_error


async def not_found(caller: Authenticated) -> Response:
    """Raise the 404 for an authenticated caller."""
    raise errors.unknown_route(caller.received.request.path)


openai_not_found = keyed(operations.NOT_FOUND)(not_found)
anthropic_not_found = keyed(operations.NOT_FOUND_ANTHROPIC)(not_found)
gemini_not_found = keyed(operations.NOT_FOUND_GEMINI)(not_found)
gateway_not_found = keyed(operations.NOT_FOUND_GATEWAY)(not_found)


async def unknown_of_any_api(request: GatewayRequest, writer: ResponseWriter) -> None:
    """Respond to an unknown path below a prefix that several APIs share."""
    await guess_view(request)(request, writer)


async def unknown_path(request: GatewayRequest, writer: ResponseWriter) -> None:
    """Respond to an unknown path outside the prefixes of all APIs.

    A usage record is written only if the request has an API key.
    """
    view = guess_view(request)
    if extract_api_key(request):
        await view(request, writer)
        return
    try:
        await request.discard_body(settings.MAX_BODY_BYTES)
        error = errors.unknown_route(request.path)
    except (BodyTooLarge, ClientDisconnected) as failure:
        error = errors.from_exception(failure)
    telemetry.count_rejected("http", error.status)
    writer.respond(unrecorded_error(request, error, view.operation.format))
    await writer.finish(succeeded=False)


def guess_view(request: GatewayRequest) -> GatewayView:
    """Return the view of the API whose SDKs send the headers of this request."""
    if b"anthropic-version" in request.raw_headers:
        return anthropic_not_found
    if b"x-goog-api-key" in request.raw_headers or b"x-goog-api-client" in request.raw_headers:
        return gemini_not_found
    return openai_not_found


shared_not_found = GatewayView(operations.NOT_FOUND, unknown_of_any_api)
ROUTE = ResolverMatch(GatewayView(operations.NOT_FOUND, unknown_path), (), {})
"""The route of `unknown_path`. It is not in the URLconf, because Django's pages are matched first."""
