"""Start the stream of a client that has waited long for its provider, and keep its connection open.

A loaded model may need a minute before it sends the headers of its stream, and calls may be repeated. Clients
and proxies close a connection on which nothing arrives. After GATEWAY_KEEPALIVE_AFTER_S, the client therefore
gets status 200 and keep-alives. A failure after that is an error event in the stream.
"""

import asyncio

from django.conf import settings

from billing.ledger import RateLimitStatus
from proxy import errors
from proxy.formats.codec import StreamEncoder
from proxy.formats.neutral import ApiError, InvalidUpstreamResponse, Request
from proxy.formats.registry import CODECS
from proxy.formats.streaming.part_queue import events_of_response
from proxy.http.client_stream import FINAL_WRITE_TIMEOUT_S, ClientStream
from proxy.http.responses import ChunkedResponse, Headers, Response, ResponseWriter
from proxy.pipeline.admission import rate_limit_status
from proxy.pipeline.route import Planned, Routed

EVENT_STREAM = "text/event-stream"
AS_ONE_EVENT = b"data: %s\n\ndata: [DONE]\n\n"
"""A non-streaming text completion as a stream. It is one event, because events have the same fields."""


def early_stream(planned: Planned, writer: ResponseWriter) -> ResponseWriter:
    """Return a writer that starts the stream early, if the client has asked for a stream."""
    is_stream = planned.routed.parsed.client_request.facts.stream
    return EarlyStream(planned.routed, writer) if is_stream else writer


class EarlyStream:
    """Writes a response to the client, whose stream may have started before the response is known.

    The headers of an early start do not name the target, the number of attempts or dropped settings, because
    they are not known yet.
    """

    def __init__(self, routed: Routed, inner: ResponseWriter) -> None:
        self.routed, self.inner = routed, inner
        self.client_request, self.caller = routed.parsed.client_request, routed.parsed.caller
        self.received = self.caller.received
        self.start_task: asyncio.Task[ClientStream] | None = None
        self.end_of_stream = b""
        delay_s = settings.ENV.gateway_keepalive_after_s
        self.timer = asyncio.get_running_loop().call_later(delay_s, self._start_early)

    def _start_early(self) -> None:
        self.start_task = asyncio.create_task(self._send_keepalives())

    async def _send_keepalives(self) -> ClientStream:
        """Start the stream with a keep-alive. The returned object sends the next ones until it is closed."""
        render = self.client_request.render_keepalive
        limits = await rate_limit_status(self.caller)
        await self.inner.start_stream(200, self._early_headers(limits))
        client = ClientStream(self.inner.write, render)
        await client.send(render(b""))
        return client

    def _early_headers(self, limits: RateLimitStatus) -> Headers:
        headers = {**self.routed.parsed.headers(), **self.routed.resolution.headers}
        headers["content-type"] = self.client_request.stream_content_type
        return headers | errors.rate_limit_headers(limits)

    async def _has_started_early(self) -> bool:
        """Stop the timer and the keep-alives. Return whether the client has the start of a stream."""
        self.timer.cancel()
        if self.start_task is None:
            return False
        (await self.start_task).close()
        return True

    def respond(self, response: Response | ChunkedResponse) -> None:
        """Keep a response. If the stream has started, `finish` sends the response as events."""
        self.timer.cancel()
        if self.start_task is None:
            self.inner.respond(response)
        else:
            self.end_of_stream = self.as_events(response)

    def as_events(self, response: Response | ChunkedResponse) -> bytes:
        """Return an error, or a non-streaming response, as the events of a stream.

        Some servers send a non-streaming response although the request asks for a stream.
        """
        body, operation = b"".join(response.chunks), self.received.operation
        is_stream = isinstance(response, ChunkedResponse)
        if is_stream or response.headers.get("content-type", "").startswith(EVENT_STREAM):
            return body
        if response.status >= 400:
            return self._error_event(CODECS[operation.format].parse_error(response.status, body))
        if not operation.convertible:
            return AS_ONE_EVENT % body
        try:
            events = events_of_response(CODECS[operation.format].parse_response(body))
        except InvalidUpstreamResponse as error:
            return self._error_event(errors.from_exception(error).api_error)
        encoder = self._encoder()
        return b"".join(map(encoder.encode, events)) + encoder.finish()

    def _encoder(self) -> StreamEncoder:
        request = Request(model=self.client_request.facts.model, messages=(), stream=True)
        return self.client_request.encoder(request)

    def _error_event(self, error: ApiError) -> bytes:
        # An encoder also sends the start of the response. Operations that are not converted have no encoder.
        is_generation = self.received.operation.convertible
        renderer = self._encoder() if is_generation else self.client_request.meter()
        return renderer.render_error_event(error, self.received.request_id)

    async def start_stream(self, status: int, headers: Headers) -> None:
        """Send the status and the headers of a stream, unless it has started early."""
        if not await self._has_started_early():
            await self.inner.start_stream(status, headers)

    async def write(self, chunk: bytes) -> None:
        """Send one chunk of the stream."""
        await self.inner.write(chunk)

    def abandon(self) -> None:
        """End the connection without the end of the stream."""
        self.inner.abandon()

    async def finish(self, *, succeeded: bool) -> None:
        """Send the response that `respond` kept, or the end of the stream."""
        await self._has_started_early()
        if self.end_of_stream and not await self._send_end():
            self.inner.abandon()
        await self.inner.finish(succeeded=succeeded)

    async def _send_end(self) -> bool:
        """Send the response as events. Return whether the client received it."""
        try:
            async with asyncio.timeout(FINAL_WRITE_TIMEOUT_S):
                await self.inner.write(self.end_of_stream)
        except TimeoutError:
            return False
        return True
