"""The gateway's routes. Each view carries its `operation`: what it is called, what scope it needs, whether it costs money."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

from proxy import catalogue, counting, errors, gateway, operations, usage
from proxy.exchange import Exchange
from proxy.formats import anthropic, gemini
from proxy.lean import GatewayRequest, LeanResponse, LeanView, outlive_cancellation
from proxy.operations import Operation

Answer = Callable[..., Awaitable[LeanResponse]]


def gateway_view(operation: Operation, answer: Answer, address: Callable[[GatewayRequest], dict[str, Any]] | None = None) -> LeanView:
    """`address` reads from a request's address what is not in the path. A request that the stopping server
    cancels gets an error in its own dialect and leaves its record."""

    async def view(request: GatewayRequest, **captured: Any) -> LeanResponse:
        exchange = Exchange(request, operation)
        try:
            return await answer(exchange, **captured, **(address(request) if address else {}))
        except asyncio.CancelledError:
            outlive_cancellation()
            return await exchange.stop()

    view.operation = operation  # type: ignore[attr-defined]
    return view


def stream_kind(request: GatewayRequest) -> dict[str, Any]:
    """Gemini's streams are server-sent events with `alt=sse`, else one JSON array that grows."""
    query = parse_qs(request.scope["query_string"].decode("latin-1"))
    return {"stream": True, "array": query.get("alt") != ["sse"]}


async def nothing_here(exchange: Exchange) -> LeanResponse:
    try:
        await gateway.identify(exchange)
    except Exception as error:
        return await exchange.refuse(errors.of(error))
    return await exchange.refuse(errors.no_such_route(exchange.request.path))


chat_completions = gateway_view(operations.CHAT, gateway.respond)
responses = gateway_view(operations.RESPONSES, gateway.respond)
completions = gateway_view(operations.COMPLETIONS, gateway.respond)
embeddings = gateway_view(operations.EMBEDDINGS, gateway.respond)
messages = gateway_view(operations.MESSAGES, gateway.respond)
count_messages = gateway_view(operations.COUNT_MESSAGES, counting.count)
generate = gateway_view(operations.GENERATE, gateway.respond)
generate_stream = gateway_view(operations.GENERATE, gateway.respond, stream_kind)
count_contents = gateway_view(operations.COUNT_CONTENTS, counting.count)
embed = gateway_view(operations.EMBED, gateway.respond)
embed_batch = gateway_view(operations.EMBED_BATCH, gateway.respond)

model_list, anthropic_model_list, gemini_model_list = (
    gateway_view(replace(operations.MODELS, format=format), catalogue.list_models)
    for format in (operations.MODELS.format, anthropic.NAME, gemini.NAME)
)
model_detail, anthropic_model_detail, gemini_model_detail = (
    gateway_view(replace(operations.MODELS, format=format), catalogue.get_model)
    for format in (operations.MODELS.format, anthropic.NAME, gemini.NAME)
)
usage_stats = gateway_view(operations.USAGE, usage.stats)
usage_costs = gateway_view(operations.USAGE, usage.costs)
usage_budget = gateway_view(operations.USAGE, usage.budget)
costs_by_key = gateway_view(operations.USAGE, usage.costs_by_key)
costs_of_key = gateway_view(operations.USAGE, usage.costs_of_key)
unknown_route = gateway_view(operations.UNKNOWN, nothing_here)
unknown_anthropic_route = gateway_view(operations.UNKNOWN_MESSAGES, nothing_here)
unknown_gemini_route = gateway_view(operations.UNKNOWN_CONTENTS, nothing_here)
