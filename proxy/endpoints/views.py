"""Views for the three kinds of operations: billable, free with a key, and free without a key."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from billing.models import Outcome
from keys.auth_throttle import anonymous_requests
from projects.ids import uuid7
from proxy import errors, gateway
from proxy.formats.codec import ClientRequest
from proxy.http.handler import GatewayView
from proxy.http.request import GatewayRequest
from proxy.http.request_id import REQUEST_ID_HEADER, choose_request_id
from proxy.http.responses import Response, ResponseWriter
from proxy.operations import GATEWAY_FORMAT, BodyOperation, Operation
from proxy.pipeline.authenticate import (
    Authenticated,
    Received,
    authenticate,
    authorize,
    receive,
)
from proxy.pipeline.responses import rate_limit_headers, respond_with_error, unrecorded_error
from proxy.pipeline.settle import INTERRUPTED, Progress, RequestResult, settle

UrlParams = Callable[[GatewayRequest], dict[str, Any]]


def billable(operation: BodyOperation[ClientRequest], url_params: UrlParams | None = None) -> GatewayView:
    """Return the view of a billable operation.

    `url_params` returns arguments that the path does not capture, for example from the query string.
    """
    if url_params is None:
        return GatewayView(operation, partial(gateway.handle, operation=operation))

    async def run(request: GatewayRequest, writer: ResponseWriter, **captured: Any) -> None:
        await gateway.handle(request, writer, operation, **captured, **url_params(request))

    return GatewayView(operation, run)


def keyed(
    operation: Operation,
) -> Callable[[Callable[..., Awaitable[Response]]], GatewayView]:
    """Return a decorator that makes the view of an operation that needs a key and costs nothing.

    The view calls `handler(caller, **url_params)`.
    """

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
    """Authenticate the caller, call `handler`, and write the response that it returns."""
    async with free_request(operation, request, writer) as free:
        caller = await free.authenticate()
        await free.respond(await handler(caller, **url_params))


@dataclass(slots=True)
class FreeRequest:
    """A request that costs nothing, with the last stage that it has reached."""

    received: Received
    writer: ResponseWriter
    progress: Progress
    result: RequestResult = INTERRUPTED

    async def authenticate(self) -> Authenticated:
        """Return the caller. Raises GatewayError, TooManyFailures or DatabaseError."""
        self.progress = caller = await authenticate(self.received)
        authorize(caller)
        if caller.is_anonymous:
            anonymous_requests.record_failure(caller.client_network)
        return caller

    async def respond(self, response: Response, error_code: str = "") -> None:
        """Write a response with the gateway's headers. `error_code` is for the usage record."""
        outcome = Outcome.OK if response.status < 400 else Outcome.UPSTREAM_ERROR
        limits = await rate_limit_headers(self.progress, outcome)
        headers = {**self.progress.headers(), **limits, **response.headers}
        self.writer.respond(Response(response.status, headers, response.body))
        error_type = response.headers.get(errors.ERROR_TYPE_HEADER, "")
        self.result = RequestResult(outcome, response.status, error_code, error_type=error_type)


@asynccontextmanager
async def free_request(
    operation: Operation, request: GatewayRequest, writer: ResponseWriter
) -> AsyncIterator[FreeRequest]:
    """Handle a request that costs nothing: respond to errors, and write the usage record at the end."""
    received = receive(request, operation)
    free = FreeRequest(received, writer, received)
    try:
        yield free
    except (Exception, asyncio.CancelledError) as error:
        free.result = await respond_with_error(free.progress, error, writer)
    finally:
        await settle(free.progress, free.result)
        await writer.finish(succeeded=free.result.outcome is Outcome.OK)


def keyless(
    operation: Operation,
) -> Callable[[Callable[[GatewayRequest], Awaitable[Response]]], GatewayView]:
    """Return a decorator that makes the view of an operation that needs no key and leaves no record.

    The view calls `handler(request)`.
    """

    def decorate(handler: Callable[[GatewayRequest], Awaitable[Response]]) -> GatewayView:
        async def run(request: GatewayRequest, writer: ResponseWriter) -> None:
            if request.method in operation.methods:
                response = await handler(request)
                response.headers[REQUEST_ID_HEADER] = choose_request_id(request, uuid7())
                writer.respond(response)
            else:
                error = errors.wrong_method(request, operation.methods)
                writer.respond(unrecorded_error(request, error, GATEWAY_FORMAT))
            await writer.finish(succeeded=True)

        return GatewayView(operation, run)

    return decorate
