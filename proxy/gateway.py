"""One request from top to bottom: authenticate, read, route, reserve, call the provider, relay and meter, settle."""

import time
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from django.conf import settings

from billing.models import Outcome
from billing.money import decimal_usd
from keys.authentication import NotAuthenticated, authenticate
from proxy import errors, routing
from proxy.exchange import Exchange
from proxy.formats import openai_chat
from proxy.formats.body import read_safely
from proxy.formats.neutral import Usage
from proxy.lean import ClientGone, GatewayRequest, Headers, LeanResponse, Reply, Stream
from proxy.operations import Incoming
from proxy.process import connections
from proxy.providers import demo
from proxy.routing import Target
from proxy.upstream import UpstreamReply

BEARER = "bearer "
RELAYED_HEADERS = ("content-type", "retry-after", "retry-after-ms", "x-should-retry", "openai-processing-ms", "openai-version")
"""Of a provider's headers, those that concern the caller. The rest is about the operator's account, or hop by hop."""


async def respond(exchange: Exchange) -> LeanResponse:
    """Answers a billable request, whatever happens: a failure is an error in the caller's dialect."""
    try:
        await identify(exchange)
        incoming = await read(exchange)
        target = await aim(exchange, incoming)
        await exchange.reserve(incoming.call, target)
    except Exception as error:
        return await exchange.refuse(errors.of(error))
    return await call(exchange, incoming, target)


async def identify(exchange: Exchange) -> None:
    """Key, scope and method, before anything of the body is read."""
    request, operation = exchange.request, exchange.operation
    key = key_of(request)
    try:
        grant = await authenticate(key)
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


async def read(exchange: Exchange) -> Incoming:
    body = await exchange.request.read_body(settings.MAX_BODY_BYTES)
    assert exchange.operation.parse is not None
    incoming = read_safely(exchange.operation.parse, body)
    exchange.describe(incoming.call)
    return incoming


async def aim(exchange: Exchange, incoming: Incoming) -> Target:
    assert exchange.grant is not None
    if not exchange.grant.allows_model(incoming.call.model):
        raise errors.model_not_allowed(incoming.call.model)
    target = await routing.resolve(exchange.grant, incoming.call.model)
    exchange.aim(target)
    if target.account.provider.format != exchange.operation.format:
        raise errors.format_not_served(incoming.call.model, target.account.provider.name)
    return target


async def call(exchange: Exchange, incoming: Incoming, target: Target) -> LeanResponse:
    """From here on money is held, and every way out settles it."""
    try:
        async with exchange.request.connection:
            with exchange.upstream_time():
                reply = await send(incoming, target, exchange.granted_output)
                streamed = incoming.call.stream and reply.status < 400
                body = b"" if streamed else await finished(reply)
    except Exception as error:
        if isinstance(error, ClientGone):
            exchange.charge(Usage(input=target.input_estimate(incoming.call)), estimated=True)
        return await exchange.refuse(errors.of(error, target.account.provider.name))
    if streamed:
        return Stream(reply.status, answer_headers(exchange, reply), lambda send: relay(exchange, incoming, target, reply, send))
    return await whole(exchange, incoming, target, reply, body)


async def send(incoming: Incoming, target: Target, output_limit: int | None) -> UpstreamReply:
    account = target.account
    body = incoming.upstream_body(target.model, output_limit, account.provider.output_limit_field)
    if target.is_demo:
        return await demo.answer(incoming.path, body)
    headers = {"content-type": "application/json", "accept-encoding": "identity", **account.provider.auth_headers(account.secret or "")}
    return await connections().post(account.base_url + incoming.path, body, headers, trusted=account.trusted)


async def finished(reply: UpstreamReply) -> bytes:
    async with reply:
        return await reply.read()


async def whole(exchange: Exchange, incoming: Incoming, target: Target, reply: UpstreamReply, body: bytes) -> Reply:
    """An answer that came in one piece: charged by what it states, and passed on as it is."""
    headers = answer_headers(exchange, reply)
    if reply.status >= 400:
        await exchange.finish(Outcome.UPSTREAM_ERROR, reply.status, "upstream_status")
        return Reply(reply.status, headers, body)
    usage, output_seen = incoming.measure(body)
    stated = usage or Usage(input=target.input_estimate(incoming.call), output=output_seen)
    headers["x-cost-usd"] = decimal_usd(exchange.charge(stated, estimated=usage is None))
    headers["x-gateway-overhead-ms"] = exchange.overhead_ms
    await exchange.finish(Outcome.OK, reply.status)
    return Reply(reply.status, headers, body)


async def relay(
    exchange: Exchange, incoming: Incoming, target: Target, reply: UpstreamReply, send_chunk: Callable[[bytes], Awaitable[None]]
) -> None:
    """Forwards each chunk as it comes while the meter reads it; whoever breaks off, what was used is charged."""
    meter = incoming.meter()
    outcome, status, reason = Outcome.OK, reply.status, ""
    try:
        async with reply, exchange.request.connection:
            async for chunk in reply.chunks():
                if passed := meter.feed(chunk):
                    await send_chunk(passed)
                if exchange.first_token_at is None and meter.output_seen:
                    exchange.first_token_at = time.perf_counter()
            if rest := meter.finish():
                await send_chunk(rest)
    except Exception as failure:
        error = errors.of(failure, target.account.provider.name)
        outcome, status, reason = error.outcome, error.status, error.failure.code
        await send_chunk(openai_chat.error_event(error.failure, exchange.request_id))
    finally:
        used = meter.usage or Usage(input=target.input_estimate(incoming.call), output=meter.output_seen)
        exchange.charge(used, estimated=meter.usage is None)
        await exchange.finish(outcome, status, reason)


def answer_headers(exchange: Exchange, reply: UpstreamReply) -> Headers:
    relayed = {name: reply.headers[name] for name in RELAYED_HEADERS if name in reply.headers}
    return {**relayed, **exchange.headers()}
