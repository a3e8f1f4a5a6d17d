"""Lists of models, in one body that the OpenAI, Anthropic and Gemini SDKs all read."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from billing.models import Outcome
from proxy import errors, routing
from proxy.exchange import Exchange
from proxy.gateway import identify
from proxy.lean import Reply
from proxy.routing import Target

CREATED = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp())
"""The SDKs' types want a date; providers' own are not known here."""


async def list_models(exchange: Exchange) -> Reply:
    try:
        await identify(exchange)
        assert exchange.grant is not None
        entries = [entry(name, owner) for name, owner in (await routing.listed(exchange.grant)).items()]
    except Exception as error:
        return await exchange.refuse(errors.of(error))
    ids = [item["id"] for item in entries]
    body = {
        "object": "list",
        "data": entries,
        "models": entries,
        "has_more": False,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
    }
    return await answer(exchange, body)


async def get_model(exchange: Exchange, model: str) -> Reply:
    try:
        await identify(exchange)
        assert exchange.grant is not None
        if not exchange.grant.allows_model(model):
            raise errors.unknown_model(model)
        target = await routing.resolve(exchange.grant, model)
        if not (is_known(target, model) or model in await routing.listed(exchange.grant)):
            raise errors.unknown_model(model)
    except Exception as error:
        return await exchange.refuse(errors.of(error))
    return await answer(exchange, entry(model, target.account.slug))


def is_known(target: Target, model: str) -> bool:
    """Whether a name means more than that requests for any name go to this account: the catalogue has its price, or it names
    the provider."""
    return model != target.model or (target.price is not None and not target.is_demo)


async def answer(exchange: Exchange, body: dict[str, Any]) -> Reply:
    await exchange.finish(Outcome.OK, 200)
    return Reply(200, {**exchange.headers(), "content-type": "application/json"}, msgspec.json.encode(body))


def entry(name: str, owner: str) -> dict[str, Any]:
    """One model: the first fields are OpenAI's, `type` to `created_at` Anthropic's, the rest Gemini's."""
    return {
        "id": name,
        "object": "model",
        "created": CREATED,
        "owned_by": owner,
        "type": "model",
        "display_name": name,
        "created_at": datetime.fromtimestamp(CREATED, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "name": f"models/{name}",
        "displayName": name,
    }
