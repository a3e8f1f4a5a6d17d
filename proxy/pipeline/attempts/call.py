"""A call of a target, up to the first event of a stream or the end of a body."""

import asyncio
import time
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace

from proxy import errors
from proxy.errors import GatewayError
from proxy.http.cancellation import outlive_cancellation
from proxy.pipeline.admission import Admitted
from proxy.pipeline.attempts.first_event import Opening, read_opening
from proxy.pipeline.charges import Charge, charge_failed_call, charge_whole
from proxy.routing.calls import read_body, send
from proxy.routing.targets import ParsedResponse
from proxy.upstream.response import UpstreamResponse


@dataclass(frozen=True, slots=True)
class OpenStream:
    """The provider has started to stream.

    `upstream_s` is the time from the call until the first event, in seconds.
    """

    response: UpstreamResponse
    opening: Opening
    dropped: tuple[str, ...]
    upstream_s: float


@dataclass(frozen=True, slots=True)
class ReceivedBody:
    """The provider has sent a complete body, which may be an error.

    `upstream_s` is the time of the call, in seconds.
    """

    response: UpstreamResponse
    body: bytes
    dropped: tuple[str, ...]
    upstream_s: float

    @property
    def is_error(self) -> bool:
        """Return whether the provider sent an error status."""
        return self.response.status >= 400


@dataclass(frozen=True, slots=True)
class WholeResponse:
    """A non-streaming response that can be relayed, with its charge. The fields are those of its body."""

    response: UpstreamResponse
    body: bytes
    dropped: tuple[str, ...]
    upstream_s: float
    parsed: ParsedResponse
    charge: Charge


class CallFailed(Exception):
    """The call failed or was cancelled. `charge` covers what the provider may bill for it."""

    def __init__(self, error: GatewayError, charge: Charge | None, dropped: tuple[str, ...]) -> None:
        super().__init__(str(error))
        self.error, self.charge, self.dropped = error, charge, dropped


async def call(admitted: Admitted) -> OpenStream | WholeResponse | ReceivedBody:
    """Call the first candidate. Return a body only if it is an error.

    Raises UnsupportedFeature before the call, and CallFailed for every failure of the call.
    """
    received = await receive(admitted)
    if isinstance(received, OpenStream) or received.is_error:
        return received
    return parse_body(admitted, received)


def parse_body(admitted: Admitted, received: ReceivedBody) -> WholeResponse:
    """Parse and charge a response. Raises CallFailed if it is broken or cannot be converted.

    Such a response is charged too, because the provider may bill every success.
    """
    candidate, (response, body) = admitted.planned.candidate, (received.response, received.body)
    try:
        parsed = candidate.plan.parse_response(body)
    except Exception as error:
        charge = charge_whole(admitted, response, body, *candidate.plan.measure(body))
        failure = errors.from_exception(error, candidate.target.account.provider.name)
        raise CallFailed(failure, charge, received.dropped) from error
    charge = charge_whole(admitted, response, body, parsed.usage, parsed.output_tokens)
    return WholeResponse(response, body, received.dropped, received.upstream_s, parsed, charge)


async def receive(admitted: Admitted) -> OpenStream | ReceivedBody:
    """Call the first candidate. A client disconnect ends the call, except for a background response.

    Raises UnsupportedFeature and CallFailed.
    """
    candidate = admitted.planned.candidate
    received = admitted.planned.routed.parsed.caller.received
    upstream = candidate.plan.render_upstream(admitted.max_tokens_to_send)
    if defaults := candidate.plan.facts.default_settings:
        upstream = replace(upstream, dropped=tuple(name for name in upstream.dropped if name not in defaults))
    watcher, status, started_at = received.request.disconnect_watcher, 0, 0.0
    guard: AbstractAsyncContextManager[None] = watcher
    opening_guard: AbstractAsyncContextManager[None] = nullcontext()
    if candidate.plan.facts.is_background:
        # The provider bills the response even after a client disconnect, so the gateway must receive its id.
        # A stream may never send it.
        guard, opening_guard = opening_guard, guard
    try:
        async with guard:
            started_at = time.perf_counter()
            response = await send(candidate, upstream, received.request, received.operation)
            status = response.status
            if candidate.plan.is_stream(response):
                async with opening_guard:
                    opening = await read_opening(response, candidate.plan)
                upstream_s = time.perf_counter() - started_at
                return OpenStream(response, opening, upstream.dropped, upstream_s)
            body = await read_body(response)
        return ReceivedBody(response, body, upstream.dropped, time.perf_counter() - started_at)
    except asyncio.CancelledError as error:
        outlive_cancellation()
        charge = charge_failed_call(admitted, error, was_cancelled=True, status=status)
        raise CallFailed(errors.shutting_down(), charge, upstream.dropped) from error
    except Exception as error:
        was_cancelled = watcher.abort_reason is not None and started_at > 0
        charge = charge_failed_call(admitted, error, was_cancelled=was_cancelled, status=status)
        failure = errors.from_exception(error, candidate.target.account.provider.name)
        raise CallFailed(failure, charge, upstream.dropped) from error
