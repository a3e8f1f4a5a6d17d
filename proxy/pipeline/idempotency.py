"""Idempotency-Key: a repeated request gets the first one's response, and is not run or billed again.

The statuses are those of draft-ietf-httpapi-idempotency-key-header and of Stripe. The response is 409 while
the first request is in progress, and 422 if the key was used for another request. Unlike Stripe, the gateway
stores no failures, because SDKs retry a failed request under the same key and expect it to run. Only a
complete response is stored, for 24 hours. The key is released if the request was denied, failed, was aborted
by the client, or has a response larger than MAX_STORED_BYTES. The usage of such a request is charged.

A key belongs to a project. The database decides which request runs, so any number of processes agree. While
the database is down, requests with a key are not run.
"""

import asyncio
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import msgspec
import structlog
from django.db import Error as DatabaseError
from django.utils.crypto import salted_hmac

from billing.models import Outcome
from billing.money import decimal_usd
from projects import vault
from projects.db.executor import run_query
from projects.redaction import contains_key
from proxy import errors
from proxy.formats.codec import ClientRequest
from proxy.http.cancellation import outliving_cancellation
from proxy.http.responses import ChunkedResponse, Headers, Response, ResponseWriter
from proxy.models import IdempotentRequest
from proxy.pipeline.parse import Parsed
from proxy.pipeline.responses import rate_limit_headers
from proxy.pipeline.route import Planned
from proxy.pipeline.settle import RequestResult

HEADER = b"idempotency-key"
MAX_KEY_LENGTH = 255
MAX_STORED_BYTES = 4 * 1024 * 1024
LEASE_RENEW_INTERVAL_S = 10
RETRY_DELAYS_S = (0.05, 0.1, 0.2)
PER_REQUEST_HEADERS = (
    *("x-request-id", "x-cost-usd", "x-gateway-attempts", "x-gateway-overhead-ms", "x-gateway-cache", "age"),
    *("x-ratelimit-", "anthropic-ratelimit-"),
)
"""Prefixes of headers that describe the first request, so a replayed response does not contain them."""

log = structlog.get_logger()


class KeyInUse(Exception):
    """The first request with this key has not ended."""


class StoredResponse(msgspec.Struct):
    """A response as it was sent. The chunks of a stream are kept separate."""

    status: int
    headers: Headers
    chunks: list[bytes]
    is_stream: bool

    def encrypt(self, project_id: int) -> str:
        """Encrypt the response with the project's encryption key."""
        return vault.seal(project_id, b64encode(zlib.compress(msgspec.msgpack.encode(self), 1)).decode())

    @classmethod
    def decrypt(cls, project_id: int, ciphertext: str) -> "StoredResponse":
        """Decrypt a stored response. Raises vault.DecryptionError."""
        return msgspec.msgpack.decode(
            zlib.decompress(b64decode(vault.unseal(project_id, ciphertext))), type=cls
        )


@dataclass(frozen=True, slots=True)
class Run:
    """The request must run. `writer` is the client's writer, or one that also stores the response."""

    writer: ResponseWriter


@dataclass(frozen=True, slots=True)
class Replay:
    """The first request with the same key has this response."""

    stored: StoredResponse


async def claim(parsed: Parsed[ClientRequest], writer: ResponseWriter) -> Run | Replay:
    """Decide whether the request runs. A request without an Idempotency-Key always runs.

    Raises GatewayError if the key is malformed, in use, or was used for another request, and DatabaseError.
    """
    if HEADER not in parsed.caller.received.request.raw_headers:
        return Run(writer)
    lease = Lease(parsed)
    stored = await lease.acquire()
    return Run(StoringWriter(writer, lease)) if stored is None else Replay(stored)


async def replay(planned: Planned, replayed: Replay, writer: ResponseWriter) -> RequestResult:
    """Send the stored response. It costs nothing."""
    stored = replayed.stored
    headers = {
        **planned.headers(),
        **await rate_limit_headers(planned, Outcome.CACHED),
        **stored.headers,
        "x-cost-usd": decimal_usd(0),
        "idempotent-replayed": "true",
    }
    writer.respond(
        ChunkedResponse(stored.status, headers, stored.chunks)
        if stored.is_stream
        else Response(stored.status, headers, b"".join(stored.chunks))
    )
    return RequestResult(Outcome.CACHED, stored.status)


