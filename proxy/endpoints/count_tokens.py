"""Token counts before a request: the provider's own where it has an endpoint for it, else a marked estimate."""

from typing import Any

from billing.models import Outcome
from proxy import errors
from proxy.gateway import authenticate_request, parse, route, send
from proxy.http.handler import Response
from proxy.pipeline import account_ids
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.relay import read_body


async def count_tokens(exchange: Exchange, **url_params: Any) -> Response:
    """Free of charge: nothing is reserved."""
    headers = {"content-type": "application/json"}
    try:
        await authenticate_request(exchange)
        incoming = await parse(exchange, url_params)
        target = await route(exchange, incoming)
        account = target.account
        if (
            account.provider.supports_count_tokens
            and account.format_for(exchange.operation.format) == exchange.operation.format
        ):
            await account_ids.check(exchange, incoming, target)
            reply = await send(exchange, incoming, target)
            status, body = reply.status, await read_body(reply)
        else:
            status, body = 200, incoming.estimate()  # type: ignore[attr-defined]
            headers["x-gateway-estimate"] = "true"
    except Exception as error:
        return await exchange.render_error(errors.from_exception(error))
    await exchange.finish(Outcome.OK if status < 400 else Outcome.UPSTREAM_ERROR, status)
    return Response(status, {**headers, **exchange.gateway_headers()}, body)
