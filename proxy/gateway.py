"""Process a billable request: each stage takes the value that the previous stage returned."""

import asyncio
from typing import Any

from django.conf import settings

from proxy.formats.codec import ClientRequest
from proxy.http.request import GatewayRequest
from proxy.http.responses import ResponseWriter
from proxy.operations import BodyOperation
from proxy.pipeline import idempotency
from proxy.pipeline.admission import admit_cached, reserve
from proxy.pipeline.attempts.sequence import AttemptSequence
from proxy.pipeline.authenticate import authenticate, authorize, receive
from proxy.pipeline.early_stream import early_stream
from proxy.pipeline.idempotency import Replay, Run
from proxy.pipeline.parse import parse
from proxy.pipeline.relay import relay
from proxy.pipeline.response_cache.lookup import Miss, lookup
from proxy.pipeline.response_cache.recorder import NO_RECORDING, Recording
from proxy.pipeline.response_cache.replay import Hit
from proxy.pipeline.responses import respond_with_error
from proxy.pipeline.route import plan, route
from proxy.pipeline.settle import INTERRUPTED, Progress, settle
from proxy.prompt_log.response_writer import capturing_writer


async def handle(
    request: GatewayRequest,
    writer: ResponseWriter,
    operation: BodyOperation[ClientRequest],
    **url_params: Any,
) -> None:
    """Respond to a request, and settle it in every case.

    Errors are in the format of the operation.
    """
    received = receive(request, operation)
    progress: Progress = received
    result = INTERRUPTED
    recording: Recording = NO_RECORDING
    try:
        progress = caller = await authenticate(received)
        authorize(caller)
        progress = parsed = await parse(caller, operation.parse, url_params)
        writer = await capturing_writer(parsed, writer)
        progress = routed = await route(parsed)
        progress = planned = await plan(routed)
        match await idempotency.claim(parsed, writer):
            case Replay() as stored:
                result = await idempotency.replay(planned, stored, writer)
            case Run(writer):
                writer = early_stream(planned, writer)
                match await lookup(planned, writer):
                    case Hit() as hit:
                        progress = admitted = await admit_cached(planned)
                        result = hit.replay(admitted, writer)
                    case Miss(recording):
                        progress = admitted = await reserve(planned)
                        progress = sequence = AttemptSequence(admitted)
                        writer = recording.wrap(writer)
                        with request.disconnect_watcher.abort_after(settings.ENV.gateway_total_timeout_s):
                            attempted = await sequence.run()
                            result = await relay(sequence.admitted, attempted, writer)
    except (Exception, asyncio.CancelledError) as error:
        result = await respond_with_error(progress, error, writer)
    finally:
        # `finish` completes the response for the client, so the usage record exists before the client has it.
        await settle(progress, result)
        await recording.end(result)
        await writer.finish(succeeded=result.succeeded)
