"""Recorder of a response: a writer that copies what it sends, and stores the copy at the end."""

import time
from typing import Protocol

import structlog

from billing.models import Outcome
from proxy.cache import store
from proxy.cache.entry import MAX_BODY_BYTES, CachedResponse
from proxy.cache.key import form_of
from proxy.cache.single_flight import Failure, Flight, FlightResult, Unshared
from proxy.cache.store import Lease
from proxy.formats.neutral import ApiError
from proxy.formats.registry import CODECS
from proxy.http.responses import ChunkedResponse, Headers, Response, ResponseWriter
from proxy.pipeline.charges import Charge
from proxy.pipeline.response_cache.policy import CacheUse, may_be_stored
from proxy.pipeline.response_cache.replay import decode_response
from proxy.pipeline.route import Planned
from proxy.pipeline.settle import RequestResult

CACHE_HEADER = "x-gateway-cache"
LIMIT_HEADER = "x-gateway-max-tokens"
"""Header of a response whose output limit the gateway has set."""
TARGET_HEADERS = ("x-gateway-provider", "x-gateway-model")
SHARED_ERROR_HEADERS = ("retry-after", "retry-after-ms", "x-should-retry")

STREAM_FAILED = ApiError(
    kind="server_error",
    code="upstream_status",
    message="An identical request failed at the provider while this one waited for its response. Try again.",
    status=502,
)

log = structlog.get_logger()


class Recording(Protocol):
    """Records the response of a request, and stores it when the request ends, if it may be stored."""

    def wrap(self, writer: ResponseWriter) -> ResponseWriter:
        """Return the writer that the response must be written to. It writes to `writer`."""

    async def end(self, result: RequestResult) -> None:
        """Store the response, and pass it to the requests that wait for it."""


class NoRecording:
    """The recording of a request that does not use the cache."""

    def wrap(self, writer: ResponseWriter) -> ResponseWriter:
        """Return the writer unchanged."""
        return writer

    async def end(self, result: RequestResult) -> None:
        """Do nothing."""


NO_RECORDING = NoRecording()


class CacheStatusWriter:
    """Writes a response, with the header that says how the request used the cache."""

    def __init__(self, inner: ResponseWriter, status: str) -> None:
        self.inner, self.cache_status = inner, status

    def wrap(self, writer: ResponseWriter) -> ResponseWriter:
        """Write to `writer` from now on, and return this writer."""
        self.inner = writer
        return self

    def respond(self, response: Response | ChunkedResponse) -> None:
        """Pass a non-streaming response on."""
        response.headers[CACHE_HEADER] = self.cache_status
        self.inner.respond(response)

    async def start_stream(self, status: int, headers: Headers) -> None:
        """Send the status and the headers of a stream."""
        await self.inner.start_stream(status, {**headers, CACHE_HEADER: self.cache_status})

    async def write(self, chunk: bytes) -> None:
        """Send one chunk of the stream."""
        await self.inner.write(chunk)

    def abandon(self) -> None:
        """End the connection without the end of the stream."""
        self.inner.abandon()

    async def finish(self, *, succeeded: bool) -> None:
        """Complete the response for the client."""
        await self.inner.finish(succeeded=succeeded)

    async def end(self, _result: RequestResult) -> None:
        """Store nothing."""


