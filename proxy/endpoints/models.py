"""Lists of models, in one body that the OpenAI, Anthropic and Gemini SDKs all read."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from billing.models import Outcome
from proxy import errors
from proxy.gateway import authenticate_request
from proxy.http.handler import Response
from proxy.pipeline.exchange import Exchange
from proxy.routing import resolve
from proxy.routing.resolve import Target

CREATED_AT = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp())
"""The SDKs' types want a date; providers' own are not known here."""


async def list_models(exchange: Exchange) -> Response:
    try:
        await authenticate_request(exchange)
        assert exchange.principal is not None
        entries = [
            model_object(name, owner)
            for name, owner in (await resolve.available_models(exchange.principal)).items()
        ]
    except Exception as error:
        return await exchange.render_error(errors.from_exception(error))
    ids = [item["id"] for item in entries]
    body = {
        "object": "list",
        "data": entries,
        "models": entries,
        "has_more": False,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
    }
    return await json_response(exchange, body)


async def get_model(exchange: Exchange, model: str) -> Response:
    try:
        await authenticate_request(exchange)
        assert exchange.principal is not None
        if not exchange.principal.allows_model(model):
            raise errors.unknown_model(model)
        target = await resolve.resolve(exchange.principal, model)
        if not (is_specific(target, model) or model in await resolve.available_models(exchange.principal)):
            raise errors.unknown_model(model)
    except Exception as error:
        return await exchange.render_error(errors.from_exception(error))
    return await json_response(exchange, model_object(model, target.account.slug))


def is_specific(target: Target, model: str) -> bool:
    """Whether a name means more than that requests for any name go to this account: the catalogue has its price, or it names
    the provider.
    """
    return model != target.model or (target.price is not None and not target.is_demo)


async def json_response(exchange: Exchange, body: dict[str, Any]) -> Response:
    await exchange.finish(Outcome.OK, 200)
    return Response(
        200, {**exchange.gateway_headers(), "content-type": "application/json"}, msgspec.json.encode(body)
    )


def model_object(name: str, owner: str) -> dict[str, Any]:
    """One model: the first fields are OpenAI's, `type` to `created_at` Anthropic's, the rest Gemini's."""
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
