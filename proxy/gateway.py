"""One request from top to bottom: authenticate, read, route, reserve, call the provider, relay and meter, settle."""

import asyncio
from functools import partial
from typing import Any
from urllib.parse import parse_qs

from django.conf import settings

from keys.authentication import NotAuthenticated, authenticate
from projects.redaction import contains_key
from proxy import account_ids, conversion, errors, idempotency, routing
from proxy.client_address import client_address
from proxy.conversion import Conversion
from proxy.exchange import Exchange
from proxy.formats.body import read_safely
from proxy.formats.codec import Incoming
from proxy.formats.neutral import BadRequest, Usage
from proxy.lean import GatewayRequest, LeanResponse, Stream
from proxy.process import connections
from proxy.providers import demo
from proxy.relaying import answer_headers, finished, is_whole, relay, whole
from proxy.routing import Target
from proxy.upstream import UpstreamFailure, UpstreamRefused, UpstreamReply, UpstreamTimeout

BEARER = "bearer "
FORWARDED_HEADERS = {
    "anthropic": (b"anthropic-version", b"anthropic-beta"),
    "openai_chat": (b"openai-beta",),
    "openai_responses": (b"openai-beta",),
}
"""Of a caller's headers, those that a provider of the same format wants."""


async def respond(exchange: Exchange, **address: Any) -> LeanResponse:
    """Answers a billable request, whatever happens: a failure is an error in the caller's dialect. `address` is what the path says."""
    try:
        await identify(exchange)
        incoming = await read(exchange, address)
        target = await aim(exchange, incoming)
        plan = conversion.plan(exchange.operation, incoming, target.account)
        await account_ids.check(exchange, plan, target)
    except Exception as error:
        return await exchange.refuse(errors.of(error))
    if idempotency.is_asked(exchange.request):
        return await idempotency.once(exchange, address, incoming.body, partial(spend, exchange, plan, target))
    return await spend(exchange, plan, target)


async def identify(exchange: Exchange) -> None:
    """Key, scope and method, before anything of the body is read."""
    request, operation = exchange.request, exchange.operation
    key = key_of(request)
    try:
        grant = await authenticate(key, partial(client_address, request.scope))
    except NotAuthenticated:
        # Nothing of a stranger's body is kept, but one beyond the cap is told so.
        await request.skip_body(settings.MAX_BODY_BYTES)
        raise errors.wrong_key() if key else errors.no_key() from None
    exchange.identify(grant)
    if operation.method and request.method != operation.method:
        raise errors.wrong_method(request.method or "", operation.method)
    if operation.scope and not grant.allows(operation.scope):
        raise errors.out_of_scope(operation.scope)


def key_of(request: GatewayRequest) -> str:
    """The API key, wherever this client's SDK puts it; empty where there is none."""
    authorization = request.header(b"authorization")
    if authorization[: len(BEARER)].lower() == BEARER:
        return authorization[len(BEARER) :].strip()
    if header := request.header(b"x-api-key") or request.header(b"x-goog-api-key"):
        return header.strip()
    query = request.scope["query_string"]
    return parse_qs(query.decode("latin-1")).get("key", [""])[0] if b"key=" in query else ""


async def read(exchange: Exchange, address: dict[str, Any]) -> Incoming:
    body = await exchange.request.read_body(settings.MAX_BODY_BYTES)
    assert exchange.operation.parse is not None
    incoming = read_safely(partial(exchange.operation.parse, **address), body)
    exchange.describe(incoming.call)
    return incoming


async def aim(exchange: Exchange, incoming: Incoming) -> Target:
    assert exchange.grant is not None
    if not incoming.call.model.isprintable():
        raise BadRequest("The model's name holds characters that no name has.", "model")
    if contains_key(incoming.call.model):
        # It would go to the provider as it is, in the body or the address.
        text = "The model's name contains an API key. Send the key in the authorization header only."
        raise BadRequest(text, "model")
    if not exchange.grant.allows_model(incoming.call.model):
        raise errors.model_not_allowed(incoming.call.model)
    target = await routing.resolve(exchange.grant, incoming.call.model)
    exchange.aim(target)
    return target


async def spend(exchange: Exchange, incoming: Incoming, target: Target) -> LeanResponse:
    try:
        await exchange.reserve(incoming.call, target)
    except Exception as error:
        return await exchange.refuse(errors.of(error))
    return await call(exchange, incoming, target)


async def call(exchange: Exchange, incoming: Incoming, target: Target) -> LeanResponse:
    """From here on money is held, and every way out settles it."""
    reply: UpstreamReply | None = None
    try:
        async with exchange.request.connection:
            with exchange.upstream_time():
                reply = await send(exchange, incoming, target)
                streamed = incoming.call.stream and reply.status < 400 and (isinstance(incoming, Conversion) or not is_whole(reply))
                body = b"" if streamed else await finished(reply)
    except asyncio.CancelledError:
        exchange.charge_abandoned(incoming.call)
        raise
    except Exception as error:
        left = exchange.request.connection.ended is not None and exchange.upstream_s
        if left or (isinstance(error, UpstreamTimeout) and error.sent) or (reply is not None and reply.status < 400):
            exchange.charge_abandoned(incoming.call)
        elif reply is None and isinstance(error, UpstreamFailure) and error.sent:
            exchange.charge(Usage(input=target.input_estimate(incoming.call)), estimated=True)
        return await exchange.refuse(errors.of(error, target.account.provider.name))
    if streamed:
        return Stream(reply.status, answer_headers(exchange, incoming, reply), lambda send: relay(exchange, incoming, target, reply, send))
    return await whole(exchange, incoming, target, reply, body)


async def send(exchange: Exchange, incoming: Incoming, target: Target) -> UpstreamReply:
    account, path = target.account, incoming.path(target.model)
    body = incoming.upstream_body(target.model, exchange.granted_output, account.provider.quirks)
    if isinstance(incoming, Conversion):
        exchange.dropped = incoming.dropped
    if target.is_demo:
        return await demo.answer(path, body)
    format = account.format_for(exchange.operation.format)
    headers = {"content-type": "application/json", "accept-encoding": "identity", **account.provider.headers}
    if format == exchange.operation.format:
        given = {name: exchange.request.header(name) for name in FORWARDED_HEADERS.get(format, ())}
        headers |= {name.decode(): value for name, value in given.items() if value}
    headers |= account.provider.auth_headers(account.secret or "")
    reply = await connections().post(account.url(format, path, target.model), body, headers, trusted=account.trusted)
    if not (200 <= reply.status <= 203 or 400 <= reply.status <= 599):
        raise UpstreamRefused(f"it answered with status {reply.status}")
    return reply
