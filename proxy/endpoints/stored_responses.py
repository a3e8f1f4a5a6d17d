"""Views of responses that a provider stores. They relay requests to the account that has the response.

These requests cost nothing, and do not count in rate limits. When the result of a background response is
known, these views or the poller charge it once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import parse_qsl, urlencode

from billing.models import Outcome
from projects.db.executor import run_query
from projects.redaction import contains_key
from proxy import errors, operations, relayed_errors
from proxy.endpoints.views import FreeRequest, free_request
from proxy.errors import GatewayError
from proxy.formats.openai_responses import FORMAT, parse_error, render_error
from proxy.formats.openai_responses.account_ids import ResponsesIdReader
from proxy.formats.openai_responses.background import read_state, response_path
from proxy.formats.openai_responses.passthrough import StreamMeter
from proxy.formats.streaming.sse import keepalive_comment
from proxy.http.cancellation import outlive_cancellation
from proxy.http.client_stream import ClientStream
from proxy.http.handler import GatewayView
from proxy.http.request import GatewayRequest
from proxy.http.responses import Headers, Response, ResponseWriter
from proxy.models import BackgroundResponse, IssuedId
from proxy.operations import Operation
from proxy.pipeline.account_ids import LocatedResponse, Recorder, locate
from proxy.pipeline.background.poller import PollFailed, fetch
from proxy.pipeline.background.settlement import DELETED, settle_estimate, settle_pending, settle_result
from proxy.pipeline.relay import FORWARDED_RESPONSE_HEADERS
from proxy.pipeline.responses import Failure, rate_limit_headers
from proxy.pipeline.settle import RequestResult
from proxy.routing.calls import call, forwarded_headers, read_body
from proxy.routing.targets import UpstreamRequest
from proxy.upstream.response import UpstreamResponse

OWN_PARAMETERS = ("key", "api-version")
"""Query parameters for the gateway itself: its key, and the API version that clients of Azure send."""

Handler = Callable[[LocatedResponse, FreeRequest], Awaitable[None]]


async def respond(
    operation: Operation, handler: Handler, request: GatewayRequest, writer: ResponseWriter, response_id: str
) -> None:
    """Find the account that has a response, and call `handler`."""
    async with free_request(operation, request, writer) as free:
        caller = await free.authenticate()
        free.progress = located = await locate(caller, response_id)
        await handler(located, free)


# Handlers -----------------------------------------------------------------------------------------


async def retrieve(located: LocatedResponse, free: FreeRequest) -> None:
    """Relay a response, or the rest of its stream."""
    response = await call_provider(located, "GET")
    if response.status < 400 and "event-stream" in response.headers.get("content-type", ""):
        free.result = await relay_stream(located, response, free.writer)
        return
    body = await read_body(response)
    if response.status < 400:
        await settle_pending(located.caller.principal.project_id, located.digest, read_state(body))
        await recorder_for(located).read_response(body)
    await relay_body(located, response, body, free)


async def list_items(located: LocatedResponse, free: FreeRequest) -> None:
    """Relay the input of a response.

    The ids in it are not stored as issued ids, because a client may have sent them, even ids of another
    project.
    """
    response = await call_provider(located, "GET", "input_items")
    await relay_body(located, response, await read_body(response), free)


async def cancel_response(located: LocatedResponse, free: FreeRequest) -> None:
    """Cancel a background response, and charge its usage."""
    response = await call_provider(located, "POST", "cancel")
    body = await read_body(response)
    if response.status < 400:
        await settle_pending(located.caller.principal.project_id, located.digest, read_state(body))
    await relay_body(located, response, body, free)


async def delete_response(located: LocatedResponse, free: FreeRequest) -> None:
    """Delete a response.

    If it is a background response, its result is fetched first and charged. If it has not ended, it is
    charged by an estimate, because its result cannot be fetched after the deletion.
    """
    project_id = located.caller.principal.project_id
    running = [
        background
        for background in await run_query(BackgroundResponse.objects.of_id, project_id, located.digest)
        if not await settle_if_ended(background)
    ]
    response = await call_provider(located, "DELETE")
    body = await read_body(response)
    if response.status < 400:
        await run_query(IssuedId.objects.forget, project_id, located.digest)
        for background in running:
            await settle_estimate(background, DELETED, "the client deleted it")
    await relay_body(located, response, body, free)


async def settle_if_ended(background: BackgroundResponse) -> bool:
    """Settle a background response if it has ended. Return whether it has ended."""
    try:
        state = await fetch(background)
    except PollFailed:
        return False
    if not state.is_pending:
        await settle_result(background, state)
    return not state.is_pending


# Relaying -----------------------------------------------------------------------------------------


async def call_provider(located: LocatedResponse, method: str, action: str = "") -> UpstreamResponse:
    """Send the request and its query to the account that has the response.

    A client disconnect ends the call. Raises UpstreamError, BlockedURL or ClientDisconnected.
    """
    request = located.caller.received.request
    query = forwarded_query(request)
    path = response_path(located.id, action) + (f"?{query}" if query else "")
    upstream = UpstreamRequest(path, b"", method=method)
    try:
        async with request.disconnect_watcher:
            return await call(
                located.account, FORMAT, upstream, located.model, forwarded_headers(request, FORMAT)
            )
    except Exception as error:
        raise failure_of(located, error) from error


def forwarded_query(request: GatewayRequest) -> str:
    """Return the query of the request without the parameters for the gateway, such as its API key."""
    given = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return urlencode(
        [(name, value) for name, value in given if name not in OWN_PARAMETERS and not contains_key(value)]
    )


async def relay_body(
    located: LocatedResponse, response: UpstreamResponse, body: bytes, free: FreeRequest
) -> None:
    """Relay a provider's response unchanged. An error is converted if the client could not act on it."""
    headers = forwarded_response_headers(response)
    if response.status < 400:
        await free.respond(Response(response.status, headers, body))
        return
    refusal, account = parse_error(response.status, body), located.account
    error = relayed_errors.for_client(refusal, account)
    headers |= relayed_errors.error_headers(error, response.headers)
    if not relayed_errors.is_refused_key(refusal, account):
        relayed = Response(response.status, headers, relayed_errors.redact_body(body, account))
        await free.respond(relayed, relayed_errors.UPSTREAM_STATUS)
        return
    content = render_error(error, located.caller.received.request_id)
    headers["content-type"] = "application/json"
    await free.respond(Response(error.status, headers, content), error.code)


