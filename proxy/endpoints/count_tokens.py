"""Token counts: the provider's own if it has an endpoint for them, else an estimate that is marked."""

import asyncio
from functools import partial
from typing import Any

from billing.models import Outcome
from proxy import operations
from proxy.http.handler import GatewayView
from proxy.http.request import GatewayRequest
from proxy.http.responses import Response, ResponseWriter
from proxy.operations import BodyOperation, TokenCountRequest
from proxy.pipeline import account_ids
from proxy.pipeline.authenticate import authenticate, authorize, receive
from proxy.pipeline.conversion import PassThrough
from proxy.pipeline.parse import Parsed, parse
from proxy.pipeline.responses import rate_limit_headers, respond_with_error
from proxy.pipeline.route import Routed, route
from proxy.pipeline.settle import INTERRUPTED, Progress, RequestResult, settle
from proxy.routing.calls import read_body, send
from proxy.routing.targets import Candidate


async def count_tokens(
    operation: BodyOperation[TokenCountRequest],
    request: GatewayRequest,
    writer: ResponseWriter,
    **url_params: Any,
) -> None:
    """Respond with a token count. It costs nothing, so nothing is reserved."""
    received = receive(request, operation)
    progress: Progress = received
    result = INTERRUPTED
    try:
        progress = caller = await authenticate(received)
        authorize(caller)
        progress = parsed = await parse(caller, operation.parse, url_params)
        progress = routed = await route(parsed)
        response = await count(parsed, routed)
        outcome = Outcome.OK if response.status < 400 else Outcome.UPSTREAM_ERROR
        headers = {**routed.headers(), **await rate_limit_headers(routed, outcome), **response.headers}
        writer.respond(Response(response.status, headers, response.body))
        result = RequestResult(outcome, response.status)
    except (Exception, asyncio.CancelledError) as error:
        result = await respond_with_error(progress, error, writer)
    finally:
        await settle(progress, result)
        await writer.finish(succeeded=result.outcome is Outcome.OK)


async def count(parsed: Parsed[TokenCountRequest], routed: Routed) -> Response:
    """Return the provider's count if it counts in the client's format, else our estimate.

    Raises GatewayError for an id of another project, and UpstreamError.
    """
    target, operation = routed.target, parsed.caller.received.operation
    account = target.account
    headers = {"content-type": "application/json"}
    if not (
        account.provider.supports_count_tokens and account.format_for(operation.format) == operation.format
    ):
        return Response(200, {**headers, "x-gateway-estimate": "true"}, parsed.client_request.estimate())
    plan = PassThrough(parsed.client_request, target.model, account.provider.quirks)
    await account_ids.check(parsed.caller.principal.project_id, account, plan)
    upstream = plan.render_upstream(None)
    response = await send(Candidate(target, plan), upstream, parsed.caller.received.request, operation)
    return Response(response.status, headers, await read_body(response))


count_anthropic_tokens = GatewayView(
    operations.COUNT_ANTHROPIC_TOKENS, partial(count_tokens, operations.COUNT_ANTHROPIC_TOKENS)
)
count_gemini_tokens = GatewayView(
    operations.COUNT_GEMINI_TOKENS, partial(count_tokens, operations.COUNT_GEMINI_TOKENS)
)
