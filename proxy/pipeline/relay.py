"""The way back: a provider's answer to the caller, as it is or in the caller's format, metered as it passes."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from billing.models import Outcome
from billing.money import decimal_usd
from proxy import errors
from proxy.errors import GatewayError
from proxy.formats.codec import ClientRequest, Meter
from proxy.formats.metering.billable import has_estimated_kind, normalize_tier
from proxy.formats.metering.token_counts import estimate_tokens
from proxy.formats.neutral import Usage
from proxy.http.handler import ClientStalled, Headers, Response, outlive_cancellation
from proxy.pipeline.account_ids import Recorder
from proxy.pipeline.client_stream import ClientStream
from proxy.pipeline.conversion import ConvertedRequest
from proxy.pipeline.exchange import Exchange
from proxy.routing.resolve import Target
from proxy.upstream.client import UpstreamResponse

FORWARDED_RESPONSE_HEADERS = (
    "content-type",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "openai-processing-ms",
    "openai-version",
    "request-id",
)
"""Of a provider's headers, those that concern the caller. The rest is about the operator's account, or hop by hop."""
SERVICE_TIER_HEADER = "x-gemini-service-tier"


async def read_body(upstream_response: UpstreamResponse) -> bytes:
    async with upstream_response:
        return await upstream_response.read()


async def relay_complete(
    exchange: Exchange,
    client_request: ClientRequest,
    target: Target,
    upstream_response: UpstreamResponse,
    body: bytes,
) -> Response:
    """An answer that came in one piece: charged by what it states, and passed on as it is or in the caller's format."""
    if upstream_response.status >= 400:
        return await relay_error(exchange, client_request, upstream_response, body)
    try:
        usage, output_seen = client_request.measure(body)
        used = usage or usage_when_unreported(exchange, client_request, output_seen, body)
        cost = charge(exchange, with_reported_tier(used, upstream_response))
        answer = (
            client_request.render_response(body) if isinstance(client_request, ConvertedRequest) else body
        )
    except Exception as error:
        if not exchange.is_charged:
            # The provider bills what it calls a success, whether or not it can be read here.
            exchange.charge(
                usage_when_unreported(exchange, client_request, estimate_tokens(len(body)), body),
                estimated=True,
            )
        return await exchange.render_error(errors.from_exception(error, target.account.provider.name))
    await Recorder(exchange, client_request, target).read_answer(body)
    headers = response_headers(exchange, client_request, upstream_response)
    headers["x-cost-usd"] = decimal_usd(cost)
    headers["x-gateway-overhead-ms"] = exchange.overhead_ms
    await exchange.finish(Outcome.OK, upstream_response.status)
    return Response(upstream_response.status, headers, answer)


def usage_when_unreported(
    exchange: Exchange, client_request: ClientRequest, output_tokens: int, body: bytes
) -> Usage:
    """What an answer in one piece may have used that does not say so: the output that it shows. One that shows none, because it cannot be
    read (it is counted by all its bytes then) or is still to be written, costs as much as one that did not come.
    """
    unseen = exchange.assumed_usage(client_request.facts)
    shows_output = 0 < output_tokens < estimate_tokens(len(body))
    return replace(
        unseen, output=output_tokens if shows_output else max(output_tokens, unseen.output), estimated=True
    )


async def relay_error(
    exchange: Exchange, client_request: ClientRequest, upstream_response: UpstreamResponse, body: bytes
) -> Response:
    """A provider's own error: as it is to a caller of the same format, translated to others."""
    headers = response_headers(exchange, client_request, upstream_response)
    if not isinstance(client_request, ConvertedRequest):
        await exchange.finish(Outcome.UPSTREAM_ERROR, upstream_response.status, "upstream_status")
        return Response(upstream_response.status, headers, body)
    failure = errors.without_keys(client_request.provider_codec.parse_error(upstream_response.status, body))
    await exchange.finish(Outcome.UPSTREAM_ERROR, failure.status, failure.code)
    return Response(failure.status, headers, exchange.codec.render_error(failure, exchange.request_id))


async def relay_stream(
    exchange: Exchange,
    client_request: ClientRequest,
    target: Target,
    upstream_response: UpstreamResponse,
    send_chunk: Callable[[bytes], Awaitable[None]],
) -> None:
    """Forwards each chunk as it comes while the meter reads it; whoever breaks off, what was used is charged."""
    meter, recorder = client_request.meter(), Recorder(exchange, client_request, target)
    meter.ids = recorder.reader
    downstream = ClientStream(
        send_chunk,
        client_request.render_keepalive
        if client_gets_stream(client_request, upstream_response)
        else no_keepalive,
    )
    error = await failure_of(pump(exchange, meter, recorder, downstream, upstream_response), exchange, target)
    # Who has the last event has all: OpenAI's SDK leaves with it, and does not wait for the end of the connection.
    error = None if downstream.is_complete else error
    is_read = True
    try:
        if error is not None:
            is_read = await downstream.send_final(
                meter.render_error_event(error.api_error, exchange.request_id)
            )
    finally:
        downstream.close()
        await settle(exchange, client_request, target, upstream_response, meter, error)
        recorder.begin()  # What a stream issued before it broke off. Nobody waits for that.
    if not is_read:
        raise ClientStalled


