"""One request from top to bottom: authenticate, read, route, reserve, call the provider, relay and meter, settle."""

import asyncio
from functools import partial
from typing import Any
from urllib.parse import parse_qs

from django.conf import settings

from keys.authentication import AuthenticationFailed, authenticate
from projects.redaction import contains_key
from proxy import errors
from proxy.formats.codec import ClientRequest
from proxy.formats.json_body import guard_recursion
from proxy.formats.neutral import InvalidRequest, Usage
from proxy.http.client_ip import client_ip
from proxy.http.handler import GatewayRequest, GatewayResponse, StreamingResponse
from proxy.pipeline import account_ids, conversion, idempotency
from proxy.pipeline.conversion import ConvertedRequest
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.relay import is_json_response, read_body, relay_complete, relay_stream, response_headers
from proxy.providers import demo
from proxy.routing import resolve
from proxy.routing.resolve import Target
from proxy.runtime import upstream_client
from proxy.upstream.client import UpstreamConnectionError, UpstreamError, UpstreamResponse, UpstreamTimeout

BEARER_PREFIX = "bearer "
FORWARDED_REQUEST_HEADERS = {
    "anthropic": (b"anthropic-version", b"anthropic-beta"),
    "openai_chat": (b"openai-beta",),
    "openai_responses": (b"openai-beta",),
}
"""Of a caller's headers, those that a provider of the same format wants."""


async def handle(exchange: Exchange, **url_params: Any) -> GatewayResponse:
    """Answers a billable request, whatever happens: a failure is an error in the caller's dialect. `url_params` is what the path says."""
    try:
        await authenticate_request(exchange)
        incoming = await parse(exchange, url_params)
        target = await route(exchange, incoming)
        plan = conversion.plan_request(exchange.operation, incoming, target.account)
        await account_ids.check(exchange, plan, target)
    except Exception as error:
        return await exchange.render_error(errors.from_exception(error))
    if idempotency.is_requested(exchange.request):
        return await idempotency.run_once(
            exchange, url_params, incoming.body, partial(reserve, exchange, plan, target)
        )
    return await reserve(exchange, plan, target)


async def authenticate_request(exchange: Exchange) -> None:
    """Key, scope and method, before anything of the body is read."""
    request, operation = exchange.request, exchange.operation
    key = extract_api_key(request)
    try:
        grant = await authenticate(key, partial(client_ip, request.scope))
    except AuthenticationFailed:
        # Nothing of a stranger's body is kept, but one beyond the cap is told so.
        await request.discard_body(settings.MAX_BODY_BYTES)
        raise errors.invalid_key() if key else errors.missing_key() from None
    exchange.set_principal(grant)
    if operation.method and request.method != operation.method:
        raise errors.method_not_allowed(request.method or "", operation.method)
    if operation.scope and not grant.allows(operation.scope):
        raise errors.missing_scope(operation.scope)


def extract_api_key(request: GatewayRequest) -> str:
    """The API key, wherever this client's SDK puts it; empty where there is none."""
    authorization = request.header(b"authorization")
    if authorization[: len(BEARER_PREFIX)].lower() == BEARER_PREFIX:
        return authorization[len(BEARER_PREFIX) :].strip()
    if header := request.header(b"x-api-key") or request.header(b"x-goog-api-key"):
        return header.strip()
    query = request.scope["query_string"]
    return parse_qs(query.decode("latin-1")).get("key", [""])[0] if b"key=" in query else ""


async def parse(exchange: Exchange, url_params: dict[str, Any]) -> ClientRequest:
    body = await exchange.request.read_body(settings.MAX_BODY_BYTES)
    assert exchange.operation.parse is not None
    incoming = guard_recursion(partial(exchange.operation.parse, **url_params), body)
    exchange.set_facts(incoming.facts)
    return incoming


async def route(exchange: Exchange, client_request: ClientRequest) -> Target:
    assert exchange.principal is not None
    if not client_request.facts.model.isprintable():
        raise InvalidRequest("The model's name holds characters that no name has.", "model")
    if contains_key(client_request.facts.model):
        # It would go to the provider as it is, in the body or the address.
        text = "The model's name contains an API key. Send the key in the authorization header only."
        raise InvalidRequest(text, "model")
    if not exchange.principal.allows_model(client_request.facts.model):
        raise errors.model_not_allowed(client_request.facts.model)
    target = await resolve.resolve(exchange.principal, client_request.facts.model)
    exchange.set_target(target)
    return target


async def reserve(exchange: Exchange, client_request: ClientRequest, target: Target) -> GatewayResponse:
    try:
        await exchange.reserve(client_request.facts, target)
    except Exception as error:
        return await exchange.render_error(errors.from_exception(error))
    return await call_upstream(exchange, client_request, target)


async def call_upstream(exchange: Exchange, client_request: ClientRequest, target: Target) -> GatewayResponse:
    """From here on money is held, and every way out settles it."""
    reply: UpstreamResponse | None = None
    try:
        async with exchange.request.disconnect_watcher:
            with exchange.measure_upstream():
                reply = await send(exchange, client_request, target)
                streamed = (
                    client_request.facts.stream
                    and reply.status < 400
                    and (isinstance(client_request, ConvertedRequest) or not is_json_response(reply))
                )
                body = b"" if streamed else await read_body(reply)
    except asyncio.CancelledError:
        exchange.charge_disconnected(client_request.facts)
        raise
    except Exception as error:
        left = exchange.request.disconnect_watcher.abort_reason is not None and exchange.upstream_s
        if (
            left
            or (isinstance(error, UpstreamTimeout) and error.may_be_billed)
            or (reply is not None and reply.status < 400)
        ):
            exchange.charge_disconnected(client_request.facts)
        elif reply is None and isinstance(error, UpstreamError) and error.may_be_billed:
            exchange.charge(Usage(input=target.estimated_input_tokens(client_request.facts)), estimated=True)
        return await exchange.render_error(errors.from_exception(error, target.account.provider.name))
    if streamed:
        return StreamingResponse(
            reply.status,
            response_headers(exchange, client_request, reply),
            lambda send: relay_stream(exchange, client_request, target, reply, send),
        )
    return await relay_complete(exchange, client_request, target, reply, body)


async def send(exchange: Exchange, client_request: ClientRequest, target: Target) -> UpstreamResponse:
    account, path = target.account, client_request.path(target.model)
    body = client_request.upstream_body(target.model, exchange.max_tokens_to_send, account.provider.quirks)
    if isinstance(client_request, ConvertedRequest):
        exchange.dropped_settings = client_request.dropped
    if target.is_demo:
        return await demo.respond(path, body)
    format = account.format_for(exchange.operation.format)
    headers = {"content-type": "application/json", "accept-encoding": "identity", **account.provider.headers}
    if format == exchange.operation.format:
        given = {name: exchange.request.header(name) for name in FORWARDED_REQUEST_HEADERS.get(format, ())}
        headers |= {name.decode(): value for name, value in given.items() if value}
    headers |= account.provider.auth_headers(account.secret or "")
    reply = await upstream_client().post(
        account.url(format, path, target.model), body, headers, trusted=account.trusted
    )
    if not (200 <= reply.status <= 203 or 400 <= reply.status <= 599):
        raise UpstreamConnectionError(f"it answered with status {reply.status}")
    return reply
