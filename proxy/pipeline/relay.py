"""The stage `relay`: relay the provider's response to the client, and meter it."""

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from billing.models import Outcome
from billing.money import decimal_usd
from proxy import errors, relayed_errors
from proxy.errors import GatewayError
from proxy.formats.neutral import ApiError
from proxy.formats.openai_responses.background import read_state
from proxy.formats.streaming.sse import EventSplitter
from proxy.http.cancellation import outlive_cancellation
from proxy.http.client_stream import ClientStream
from proxy.http.responses import Headers, Response, ResponseWriter
from proxy.pipeline.account_ids import Recorder
from proxy.pipeline.admission import Admitted
from proxy.pipeline.attempts.call import CallFailed, OpenStream, ReceivedBody, WholeResponse
from proxy.pipeline.background import deferral
from proxy.pipeline.charges import Charge, charge_reported, streamed_usage
from proxy.pipeline.conversion import is_json
from proxy.pipeline.responses import with_dropped
from proxy.pipeline.settle import RequestResult
from proxy.providers.provider import MESSAGES_FORMAT
from proxy.routing.targets import UpstreamPlan
from proxy.upstream.response import UpstreamResponse

FORWARDED_RESPONSE_HEADERS = (
    "content-type",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "openai-processing-ms",
    "openai-version",
    "request-id",
)
"""Headers of a provider that the client gets. The others are hop-by-hop, or concern the operator's account.
"""

OWN_RATE_LIMITS = "anthropic-ratelimit-"
"""The beginning of the names of Anthropic's rate-limit headers.

Source: platform.claude.com/docs/en/api/rate-limits, "Response headers".
"""

ERROR_MARKER = b"error"
ERROR_EVENT = re.compile(rb'event: error|"error"\s*:\s*[{"]|"type"\s*:\s*"(?:error|response\.failed)"')
"""Every error event of every format matches this pattern."""

log = structlog.get_logger()


async def relay(
    admitted: Admitted, attempted: OpenStream | WholeResponse | ReceivedBody, writer: ResponseWriter
) -> RequestResult:
    """Relay the response, and return how the request ended. For a stream, this raises no exception."""
    match attempted:
        case OpenStream():
            return await StreamRelay(admitted, attempted, writer).run()
        case ReceivedBody():
            return relay_error(admitted, attempted, writer)
        case WholeResponse():
            return await relay_whole(admitted, attempted, writer)


def relay_error(admitted: Admitted, attempted: ReceivedBody, writer: ResponseWriter) -> RequestResult:
    """Relay a provider's error.

    It passes unchanged if client and provider use the same format and the client can act on it. Otherwise it
    is converted.
    """
    request_id = admitted.planned.routed.parsed.caller.received.request_id
    relayed = relayed_errors.relay(admitted.planned.candidate, attempted.response, attempted.body, request_id)
    headers = client_headers(admitted, attempted.response, attempted.dropped) | relayed.headers
    writer.respond(Response(relayed.status, headers, relayed.body))
    return RequestResult(
        Outcome.UPSTREAM_ERROR,
        relayed.recorded_status,
        relayed.code,
        dropped=attempted.dropped,
        error_type=relayed.kind,
    )


async def relay_whole(admitted: Admitted, attempted: WholeResponse, writer: ResponseWriter) -> RequestResult:
    """Relay a non-streaming response. Raises CallFailed if it cannot be rendered or recorded."""
    caller, status = admitted.planned.routed.parsed.caller, attempted.response.status
    charged = attempted.charge
    with charged_failures(admitted, charged, attempted.dropped):
        content = attempted.parsed.render()
        is_deferred = await defer_if_pending(admitted, attempted.body)
        await recorder_for(admitted).read_response(attempted.body)
    headers = client_headers(admitted, attempted.response, attempted.dropped)
    if not is_deferred:
        headers["x-cost-usd"] = decimal_usd(charged.cost_nano)
    overhead_s = time.perf_counter() - caller.received.started_at - attempted.upstream_s
    headers["x-gateway-overhead-ms"] = f"{overhead_s * 1000:.3f}"
    writer.respond(Response(status, headers, content))
    if is_deferred:
        return RequestResult(Outcome.OK, status, dropped=attempted.dropped, is_deferred=True)
    return RequestResult(Outcome.OK, status, charge=charged, dropped=attempted.dropped)


async def defer_if_pending(admitted: Admitted, body: bytes) -> bool:
    """Return whether the response continues in the background, and was stored to be charged later."""
    if not admitted.planned.candidate.plan.facts.is_background:
        return False
    state = read_state(body)
    return state is not None and state.is_pending and await deferral.store(admitted, state.id)


