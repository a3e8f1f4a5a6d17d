"""The gateway's routes. Each view carries its `operation`: what it is called, what scope it needs, whether it costs money."""

from collections.abc import Awaitable, Callable
from typing import Any

from proxy import catalogue, errors, gateway
from proxy.exchange import Exchange
from proxy.lean import GatewayRequest, LeanResponse, LeanView
from proxy.operations import CHAT, EMBEDDINGS, MODELS, UNKNOWN, Operation

Answer = Callable[..., Awaitable[LeanResponse]]


def gateway_view(operation: Operation, answer: Answer) -> LeanView:
    async def view(request: GatewayRequest, **captured: Any) -> LeanResponse:
        return await answer(Exchange(request, operation), **captured)

    view.operation = operation  # type: ignore[attr-defined]
    return view


async def nothing_here(exchange: Exchange) -> LeanResponse:
    try:
        await gateway.identify(exchange)
    except Exception as error:
        return await exchange.refuse(errors.of(error))
    return await exchange.refuse(errors.no_such_route(exchange.request.path))


chat_completions = gateway_view(CHAT, gateway.respond)
embeddings = gateway_view(EMBEDDINGS, gateway.respond)
model_list = gateway_view(MODELS, catalogue.list_models)
model_detail = gateway_view(MODELS, catalogue.get_model)
unknown_route = gateway_view(UNKNOWN, nothing_here)
