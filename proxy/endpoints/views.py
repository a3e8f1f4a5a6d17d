"""Views for the three kinds of operations: billable, free with a key, and free without a key."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from billing.models import Outcome
from proxy import gateway
from proxy.formats.codec import ClientRequest
from proxy.http.handler import GatewayView
from proxy.http.request import GatewayRequest
from proxy.http.responses import Response, ResponseWriter
from proxy.operations import BodyOperation, Operation
from proxy.pipeline.authenticate import Authenticated, authenticate, authorize, receive
from proxy.pipeline.responses import rate_limit_headers, respond_with_error
from proxy.pipeline.settle import INTERRUPTED, Progress, RequestResult, settle

UrlParams = Callable[[GatewayRequest], dict[str, Any]]


def billable(operation: BodyOperation[ClientRequest], url_params: UrlParams | None = None) -> GatewayView:
    """Return the view of a billable operation; `url_params` reads what the URL states outside its path."""
    if url_params is None:
        return GatewayView(operation, partial(gateway.handle, operation=operation))

    async def run(request: GatewayRequest, writer: ResponseWriter, **captured: Any) -> None:
        await gateway.handle(request, writer, operation, **captured, **url_params(request))

    return GatewayView(operation, run)


def keyed(
    operation: Operation,
) -> Callable[[Callable[..., Awaitable[Response]]], GatewayView]:
    """Make a view of `handler(caller, **url_params)` for an operation that needs a key and costs nothing."""

    def decorate(handler: Callable[..., Awaitable[Response]]) -> GatewayView:
        return GatewayView(operation, partial(respond_to_key, operation, handler))

    return decorate


async def respond_to_key(
    operation: Operation,
    handler: Callable[..., Awaitable[Response]],
    request: GatewayRequest,
    writer: ResponseWriter,
    **url_params: Any,
) -> None:
    """Authenticate, let `handler` respond, and write the usage record."""
    received = receive(request, operation)
    progress: Progress = received
    result = INTERRUPTED
    try:
        progress = caller = await authenticate(received)
        authorize(caller)
        response = await handler(caller, **url_params)
        result = await respond_to_caller(caller, response, writer)
    except (Exception, asyncio.CancelledError) as error:
        result = await respond_with_error(progress, error, writer)
    finally:
        await settle(progress, result)
        await writer.finish(succeeded=result.outcome is Outcome.OK)


async def respond_to_caller(
    caller: Authenticated, response: Response, writer: ResponseWriter
) -> RequestResult:
    """Hand a response to the writer, with the gateway's headers."""
    headers = {**caller.headers(), **await rate_limit_headers(caller, Outcome.OK), **response.headers}
    writer.respond(Response(response.status, headers, response.body))
    return RequestResult(Outcome.OK, response.status)


def keyless(
    operation: Operation,
) -> Callable[[Callable[[GatewayRequest], Awaitable[Response]]], GatewayView]:
    """Make a view of `handler(request)` for an operation that needs no key and leaves no record."""

    def decorate(handler: Callable[[GatewayRequest], Awaitable[Response]]) -> GatewayView:
        async def run(request: GatewayRequest, writer: ResponseWriter) -> None:
            if request.method in ("GET", "HEAD"):
                writer.respond(await handler(request))
            else:
                writer.respond(Response(405, {"allow": "GET", "content-type": "text/plain"}, b"Use GET.\n"))
            await writer.finish(succeeded=True)

        return GatewayView(operation, run)

    return decorate