def recorder_for(admitted: Admitted) -> Recorder:
    """Return the recorder of the ids that the response issues."""
    caller, candidate = admitted.planned.routed.parsed.caller, admitted.planned.candidate
    return Recorder(
        caller.principal.project_id,
        caller.received.request_id,
        candidate.target.account,
        candidate.plan.id_reader(),
        candidate.plan.facts.model,
    )


@contextmanager
def charged_failures(admitted: Admitted, charged: Charge, dropped: tuple[str, ...]) -> Iterator[None]:
    """Charge the response even if the code in the `with` block fails or is cancelled. Raises CallFailed."""
    try:
        yield
    except asyncio.CancelledError as error:
        outlive_cancellation()
        raise CallFailed(errors.shutting_down(), charged, dropped) from error
    except Exception as error:
        raise CallFailed(failure_of(admitted, error), charged, dropped) from error


def failure_of(admitted: Admitted, error: Exception) -> GatewayError:
    """Return the error for the client. It names the provider."""
    return errors.from_exception(error, admitted.planned.candidate.target.account.provider.name)


class StreamRelay:
    """Relays one stream. It forwards each chunk as it arrives, and the meter reads the chunk."""

    def __init__(self, admitted: Admitted, opened: OpenStream, writer: ResponseWriter) -> None:
        self.admitted, self.opened, self.writer = admitted, opened, writer
        self.caller, candidate = admitted.planned.routed.parsed.caller, admitted.planned.candidate
        self.meter = candidate.plan.meter()
        self.recorder = recorder_for(admitted)
        self.may_continue = candidate.plan.facts.is_background
        self.is_stored = False
        self.meter.id_reader = self.recorder.reader
        self.client = ClientStream(writer.write, candidate.plan.keepalive(opened.response))
        self.first_token_at: float | None = None

    async def run(self) -> RequestResult:
        """Relay the stream to its end. The usage is charged even if the stream fails."""
        error = await self.relay_until_failure()
        # OpenAI's SDK disconnects right after the final event. If that event was sent, the request succeeded.
        error = None if self.client.is_complete else error
        if error is not None and not await self.send_error(error):
            self.writer.abandon()
        self.client.close()
        self.recorder.begin()  # Store ids that were issued before a failure, without waiting.
        return self.result(error)

    async def relay_until_failure(self) -> GatewayError | None:
        """Relay the stream. Return the reason why it could not be relayed to its end, or None."""
        try:
            await self.pump()
        except asyncio.CancelledError:
            outlive_cancellation()
            # The ASGI server may report the disconnect only by cancelling the task.
            reason = self.caller.received.request.disconnect_watcher.abort_reason
            return errors.shutting_down() if reason is None else errors.from_exception(reason)
        except Exception as error:
            return failure_of(self.admitted, error)
        return None

    async def pump(self) -> None:
        """Forward the chunks of the stream.

        Raises GatewayError if the provider fails or the reservation is used up, ClientDisconnected, and
        UpstreamError if the provider's connection breaks.
        """
        meter, client, response = self.meter, self.client, self.opened.response
        headers = client_headers(self.admitted, response, self.opened.dropped)
        async with response, self.caller.received.request.disconnect_watcher:
            await self.writer.start_stream(response.status, headers)
            if self.refused_key is None:
                await self.forward_chunks()
                rest = meter.finish()
                await self.recorder.store()
                if rest:
                    await client.send(rest)
        failure = self.refused_key or meter.error
        if failure is not None:
            account = self.admitted.planned.candidate.target.account
            raise errors.upstream_error(relayed_errors.for_client(failure, account))

    @property
    def refused_key(self) -> ApiError | None:
        """Return the error if the stream begins with the provider's rejection of the account's key.

        The event of the error is not forwarded, because the client would take it for a rejection of its
        gateway key.
        """
        error, account = self.opened.opening.error, self.admitted.planned.candidate.target.account
        return error if error is not None and relayed_errors.is_refused_key(error, account) else None

    async def forward_chunks(self) -> None:
        """Forward the chunks up to a failure of the provider."""
        for chunk in self.opened.opening.first_chunks:
            await self.forward(chunk)
            if self.meter.error is not None:
                return
        async for chunk in self.opened.opening.chunks:
            await self.forward(chunk)
            if self.meter.error is not None:
                return

    async def forward(self, chunk: bytes) -> None:
        """Meter a chunk, and forward it up to an event by which the provider rejects the account's key.

        Raises GatewayError for such an event, and if the reservation is used up.
        """
        if ERROR_MARKER not in chunk or not ERROR_EVENT.search(chunk):
            await self.forward_passed(chunk)
            return
        passed, refused = self.split_at_refused_key(chunk)
        await self.forward_passed(passed)
        if refused is not None:
            account = self.admitted.planned.candidate.target.account
            raise errors.upstream_error(relayed_errors.for_client(refused, account))

    def split_at_refused_key(self, chunk: bytes) -> tuple[bytes, ApiError | None]:
        """Return the part of a chunk before a rejection of the account's key, and the error of that event.

        The error is None if there is no such event. An event that began in an earlier chunk is not found,
        because the client already has a part of it.
        """
        candidate, splitter, passed = self.admitted.planned.candidate, EventSplitter(), b""
        for event in [*splitter.feed(chunk), splitter.finish()]:
            error = candidate.plan.opening_error(event, is_complete=True)
            if error is not None and relayed_errors.is_refused_key(error, candidate.target.account):
                return passed, error
            passed += event
        return chunk, None

    async def forward_passed(self, chunk: bytes) -> None:
        """Meter and forward a chunk. Raises GatewayError if the reservation is used up."""
        meter, client = self.meter, self.client
        data = meter.feed(chunk)
        if self.may_continue and (id := self.recorder.response_id):
            await self.store_background_response(id)
        if meter.saw_final_event:
            # The client may disconnect after the final event, and use an id at once, so the ids must be
            # stored first.
            await self.recorder.store()
        if data:
            await client.send(data)
        client.is_complete = meter.saw_final_event
        if self.first_token_at is None and meter.output_tokens:
            self.first_token_at = time.perf_counter()
        if meter.error is None and meter.min_output_tokens > self.admitted.abort_after_tokens:
            raise errors.budget_exhausted_midstream()

    async def store_background_response(self, id: str) -> None:
        """Store what is needed to fetch and charge the response if its stream is interrupted."""
        self.may_continue, self.is_stored = False, await deferral.store(self.admitted, id)
        await self.recorder.store()

    async def send_error(self, error: GatewayError) -> bool:
        """Send the error as the last event of the stream. Return whether the client received it."""
        event = self.meter.render_error_event(error.api_error, self.caller.received.request_id)
        try:
            return await self.client.send_final(event)
        except asyncio.CancelledError:
            outlive_cancellation()
        except Exception as failure:
            log.error(
                "stream_error_not_sent",
                message="The client did not receive the reason why its stream ended.",
                request_id=self.caller.received.request_id,
                exc_info=failure,
            )
        return False

    def result(self, error: GatewayError | None) -> RequestResult:
        """Return how the stream ended, and the charge for what it used."""
        meter, response = self.meter, self.opened.response
        succeeded = error is None and not meter.provider_failed
        is_deferred = self.is_stored and not (meter.saw_final_event and meter.usage is not None)
        usage = streamed_usage(self.admitted, meter, is_complete=succeeded or is_json(response))
        if error is not None:
            outcome, status, code = error.outcome, error.status, error.api_error.code
        elif meter.provider_failed:
            outcome, status, code = Outcome.UPSTREAM_ERROR, 502, "upstream_status"
        else:
            outcome, status, code = Outcome.OK, response.status, ""
        is_billed = not self.opened.opening.is_unbilled_error or meter.usage is not None
        charged = charge_reported(self.admitted, usage, response) if is_billed and not is_deferred else None
        return RequestResult(
            outcome,
            status,
            code,
            charged,
            self.first_token_at,
            dropped=self.opened.dropped,
            error_type="" if error is None else error.api_error.kind,
            is_deferred=is_deferred,
            was_background=self.is_stored and not is_deferred,
        )


