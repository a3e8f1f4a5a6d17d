"""Token counts before a request: the provider's own where it has an endpoint for it, else a marked estimate."""

from typing import Any

from billing.models import Outcome
from proxy import account_ids, errors
from proxy.exchange import Exchange
from proxy.gateway import aim, identify, read, send
from proxy.lean import Reply
from proxy.relaying import finished


async def count(exchange: Exchange, **address: Any) -> Reply:
    """Free of charge: nothing is reserved."""
    headers = {"content-type": "application/json"}
    try:
        await identify(exchange)
        incoming = await read(exchange, address)
        target = await aim(exchange, incoming)
        account = target.account
        if account.provider.counts_tokens and account.format_for(exchange.operation.format) == exchange.operation.format:
            await account_ids.check(exchange, incoming, target)
            reply = await send(exchange, incoming, target)
            status, body = reply.status, await finished(reply)
        else:
            status, body = 200, incoming.estimate()  # type: ignore[attr-defined]
            headers["x-gateway-estimate"] = "true"
    except Exception as error:
        return await exchange.refuse(errors.of(error))
    await exchange.finish(Outcome.OK if status < 400 else Outcome.UPSTREAM_ERROR, status)
    return Reply(status, {**headers, **exchange.headers()}, body)
