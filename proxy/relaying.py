"""The way back: a provider's answer to the caller, as it is or in the caller's format, metered as it passes."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from billing.models import Outcome
from billing.money import decimal_usd
from proxy import errors
from proxy.conversion import Conversion
from proxy.exchange import Exchange
from proxy.formats.codec import Incoming
from proxy.formats.neutral import Usage
from proxy.lean import Headers, Reply
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


async def finished(reply: UpstreamReply) -> bytes:
    async with reply:
        return await reply.read()


async def whole(exchange: Exchange, incoming: Incoming, target: Target, reply: UpstreamReply, body: bytes) -> Reply:
    """An answer that came in one piece: charged by what it states, and passed on as it is or in the caller's format."""
    if reply.status >= 400:
        return await provider_error(exchange, incoming, reply, body)
    try:
        usage, output_seen = incoming.measure(body)
        stated = usage or Usage(input=target.input_estimate(incoming.call), output=output_seen)
        cost = exchange.charge(stated, estimated=usage is None)
        answer = incoming.answer(body) if isinstance(incoming, Conversion) else body
    except Exception as error:
        return await exchange.refuse(errors.of(error, target.account.provider.name))
    headers = answer_headers(exchange, incoming, reply)
    headers["x-cost-usd"] = decimal_usd(cost)
    headers["x-gateway-overhead-ms"] = exchange.overhead_ms
    await exchange.finish(Outcome.OK, reply.status)
    return Reply(reply.status, headers, answer)


async def provider_error(exchange: Exchange, incoming: Incoming, reply: UpstreamReply, body: bytes) -> Reply:
    """A provider's own error: as it is to a caller of the same format, translated to others."""
    headers = answer_headers(exchange, incoming, reply)
    if not isinstance(incoming, Conversion):
        await exchange.finish(Outcome.UPSTREAM_ERROR, reply.status, "upstream_status")
        return Reply(reply.status, headers, body)
    failure = incoming.target.parse_error(reply.status, body)
    await exchange.finish(Outcome.UPSTREAM_ERROR, failure.status, failure.code)
    return Reply(failure.status, headers, exchange.codec.render_error(failure, exchange.request_id))


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
                if meter.failure is not None:
                    break
            if rest := meter.finish():
                await send_chunk(rest)
        if meter.failure is not None:
            raise errors.upstream_failed(meter.failure)
        if meter.provider_failed:
            outcome, status, reason = Outcome.UPSTREAM_ERROR, 502, "upstream_status"
    except asyncio.CancelledError:
        error = errors.stopped()
        outcome, status, reason = error.outcome, error.status, error.failure.code
        await send_chunk(meter.error_event(error.failure, exchange.request_id))
        raise
    except Exception as failure:
        error = errors.of(failure, target.account.provider.name)
        outcome, status, reason = error.outcome, error.status, error.failure.code
        await send_chunk(meter.error_event(error.failure, exchange.request_id))
    finally:
        used = meter.usage or Usage(input=target.input_estimate(incoming.call), output=meter.output_seen)
        exchange.charge(used, estimated=meter.usage is None)
        await exchange.finish(outcome, status, reason)


def answer_headers(exchange: Exchange, incoming: Incoming, reply: UpstreamReply) -> Headers:
    relayed = {name: reply.headers[name] for name in RELAYED_HEADERS if name in reply.headers}
    streamed, converted = incoming.call.stream and reply.status < 400, isinstance(incoming, Conversion)
    if streamed and (converted or "event-stream" in relayed.get("content-type", "")):
        relayed["content-type"] = incoming.stream_type
    elif converted:
        relayed["content-type"] = "application/json"
    return {**relayed, **exchange.headers()}
