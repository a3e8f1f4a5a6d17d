"""The way back: a provider's answer to the caller, as it is or in the caller's format, metered as it passes."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from billing.models import Outcome
from billing.money import decimal_usd
from proxy import errors
from proxy.account_ids import Recorder
from proxy.conversion import Conversion
from proxy.downstream import Downstream
from proxy.errors import GatewayError
from proxy.exchange import Exchange
from proxy.formats.codec import Incoming, Meter
from proxy.formats.neutral import Usage
from proxy.formats.server_tools import are_estimated, tier_of
from proxy.formats.tokens import tokens_in_size
from proxy.lean import ClientStalled, Headers, Reply, outlive_cancellation
from proxy.routing import Target
from proxy.upstream import UpstreamReply

RELAYED_HEADERS = (
    "content-type",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "openai-processing-ms",
    "openai-version",
    "request-id",
)
"""Of a provider's headers, those that concern the caller. The rest is about the operator's account, or hop by hop."""
TIER_HEADER = "x-gemini-service-tier"


async def finished(reply: UpstreamReply) -> bytes:
    async with reply:
        return await reply.read()


async def whole(exchange: Exchange, incoming: Incoming, target: Target, reply: UpstreamReply, body: bytes) -> Reply:
    """An answer that came in one piece: charged by what it states, and passed on as it is or in the caller's format."""
    if reply.status >= 400:
        return await provider_error(exchange, incoming, reply, body)
    try:
        usage, output_seen = incoming.measure(body)
        used = usage or unstated(exchange, incoming, output_seen, body)
        cost = charge(exchange, with_tier(used, reply))
        answer = incoming.answer(body) if isinstance(incoming, Conversion) else body
    except Exception as error:
        if not exchange.charged:
            # The provider bills what it calls a success, whether or not it can be read here.
            exchange.charge(unstated(exchange, incoming, tokens_in_size(len(body)), body), estimated=True)
        return await exchange.refuse(errors.of(error, target.account.provider.name))
    await Recorder(exchange, incoming, target).read_answer(body)
    headers = answer_headers(exchange, incoming, reply)
    headers["x-cost-usd"] = decimal_usd(cost)
    headers["x-gateway-overhead-ms"] = exchange.overhead_ms
    await exchange.finish(Outcome.OK, reply.status)
    return Reply(reply.status, headers, answer)


def unstated(exchange: Exchange, incoming: Incoming, output_seen: int, body: bytes) -> Usage:
    """What an answer in one piece may have used that does not say so: the output that it shows. One that shows none, because it cannot be
    read (it is counted by all its bytes then) or is still to be written, costs as much as one that did not come."""
    unseen = exchange.usage_unseen(incoming.call)
    shows_output = 0 < output_seen < tokens_in_size(len(body))
    return replace(unseen, output=output_seen if shows_output else max(output_seen, unseen.output), estimated=True)


async def provider_error(exchange: Exchange, incoming: Incoming, reply: UpstreamReply, body: bytes) -> Reply:
    """A provider's own error: as it is to a caller of the same format, translated to others."""
    headers = answer_headers(exchange, incoming, reply)
    if not isinstance(incoming, Conversion):
        await exchange.finish(Outcome.UPSTREAM_ERROR, reply.status, "upstream_status")
        return Reply(reply.status, headers, body)
    failure = errors.without_keys(incoming.target.parse_error(reply.status, body))
    await exchange.finish(Outcome.UPSTREAM_ERROR, failure.status, failure.code)
    return Reply(failure.status, headers, exchange.codec.render_error(failure, exchange.request_id))


async def relay(
    exchange: Exchange, incoming: Incoming, target: Target, reply: UpstreamReply, send_chunk: Callable[[bytes], Awaitable[None]]
) -> None:
    """Forwards each chunk as it comes while the meter reads it; whoever breaks off, what was used is charged."""
    meter, recorder = incoming.meter(), Recorder(exchange, incoming, target)
    meter.ids = recorder.reader
    downstream = Downstream(send_chunk, incoming.keep_alive if is_stream(incoming, reply) else no_words)
    error = await failure_of(forward(exchange, meter, recorder, downstream, reply), exchange, target)
    # Who has the last event has all: OpenAI's SDK leaves with it, and does not wait for the end of the connection.
    error = None if downstream.has_all else error
    is_read = True
    try:
        if error is not None:
            is_read = await downstream.send_last(meter.error_event(error.failure, exchange.request_id))
    finally:
        downstream.close()
        await settle(exchange, incoming, target, reply, meter, error)
        recorder.begin()  # What a stream issued before it broke off. Nobody waits for that.
    if not is_read:
        raise ClientStalled


