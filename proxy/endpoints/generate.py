"""The gateway's routes. Each view carries its `operation`: what it is called, what scope it needs, whether it costs money."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

from proxy import errors, gateway, operations
from proxy.endpoints import count_tokens, models, usage
from proxy.formats import anthropic, gemini
from proxy.http.handler import GatewayRequest, GatewayResponse, GatewayView, outlive_cancellation
from proxy.operations import Operation
from proxy.pipeline.exchange import Exchange

Handler = Callable[..., Awaitable[GatewayResponse]]


def gateway_view(
    operation: Operation,
    handler: Handler,
    url_params: Callable[[GatewayRequest], dict[str, Any]] | None = None,
) -> GatewayView:
    """`url_params` reads from a request's address what is not in the path. A request that the stopping server
    cancels gets an error in its own dialect and leaves its record.
    """

    async def view(request: GatewayRequest, **captured: Any) -> GatewayResponse:
        exchange = Exchange(request, operation)
        try:
            return await handler(exchange, **captured, **(url_params(request) if url_params else {}))
        except asyncio.CancelledError:
            outlive_cancellation()
            return await exchange.stop()

    view.operation = operation  # type: ignore[attr-defined]
    return view


def gemini_stream_params(request: GatewayRequest) -> dict[str, Any]:
    """Gemini's streams are server-sent events with `alt=sse`, else one JSON array that grows."""
    query = parse_qs(request.scope["query_string"].decode("latin-1"))
    return {"stream": True, "as_array": query.get("alt") != ["sse"]}


async def not_found(exchange: Exchange) -> GatewayResponse:
    try:
        await gateway.authenticate_request(exchange)
    except Exception as error:
        return await exchange.render_error(errors.from_exception(error))
    return await exchange.render_error(errors.unknown_route(exchange.request.path))


chat_completions = gateway_view(operations.CHAT_COMPLETIONS, gateway.handle)
responses = gateway_view(operations.RESPONSES, gateway.handle)
completions = gateway_view(operations.COMPLETIONS, gateway.handle)
embeddings = gateway_view(operations.EMBEDDINGS, gateway.handle)
messages = gateway_view(operations.MESSAGES, gateway.handle)
count_anthropic_tokens = gateway_view(operations.COUNT_ANTHROPIC_TOKENS, count_tokens.count_tokens)
generate_content = gateway_view(operations.GENERATE_CONTENT, gateway.handle)
stream_generate_content = gateway_view(operations.GENERATE_CONTENT, gateway.handle, gemini_stream_params)
count_gemini_tokens = gateway_view(operations.COUNT_GEMINI_TOKENS, count_tokens.count_tokens)
embed_content = gateway_view(operations.EMBED_CONTENT, gateway.handle)
batch_embed_contents = gateway_view(operations.BATCH_EMBED_CONTENTS, gateway.handle)

openai_model_list, anthropic_model_list, gemini_model_list = (
    gateway_view(replace(operations.MODELS, format=format), models.list_models)
    for format in (operations.MODELS.format, anthropic.FORMAT, gemini.FORMAT)
)
openai_model_detail, anthropic_model_detail, gemini_model_detail = (
    gateway_view(replace(operations.MODELS, format=format), models.get_model)
    for format in (operations.MODELS.format, anthropic.FORMAT, gemini.FORMAT)
)
usage_stats = gateway_view(operations.USAGE, usage.stats)
usage_costs = gateway_view(operations.USAGE, usage.costs)
usage_budget = gateway_view(operations.USAGE, usage.budget)
costs_by_key = gateway_view(operations.USAGE, usage.costs_by_key)
costs_for_key = gateway_view(operations.USAGE, usage.costs_for_key)
openai_not_found = gateway_view(operations.NOT_FOUND, not_found)
anthropic_not_found = gateway_view(operations.NOT_FOUND_ANTHROPIC, not_found)
gemini_not_found = gateway_view(operations.NOT_FOUND_GEMINI, not_found)