class Lease:
    """The right of a request to run with its key.

    The request's task renews the lease while it runs. If the process is killed, the lease expires within 45
    seconds. The key can then be used again.
    """

    def __init__(self, parsed: Parsed[ClientRequest]) -> None:
        self.parsed = parsed
        self.project_id = parsed.caller.principal.project_id
        self.request_id = parsed.caller.received.request_id
        self.claim_id = uuid4()
        self.renew_task: asyncio.Task[None] | None = None

    async def acquire(self) -> StoredResponse | None:
        """Return the stored response, or None if this request must run. Raises GatewayError."""
        key = self.parsed.caller.received.request.header(HEADER)
        if not (0 < len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable()):
            raise errors.idempotency_key_malformed()
        if contains_key(key):
            raise errors.idempotency_key_is_secret()
        stored = await self._find_or_claim_with_retries(key)
        if stored is None:
            self.renew_task = asyncio.create_task(self._renew(asyncio.current_task()))
        return stored

    async def _find_or_claim_with_retries(self, key: str) -> StoredResponse | None:
        """Find the response or claim the key. Retry for a short time while the key is in use.

        A response is stored only after its last byte has been sent. Without the retries, a client that
        repeats its request at once could get a conflict.
        """
        for delay in RETRY_DELAYS_S:
            with suppress(KeyInUse):
                return await run_query(self._find_or_claim, key)
            await asyncio.sleep(delay)
        raise errors.idempotency_key_in_use()

    def _find_or_claim(self, key: str) -> StoredResponse | None:
        requested = fingerprint(self.parsed)
        first = IdempotentRequest.objects.claim(self.project_id, key, requested, self.claim_id)
        if first is None:
            raise KeyInUse
        if first.claim_id == self.claim_id:
            return None
        if first.fingerprint != requested:
            raise errors.idempotency_key_reused()
        if not first.sealed_response:
            raise KeyInUse
        try:
            return StoredResponse.decrypt(self.project_id, first.sealed_response)
        except vault.DecryptionError:
            raise errors.stored_response_unreadable() from None

    async def _renew(self, request: asyncio.Task[Any] | None) -> None:
        while request is not None and not request.done():
            await asyncio.sleep(LEASE_RENEW_INTERVAL_S)
            with suppress(DatabaseError):
                await run_query(IdempotentRequest.objects.renew, self.claim_id)

    async def complete(self, stored: StoredResponse) -> None:
        """Store the response, which ends the lease."""
        await self._end(
            lambda: IdempotentRequest.objects.complete(self.claim_id, stored.encrypt(self.project_id))
        )

    async def release(self) -> None:
        """Release the key, so that another request can use it."""
        await self._end(lambda: IdempotentRequest.objects.release(self.claim_id))

    async def _end(self, query: Callable[[], Any]) -> None:
        """Write the end of the lease.

        If that fails, the client still gets its response, and the lease expires.
        """
        if self.renew_task is not None:
            self.renew_task.cancel()
        try:
            with outliving_cancellation():
                await run_query(query)
        except DatabaseError as error:
            log.error(
                "idempotency_key_not_written",
                message="An idempotency key was not written. It can be used again when its lease expires.",
                request_id=self.request_id,
                reason=str(error),
            )


class StoringWriter:
    """Writes a response to the client, and stores it with its key when it is complete."""

    def __init__(self, inner: ResponseWriter, lease: Lease) -> None:
        self.inner, self.lease = inner, lease
        self.status, self.headers, self.is_stream = 0, Headers(), False
        self.chunks: list[bytes] = []
        self.size = 0

    def respond(self, response: Response | ChunkedResponse) -> None:
        """Keep a copy of a non-streaming response, and pass the response on."""
        self._begin(response.status, response.headers, is_stream=False)
        for chunk in response.chunks:
            self._keep(chunk)
        self.inner.respond(response)

    async def start_stream(self, status: int, headers: Headers) -> None:
        """Send the status and the headers of a stream."""
        self._begin(status, headers, is_stream=True)
        await self.inner.start_stream(status, headers)

    async def write(self, chunk: bytes) -> None:
        """Send one chunk of the stream."""
        self._keep(chunk)
        await self.inner.write(chunk)

    def abandon(self) -> None:
        """End the connection without the end of the stream."""
        self.inner.abandon()

    async def finish(self, *, succeeded: bool) -> None:
        """Store the response if the request succeeded, and then complete it for the client."""
        if succeeded and self.size <= MAX_STORED_BYTES:
            await self.lease.complete(self._stored())
        else:
            await self.lease.release()
        await self.inner.finish(succeeded=succeeded)

    def _begin(self, status: int, headers: Headers, *, is_stream: bool) -> None:
        self.status, self.headers, self.is_stream = status, headers, is_stream

    def _keep(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.size <= MAX_STORED_BYTES:
            self.chunks.append(chunk)

    def _stored(self) -> StoredResponse:
        headers = {
            name: value for name, value in self.headers.items() if not name.startswith(PER_REQUEST_HEADERS)
        }
        headers["x-gateway-original-request"] = self.lease.request_id
        return StoredResponse(self.status, headers, self.chunks, self.is_stream)


def fingerprint(parsed: Parsed[ClientRequest]) -> str:
    """Return a keyed digest of the request.

    Somebody who has a dump of the database, but not this key, cannot check a guessed request.
    """
    operation = parsed.caller.received.operation
    head = f"{operation.name} {operation.format} {sorted(parsed.url_params.items())}\n".encode()
    body = parsed.client_request.body
    return salted_hmac("proxy.idempotency", head + body, algorithm="sha256").hexdigest()