def client_headers(admitted: Admitted, response: UpstreamResponse, dropped: tuple[str, ...]) -> Headers:
    """Return the headers of a relayed response."""
    plan = admitted.planned.candidate.plan
    return {
        **forwarded_headers(plan, response),
        **own_rate_limits(admitted, response),
        **with_dropped(admitted.headers(), dropped),
    }


def own_rate_limits(admitted: Admitted, response: UpstreamResponse) -> Headers:
    """Return the rate limits that Anthropic states for a project's own credential.

    Claude Code shows them. The rate limits of a shared account say nothing about one project.
    """
    account = admitted.planned.candidate.target.account
    format = admitted.planned.routed.parsed.caller.received.operation.format
    if format != MESSAGES_FORMAT or account.can_be_shared or MESSAGES_FORMAT not in account.formats:
        return {}
    return {
        name.lower(): value
        for name, value in response.headers.items()
        if name.lower().startswith(OWN_RATE_LIMITS)
    }


def forwarded_headers(plan: UpstreamPlan, response: UpstreamResponse) -> Headers:
    """Return the provider's headers for the client, with the content type of the client's format."""
    relayed = {
        name: response.headers[name] for name in FORWARDED_RESPONSE_HEADERS if name in response.headers
    }
    content_type = plan.content_type(response)
    return {**relayed, "content-type": content_type} if content_type else relayed
