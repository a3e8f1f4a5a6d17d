"""Token counts: the provider's count if it has an endpoint for counting, else a marked estimate."""

from functools import partial
from typing import Any

from proxy import operations, relayed_errors
from proxy.endpoints.views import free_request
from proxy.formats.constraints.constraint import Destination
from proxy.http.handler import GatewayView
from proxy.http.request import GatewayRequest
from proxy.http.responses import Response, ResponseWriter
from proxy.operations import BodyOperation, TokenCountRequest
from proxy.pipeline import account_ids
from proxy.pipeline.conversion import PassThrough
from proxy.pipeline.parse import Parsed, parse
from proxy.pipeline.route import Routed, route
from proxy.routing.calls import read_body, send
from proxy.routing.targets import Candidate


async def count_tokens(
    operation: BodyOperation[TokenCountRequest],
    request: GatewayRequest,
    writer: ResponseWriter,
    **url_params: Any,
) -> None:
    """Respond with a token count. The request costs nothing, so nothing is reserved."""
    async with free_request(operation, request, writer) as free:
        caller = await free.authenticate()
        free.progress = parsed = await parse(caller, operation.parse, url_params)
        free.progress = routed = await route(parsed)
        await free.respond(await count(parsed, routed))


async def count(parsed: Parsed[TokenCountRequest], routed: Routed) -> Response:
    """Return the provider's count if it counts in the client's format, else the gateway's estimate.

    Raises GatewayError for an id of another project, and UpstreamError.
    """
    target, operation = routed.target, parsed.caller.received.operation
    account = target.account
    headers = {"content-type": "application/json"}
    if not (
        account.provider.supports_count_tokens and account.format_for(operation.format) == operation.format
    ):
        return Response(200, {**headers, "x-gateway-estimate": "true"}, parsed.client_request.estimate())
    destination = Destination(account.provider.slug, operation.format, target.model)
    plan = PassThrough(parsed.client_request, destination, account.provider.quirks)
    await account_ids.check(parsed.caller.principal.project_id, account, plan)
    upstream = plan.render_upstream(None)
    candidate, received = Candidate(target, plan), parsed.caller.received
    response = await send(candidate, upstream, received.request, operation)
    body = await read_body(response)
    if response.status < 400:
        return Response(response.status, headers, body)
    relayed = relayed_errors.relay(candidate, response, body, received.request_id)
    return Response(relayed.status, headers | relayed.headers, relayed.body)


count_anthropic_tokens = GatewayView(
    operations.COUNT_ANTHROPIC_TOKENS, partial(count_tokens, operations.COUNT_ANTHROPIC_TOKENS)
)
count_gemini_tokens = GatewayView(
    operations.COUNT_GEMINI_TOKENS, partial(count_tokens, operations.COUNT_GEMINI_TOKENS)
)
count_responses_tokens = GatewayView(
    operations.COUNT_RESPONSES_TOKENS, partial(count_tokens, operations.COUNT_RESPONSES_TOKENS)
)