async def relay_stream(
    located: LocatedResponse, response: UpstreamResponse, writer: ResponseWriter
) -> RequestResult:
    """Relay a stream unchanged. If the stream fails, its last event is an error."""
    meter, client = StreamMeter(), ClientStream(writer.write, keepalive_comment)
    try:
        await pump(located, response, writer, meter, client)
    except (Exception, asyncio.CancelledError) as error:
        # The official SDK disconnects right after the final event. If that event was sent, the request
        # succeeded.
        if not client.is_complete:
            failure = failure_of(located, error)
            event = meter.render_error_event(failure.api_error, located.caller.received.request_id)
            if not await client.send_final(event):
                writer.abandon()
            return RequestResult(
                failure.outcome, failure.status, failure.api_error.code, error_type=failure.api_error.kind
            )
    finally:
        client.close()
    return RequestResult(Outcome.OK, response.status)


async def pump(
    located: LocatedResponse,
    response: UpstreamResponse,
    writer: ResponseWriter,
    meter: StreamMeter,
    client: ClientStream,
) -> None:
    """Forward chunks, and store the ids in them.

    Raises GatewayError, ClientDisconnected or UpstreamError.
    """
    recorder = recorder_for(located)
    meter.id_reader = recorder.reader
    async with response, located.caller.received.request.disconnect_watcher:
        limits = await rate_limit_headers(located, Outcome.OK)
        headers = {**located.headers(), **limits, **forwarded_response_headers(response)}
        await writer.start_stream(response.status, headers)
        async for chunk in response.chunks():
            data = meter.feed(chunk)
            if meter.saw_final_event:
                await recorder.store()
            await client.send(data)
            client.is_complete = meter.saw_final_event
        rest = meter.finish()
        await recorder.store()
        if rest:
            await client.send(rest)
    if meter.error is not None:
        raise errors.upstream_error(relayed_errors.for_client(meter.error, located.account))


def failure_of(located: LocatedResponse, error: Failure) -> GatewayError:
    """Return the error for the client. A cancellation means that the server is shutting down."""
    match error:
        case asyncio.CancelledError():
            outlive_cancellation()
            # The ASGI server may report the disconnect only by cancelling the task.
            reason = located.caller.received.request.disconnect_watcher.abort_reason
            return errors.shutting_down() if reason is None else errors.from_exception(reason)
        case _:
            return errors.from_exception(error, located.account.provider.name)


def forwarded_response_headers(response: UpstreamResponse) -> Headers:
    """Return the provider's headers that the client gets."""
    return {name: response.headers[name] for name in FORWARDED_RESPONSE_HEADERS if name in response.headers}


def recorder_for(located: LocatedResponse) -> Recorder:
    """Return the recorder of the ids of the items in a response."""
    caller = located.caller
    project_id, request_id = caller.principal.project_id, caller.received.request_id
    return Recorder(
        project_id, request_id, located.account, ResponsesIdReader(can_be_named=True), located.model
    )


def stored_response_view(
    operation: Operation, handler: Handler, others: tuple[GatewayView, ...] = ()
) -> GatewayView:
    return GatewayView(operation, partial(respond, operation, handler), others)


delete = stored_response_view(operations.DELETE_RESPONSE, delete_response)
retrieve_or_delete = stored_response_view(operations.RETRIEVE_RESPONSE, retrieve, (delete,))
cancel = stored_response_view(operations.CANCEL_RESPONSE, cancel_response)
list_input_items = stored_response_view(operations.LIST_INPUT_ITEMS, list_items)
