"""Lists of models. The SDKs of OpenAI, Anthropic and Gemini can all parse their bodies."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from billing.money import decimal_usd
from billing.pricing import Price
from billing.pricing.price_list import PriceList, price_lists
from proxy import errors
from proxy.endpoints.views import keyed
from proxy.formats import anthropic, gemini
from proxy.http.responses import Response, json_response
from proxy.operations import MODELS
from proxy.pipeline.authenticate import Authenticated
from proxy.routing import resolve
from proxy.routing.caller_accounts import resolve_with_key
from proxy.routing.model_list import ListedModel, configured_models, describe, list_model
from proxy.routing.routes import model_life
from proxy.routing.routes.table import RoutingTable
from proxy.routing.targets import Target

CREATED_AT = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp())
"""A constant date, because the types of the SDKs require one and the gateway does not know the real dates."""


async def list_models(caller: Authenticated) -> Response:
    """Return the models that the key may use by name, and what each of them can do."""
    principal = caller.principal
    table, prices = await resolve.routing_table(principal), await price_lists.get(principal.project_id)
    listed = configured_models(table, prices, model_life.today())
    models = [model_object(model) for model in listed if principal.allows_model(model.name)]
    names = [model["id"] for model in models]
    body = {
        "object": "list",
        "data": models,
        "models": models,
        "has_more": False,
        "first_id": names[0] if names else None,
        "last_id": names[-1] if names else None,
    }
    return json_response(200, {}, body)


async def get_model(caller: Authenticated, model: str) -> Response:
    """Return one model. Raises GatewayError if the key may not use it, or it does not exist."""
    principal = caller.principal
    if not principal.allows_model(model):
        raise errors.unknown_model(model)
    table, prices = await resolve.routing_table(principal), await price_lists.get(principal.project_id)
    if caller.provider_key:
        return json_response(200, {}, model_object(await callers_model(caller, model, table, prices)))
    target = (await resolve.resolve(principal, model)).targets[0]
    if not (model in table.routes or is_specific(target, model)):
        raise errors.unknown_model(model)
    found = describe(table, table.find(model, None), model, prices, model_life.today())
    if found is None:
        raise errors.unknown_model(model)
    return json_response(200, {}, model_object(found))


async def callers_model(
    caller: Authenticated, model: str, table: RoutingTable, prices: PriceList
) -> ListedModel:
    """Return a model as it is called with the caller's own key. Raises GatewayError if it does not exist."""
    resolution = await resolve_with_key(
        caller.principal, model, None, caller.provider_key, is_anonymous=caller.is_anonymous
    )
    target = resolution.targets[0]
    if not (model in table.routes or is_specific(target, model)):
        raise errors.unknown_model(model)
    return list_model(model, target.account, target.model, prices, model_life.today())


def is_specific(target: Target, model: str) -> bool:
    """Return whether a name means this target, and is not just sent to a default account.

    This is true if the name contains the provider, or if the price list has a price for the model.
    """
    has_listed_price = target.price is not None and target.account.provider.fixed_price is None
    return model != target.model or has_listed_price


def model_object(model: ListedModel) -> dict[str, Any]:
    """Return one model.

    It has the fields of OpenAI, then those of Anthropic (`type` to `created_at`), then those of Gemini, then
    what the model can do. Values that are not known are null.
    """
    features, price, retirement = model.features, model.price, model.retirement
    return {
        "id": model.name,
        "object": "model",
        "created": CREATED_AT,
        "owned_by": model.owner,
        "type": "model",
        "display_name": model.name,
        "created_at": datetime.fromtimestamp(CREATED_AT, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "name": f"models/{model.name}",
        "displayName": model.name,
        "inputTokenLimit": features.context_window,
        "outputTokenLimit": features.max_output_tokens,
        "served_model": model.served,
        "context_window": features.context_window,
        "max_output_tokens": features.max_output_tokens,
        "supports_vision": features.vision,
        "supports_tools": features.tools,
        "pricing": None if price is None else usd_per_million(price),
        "retirement_date": retirement and retirement.date.isoformat(),
        "successor": (retirement and retirement.successor) or None,
    }


def usd_per_million(price: Price) -> dict[str, str]:
    """Return the rates of a price in US dollars per million tokens."""
    rates = price.base
    return {
        "input": decimal_usd(rates.input),
        "cached_input": decimal_usd(rates.cache_read),
        "output": decimal_usd(rates.output),
    }


openai_model_list, anthropic_model_list, gemini_model_list = (
    keyed(replace(MODELS, format=format))(list_models)
    for format in (MODELS.format, anthropic.FORMAT, gemini.FORMAT)
)
openai_model_detail, anthropic_model_detail, gemini_model_detail = (
    keyed(replace(MODELS, format=format))(get_model)
    for format in (MODELS.format, anthropic.FORMAT, gemini.FORMAT)
)