async def failure_of(forwarding: Awaitable[None], exchange: Exchange, target: Target) -> GatewayError | None:
    """Return why an answer could not be forwarded to its end, or None."""
    try:
        await forwarding
    except asyncio.CancelledError:
        outlive_cancellation()
        ended = (
            exchange.request.disconnect_watcher.abort_reason
        )  # The connection's own cancellation may come late.
        return errors.shutting_down() if ended is None else errors.from_exception(ended)
    except Exception as failure:
        return errors.from_exception(failure, target.account.provider.name)
    return None


async def settle(
    exchange: Exchange,
    incoming: ClientRequest,
    target: Target,
    reply: UpstreamResponse,
    meter: Meter,
    error: GatewayError | None,
) -> None:
    """Charge what the meter saw, and finish the request with the outcome that its stream had."""
    has_ended_well = error is None and not meter.provider_failed
    used = used_by_stream(
        exchange, incoming, target, meter, complete=is_json_response(reply) or has_ended_well
    )
    charge(exchange, with_reported_tier(used, reply))
    if error is not None:
        await exchange.finish(error.outcome, error.status, error.api_error.code)
    elif meter.provider_failed:
        await exchange.finish(Outcome.UPSTREAM_ERROR, 502, "upstream_status")
    else:
        await exchange.finish(Outcome.OK, reply.status)


async def pump(
    exchange: Exchange,
    meter: Meter,
    recorder: Recorder,
    client_stream: ClientStream,
    upstream_response: UpstreamResponse,
) -> None:
    """Raises GatewayError where the provider fails or the budget is used up, ClientGone, and what breaks the provider's connection."""
    async with upstream_response, exchange.request.disconnect_watcher:
        async for chunk in upstream_response.chunks():
            passed = meter.feed(chunk)
            if meter.saw_final_event:
                await recorder.store()  # A client may leave with the last event, and use an id at once.
            if passed:
                await client_stream.send(passed)
            client_stream.is_complete = meter.saw_final_event
            if exchange.first_token_at is None and meter.output_tokens:
                exchange.first_token_at = time.perf_counter()
            if meter.error is not None:
                break
            if meter.min_output_tokens > exchange.abort_after_tokens:
                raise errors.budget_exhausted_midstream()
        rest = meter.finish()
        await recorder.store()
        if rest:
            await client_stream.send(rest)
    if meter.error is not None:
        raise errors.upstream_error(meter.error)


def used_by_stream(
    exchange: Exchange, incoming: ClientRequest, target: Target, meter: Meter, *, complete: bool
) -> Usage:
    """Return what the provider stated, or an estimate by what was seen.

    A complete stream that shows no output and does not state any costs as much as a response that did not come.
    """
    usage = meter.usage
    if usage is not None and not usage.estimated:
        return usage
    if complete and not meter.output_tokens:
        seen = exchange.assumed_usage(incoming.facts)
    else:
        seen = Usage(input=target.estimated_input_tokens(incoming.facts), output=meter.output_tokens)
    if usage is None:
        return replace(seen, billable_extras=dict(meter.server_tool_calls), estimated=True)
    # Servers that state the usage at the end may begin with zeros.
    return replace(
        usage, input=usage.input if usage.prompt else seen.input, output=max(usage.output, seen.output)
    )


def charge(exchange: Exchange, usage: Usage) -> int:
    """Charges what was used, and leaves on the record those fees of the price that it was charged."""
    cost = exchange.charge(usage, estimated=usage.estimated or has_estimated_kind(usage.billable_extras))
    if exchange.usage_entry is not None and exchange.usage_entry.price is not None:
        exchange.usage_entry.price = exchange.usage_entry.price.only_used_fees(usage.billable_extras)
    return cost


def is_json_response(upstream_response: UpstreamResponse) -> bool:
    """Whether a provider answers in one piece, though it may have been asked for a stream."""
    return upstream_response.headers.get("content-type", "").startswith("application/json")


def client_gets_stream(client_request: ClientRequest, upstream_response: UpstreamResponse) -> bool:
    """Whether the client gets the stream that it asked for: some servers answer in one piece all the same."""
    return isinstance(client_request, ConvertedRequest) or "event-stream" in upstream_response.headers.get(
        "content-type", ""
    )


def no_keepalive(_sent_tail: bytes) -> bytes:
    return b""


def with_reported_tier(usage: Usage, upstream_response: UpstreamResponse) -> Usage:
    """Google names the tier that it served in only there (ai.google.dev/gemini-api/docs/priority-inference, "Graceful downgrade")."""
    tier = normalize_tier(upstream_response.headers.get(SERVICE_TIER_HEADER))
    return replace(usage, service_tier=tier) if tier and not usage.service_tier else usage


def response_headers(
    exchange: Exchange, client_request: ClientRequest, upstream_response: UpstreamResponse
) -> Headers:
    relayed = {
        name: upstream_response.headers[name]
        for name in FORWARDED_RESPONSE_HEADERS
        if name in upstream_response.headers
    }
    if (
        client_request.facts.stream
        and upstream_response.status < 400
        and client_gets_stream(client_request, upstream_response)
    ):
        relayed["content-type"] = client_request.stream_content_type
    elif isinstance(client_request, ConvertedRequest):
        relayed["content-type"] = "application/json"
    return {**relayed, **exchange.gateway_headers()}