class RecordingWriter(CacheStatusWriter):
    """Writes a response that was not in the cache, and keeps a copy up to MAX_BODY_BYTES.

    `flight` and `lease` are None if the request does not share its response while it is fetched.
    """

    def __init__(
        self,
        inner: ResponseWriter,
        planned: Planned,
        key: str,
        use: CacheUse,
        flight: Flight | None = None,
        lease: Lease | None = None,
    ) -> None:
        super().__init__(inner, "miss")
        self.planned, self.key, self.use, self.flight, self.lease = planned, key, use, flight, lease
        self.status, self.headers, self.chunks, self.size = 0, Headers(), list[bytes](), 0

    def respond(self, response: Response | ChunkedResponse) -> None:
        """Keep a copy of a non-streaming response, and pass the response on."""
        self.status, self.headers = response.status, response.headers
        for chunk in response.chunks:
            self._keep(chunk)
        super().respond(response)

    async def start_stream(self, status: int, headers: Headers) -> None:
        """Send the status and the headers of a stream."""
        self.status, self.headers = status, headers
        await super().start_stream(status, headers)

    async def write(self, chunk: bytes) -> None:
        """Keep a copy of a chunk, and send the chunk."""
        self._keep(chunk)
        await super().write(chunk)

    def _keep(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.size <= MAX_BODY_BYTES:
            self.chunks.append(chunk)

    async def end(self, result: RequestResult) -> None:
        """Store the response, and pass it to the requests that wait for it.

        A failure is only logged, because the client must still get the end of its response.
        """
        shared: FlightResult = Unshared.NOT_STORABLE
        try:
            shared = await self._store(result)
        except Exception as error:
            message = "A response could not be stored in the response cache."
            log.error("response_not_cached", message=message, exc_info=error)
        if self.flight is not None:
            self.flight.end(shared)
        if self.lease is not None:
            await self.lease.release()

    async def _store(self, result: RequestResult) -> FlightResult:
        """Store the response if it may be stored. Return the result for the requests that wait for it."""
        response = self._storable_response(result)
        if response is None:
            return self._unstored_result(result)
        project_id = self.planned.routed.parsed.caller.principal.project_id
        await store.current().put(project_id, self.key, response)
        return response

    def _storable_response(self, result: RequestResult) -> CachedResponse | None:
        """Return the response, or None if it may not be stored."""
        is_complete = result.outcome is Outcome.OK and self.status == 200 and self.size <= MAX_BODY_BYTES
        if result.charge is None or not is_complete or not self._is_from_first_target():
            return None
        response = self._response(result.charge)
        return response if self._has_ended_well(response) else None

    def _is_from_first_target(self) -> bool:
        """Return whether the request was served by the target in its cache key, and not by another target."""
        planned = self.planned.headers()
        return all(self.headers.get(name) == planned[name] for name in TARGET_HEADERS)

    def _response(self, charge: Charge) -> CachedResponse:
        now = time.time()
        return CachedResponse(
            form=form_of(self.planned.routed.parsed.client_request),
            content_type=self.headers.get("content-type", ""),
            dropped=self.headers.get("x-gateway-dropped", ""),
            body=b"".join(self.chunks),
            usage=charge.usage,
            cost_nano=charge.cost_nano,
            created_at=now,
            expires_at=now + self.use.ttl_s,
        )

    def _has_ended_well(self, response: CachedResponse) -> bool:
        """Return whether the response is complete, and using it again has no side effects.

        Embeddings and text completions cannot be decoded, so they count as complete unless the gateway has
        set an output limit.
        """
        operation = self.planned.routed.parsed.caller.received.operation
        is_limited = LIMIT_HEADER in self.headers
        if not operation.convertible:
            return not is_limited
        decoded = decode_response(CODECS[operation.format], response)
        return decoded is not None and may_be_stored(decoded, is_limited=is_limited)

    def _unstored_result(self, result: RequestResult) -> FlightResult:
        """Return the result for the requests that wait for this one if its response is not stored."""
        match result.outcome:
            case Outcome.OK:
                return Unshared.NOT_STORABLE
            case Outcome.UPSTREAM_ERROR:
                return self._failure()
            case _:
                return Unshared.ABANDONED

    def _failure(self) -> Failure:
        if self.status < 400:
            return Failure(STREAM_FAILED, {})
        codec = CODECS[self.planned.routed.parsed.caller.received.operation.format]
        api_error = codec.parse_error(self.status, b"".join(self.chunks))
        headers = {name: self.headers[name] for name in SHARED_ERROR_HEADERS if name in self.headers}
        return Failure(api_error, headers)