async def failure_of(forwarding: Awaitable[None], exchange: Exchange, target: Target) -> GatewayError | None:
    """Return why an answer could not be forwarded to its end, or None."""
    try:
        await forwarding
    except asyncio.CancelledError:
        outlive_cancellation()
        ended = exchange.request.connection.ended  # The connection's own cancellation may come late.
        return errors.stopped() if ended is None else errors.of(ended)
    except Exception as failure:
        return errors.of(failure, target.account.provider.name)
    return None


async def settle(
    exchange: Exchange,
    incoming: Incoming,
    target: Target,
    reply: UpstreamReply,
    meter: Meter,
    error: GatewayError | None,
) -> None:
    """Charge what the meter saw, and finish the request with the outcome that its stream had."""
    has_ended_well = error is None and not meter.provider_failed
    used = used_by_stream(exchange, incoming, target, meter, complete=is_whole(reply) or has_ended_well)
    charge(exchange, with_tier(used, reply))
    if error is not None:
        await exchange.finish(error.outcome, error.status, error.failure.code)
    elif meter.provider_failed:
        await exchange.finish(Outcome.UPSTREAM_ERROR, 502, "upstream_status")
    else:
        await exchange.finish(Outcome.OK, reply.status)


async def forward(exchange: Exchange, meter: Meter, recorder: Recorder, downstream: Downstream, reply: UpstreamReply) -> None:
    """Raises GatewayError where the provider fails or the budget is used up, ClientGone, and what breaks the provider's connection."""
    async with reply, exchange.request.connection:
        async for chunk in reply.chunks():
            passed = meter.feed(chunk)
            if meter.ended:
                await recorder.store()  # A client may leave with the last event, and use an id at once.
            if passed:
                await downstream.send(passed)
            downstream.has_all = meter.ended
            if exchange.first_token_at is None and meter.output_seen:
                exchange.first_token_at = time.perf_counter()
            if meter.failure is not None:
                break
            if meter.output_least > exchange.output_cap:
                raise errors.used_up()
        rest = meter.finish()
        await recorder.store()
        if rest:
            await downstream.send(rest)
    if meter.failure is not None:
        raise errors.upstream_failed(meter.failure)


def used_by_stream(exchange: Exchange, incoming: Incoming, target: Target, meter: Meter, *, complete: bool) -> Usage:
    """Return what the provider stated, or an estimate by what was seen.

    A complete stream that shows no output and does not state any costs as much as a response that did not come.
    """
    usage = meter.usage
    if usage is not None and not usage.estimated:
        return usage
    if complete and not meter.output_seen:
        seen = exchange.usage_unseen(incoming.call)
    else:
        seen = Usage(input=target.input_estimate(incoming.call), output=meter.output_seen)
    if usage is None:
        return replace(seen, tool_calls=dict(meter.calls_seen), estimated=True)
    # Servers that state the usage at the end may begin with zeros.
    return replace(usage, input=usage.input if usage.prompt else seen.input, output=max(usage.output, seen.output))


def charge(exchange: Exchange, usage: Usage) -> int:
    """Charges what was used, and leaves on the record those fees of the price that it was charged."""
    cost = exchange.charge(usage, estimated=usage.estimated or are_estimated(usage.tool_calls))
    if exchange.entry is not None and exchange.entry.price is not None:
        exchange.entry.price = exchange.entry.price.without_unused(usage.tool_calls)
    return cost


def is_whole(reply: UpstreamReply) -> bool:
    """Whether a provider answers in one piece, though it may have been asked for a stream."""
    return reply.headers.get("content-type", "").startswith("application/json")


def is_stream(incoming: Incoming, reply: UpstreamReply) -> bool:
    """Whether the client gets the stream that it asked for: some servers answer in one piece all the same."""
    return isinstance(incoming, Conversion) or "event-stream" in reply.headers.get("content-type", "")


def no_words(_passed: bytes) -> bytes:
    return b""


def with_tier(usage: Usage, reply: UpstreamReply) -> Usage:
    """Google names the tier that it served in only there (ai.google.dev/gemini-api/docs/priority-inference, "Graceful downgrade")."""
    tier = tier_of(reply.headers.get(TIER_HEADER))
    return replace(usage, service_tier=tier) if tier and not usage.service_tier else usage


def answer_headers(exchange: Exchange, incoming: Incoming, reply: UpstreamReply) -> Headers:
    relayed = {name: reply.headers[name] for name in RELAYED_HEADERS if name in reply.headers}
    if incoming.call.stream and reply.status < 400 and is_stream(incoming, reply):
        relayed["content-type"] = incoming.stream_type
    elif isinstance(incoming, Conversion):
        relayed["content-type"] = "application/json"
    return {**relayed, **exchange.headers()}
