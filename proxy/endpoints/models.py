"""Lists of models. The SDKs of OpenAI, Anthropic and Gemini can all parse their bodies."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from proxy import errors
from proxy.endpoints.views import keyed
from proxy.formats import anthropic, gemini
from proxy.http.responses import Response, json_response
from proxy.operations import MODELS
from proxy.pipeline.authenticate import Authenticated
from proxy.routing import resolve
from proxy.routing.targets import Target

CREATED_AT = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp())
"""A constant date, because the types of the SDKs require one and the gateway does not know the real dates."""


async def list_models(caller: Authenticated) -> Response:
    """Return the models that the key may use by name."""
    owners = await resolve.available_models(caller.principal)
    models = [model_object(name, owner) for name, owner in owners.items()]
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
    if not caller.principal.allows_model(model):
        raise errors.unknown_model(model)
    target = (await resolve.resolve(caller.principal, model)).targets[0]
    if not (is_specific(target, model) or model in await resolve.available_models(caller.principal)):
        raise errors.unknown_model(model)
    return json_response(200, {}, model_object(model, target.account.slug))


def is_specific(target: Target, model: str) -> bool:
    """Return whether a name means this target, and is not just sent to a default account.

    This is true if the name contains the provider, or if the price list has a price for the model.
    """
    has_listed_price = target.price is not None and target.account.provider.fixed_price is None
    return model != target.model or has_listed_price


def model_object(name: str, owner: str) -> dict[str, Any]:
    """Return one model.

    It has the fields of OpenAI, then those of Anthropic (`type` to `created_at`), then those of Gemini.
    """
    return {
        "id": name,
        "object": "model",
        "created": CREATED_AT,
        "owned_by": owner,
        "type": "model",
        "display_name": name,
        "created_at": datetime.fromtimestamp(CREATED_AT, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "name": f"models/{name}",
        "displayName": name,
    }


openai_model_list, anthropic_model_list, gemini_model_list = (
    keyed(replace(MODELS, format=format))(list_models)
    for format in (MODELS.format, anthropic.FORMAT, gemini.FORMAT)
)
openai_model_detail, anthropic_model_detail, gemini_model_detail = (
    keyed(replace(MODELS, format=format))(get_model)
    for format in (MODELS.format, anthropic.FORMAT, gemini.FORMAT)
)
