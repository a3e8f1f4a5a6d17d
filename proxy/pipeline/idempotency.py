"""Idempotency-Key: a request that is sent again under the same key gets the first one's answer, without being run or billed again.

The words are those of draft-ietf-httpapi-idempotency-key-header and of Stripe: 409 while the first request is under way, 422 where the
key comes with another request. Unlike Stripe's, a failure is not kept: SDKs repeat what failed under the same key, and mean
another try. So only a whole answer is stored, for 24 hours. What was refused, failed, was broken off by the client, or is larger than
MAX_STORED_BYTES frees the key; what it used until then has been charged.

Keys belong to a project. The database decides who runs, so that any number of processes agree; without it nothing is run.
"""

import asyncio
import zlib
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from contextlib import suppress
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
from proxy.http.handler import (
    GatewayRequest,
    GatewayResponse,
    Headers,
    Response,
    StreamingResponse,
    outliving_cancellation,
)
from proxy.models import IdempotentRequest
from proxy.operations import Operation
from proxy.pipeline.exchange import Exchange

HEADER = b"idempotency-key"
MAX_KEY_LENGTH = 255
MAX_STORED_BYTES = 4 * 1024 * 1024
LEASE_RENEW_INTERVAL_S = 10
RETRY_DELAYS_S = (0.05, 0.1, 0.2)
PER_REQUEST_HEADERS = ("x-request-id", "x-cost-usd", "x-gateway-overhead-ms", "x-ratelimit-")
"""Beginnings of the names of headers that tell of the first request, and not of its answer."""

Send = Callable[[bytes], Awaitable[None]]

log = structlog.get_logger()


class KeyInUse(Exception):
    """The first request under this key has not ended."""


class StoredResponse(msgspec.Struct):
    """An answer as it went out: a stream in the chunks in which it came."""

    status: int
    headers: Headers
    chunks: list[bytes]
    is_stream: bool

    def encrypt(self, project_id: int) -> str:
        return vault.seal(project_id, b64encode(zlib.compress(msgspec.msgpack.encode(self), 1)).decode())

    @classmethod
    def decrypt(cls, project_id: int, ciphertext: str) -> "StoredResponse":
        """Raises vault.Undecipherable."""
        return msgspec.msgpack.decode(
            zlib.decompress(b64decode(vault.unseal(project_id, ciphertext))), type=cls
        )

    def to_response(self, headers: Headers) -> GatewayResponse:
        headers = {**headers, **self.headers, "x-cost-usd": decimal_usd(0), "idempotent-replayed": "true"}
        return (
            StreamingResponse(self.status, headers, self.write)
            if self.is_stream
            else Response(self.status, headers, b"".join(self.chunks))
        )

    async def write(self, send: Send) -> None:
        for chunk in self.chunks:
            await send(chunk)


def is_requested(request: GatewayRequest) -> bool:
    return HEADER in request.raw_headers


async def run_once(
    exchange: Exchange, url_params: dict[str, Any], body: bytes, run: Callable[[], Awaitable[GatewayResponse]]
) -> GatewayResponse:
    """The stored answer where there is one, else what `run` answers; `url_params` and `body` are what tells requests apart."""
    claim = Claim(exchange)
    try:
        stored = await claim.acquire(url_params, body)
    except Exception as error:
        return await exchange.render_error(errors.from_exception(error))
    if stored is not None:
        await exchange.finish(Outcome.CACHED, stored.status)
        return stored.to_response(exchange.gateway_headers())
    try:
        response = await run()
    except BaseException:
        await claim.release()
        raise
    return await claim.capture(response)


class Claim:
    """A request's right to run under its key. It is a lease, so that a killed process keeps no key: renewed while the request's task
    lives, it lapses within 45 seconds.
    """

    def __init__(self, exchange: Exchange) -> None:
        assert exchange.principal is not None
        self.exchange = exchange
        self.project_id = exchange.principal.project_id
        self.claim_id = uuid4()
        self.renew_task: asyncio.Task[None] | None = None

    async def acquire(self, url_params: dict[str, Any], body: bytes) -> StoredResponse | None:
        """None where this request is to run. Raises GatewayError where the key is in use, or was used for another request."""
        key = self.exchange.request.header(HEADER)
        if not (0 < len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable()):
            raise errors.idempotency_key_malformed()
        if contains_key(key):
            raise errors.idempotency_key_is_secret()
        stored = await self._find_or_claim_with_retries(key, url_params, body)
        if stored is None:
            self.renew_task = asyncio.create_task(self._renew_lease(asyncio.current_task()))
        return stored

    async def _find_or_claim_with_retries(
        self, key: str, url_params: dict[str, Any], body: bytes
    ) -> StoredResponse | None:
        """An answer is stored when its last byte is out: a client that repeats itself at once is not told of a conflict."""
        for pause in RETRY_DELAYS_S:
            with suppress(KeyInUse):
                return await run_query(self._find_or_claim, key, url_params, body)
            await asyncio.sleep(pause)
        raise errors.idempotency_key_in_use()

    def _find_or_claim(self, key: str, url_params: dict[str, Any], body: bytes) -> StoredResponse | None:
        asked = fingerprint(self.exchange.operation, url_params, body)
        first = IdempotentRequest.objects.claim(self.project_id, key, asked, self.claim_id)
        if first is None:
            raise KeyInUse
        if first.claim_id == self.claim_id:
            return None
        if first.fingerprint != asked:
            raise errors.idempotency_key_reused()
        if not first.sealed_response:
            raise KeyInUse
        try:
            return StoredResponse.decrypt(self.project_id, first.sealed_response)
        except vault.DecryptionError:
            raise errors.stored_response_unreadable() from None

    async def _renew_lease(self, request: asyncio.Task[Any] | None) -> None:
        while request is not None and not request.done():
            await asyncio.sleep(LEASE_RENEW_INTERVAL_S)
            with suppress(DatabaseError):
                await run_query(IdempotentRequest.objects.renew, self.claim_id)

    async def capture(self, response: GatewayResponse) -> GatewayResponse:
        """The same answer, which is stored as soon as it is whole."""
        if isinstance(response, StreamingResponse):
            return StreamingResponse(
                response.status, response.headers, lambda send: self._capture_stream(response, send)
            )
        await self.complete(response, [response.body], len(response.body))
        return response

    async def _capture_stream(self, response: StreamingResponse, send: Send) -> None:
        chunks: list[bytes] = []
        size = 0

        async def send_and_keep(chunk: bytes) -> None:
            nonlocal size
            size += len(chunk)
            if size <= MAX_STORED_BYTES:
                chunks.append(chunk)
            await send(chunk)

        try:
            await response.write(send_and_keep)
        except BaseException:
            await self.release()
            raise
        await self.complete(response, chunks, size)

    async def complete(self, response: GatewayResponse, chunks: list[bytes], size: int) -> None:
        entry = self.exchange.usage_entry
        if entry is None or entry.outcome != Outcome.OK.value or size > MAX_STORED_BYTES:
            await self.release()
            return
        headers = {
            name: value
            for name, value in response.headers.items()
            if not name.startswith(PER_REQUEST_HEADERS)
        }
        headers["x-gateway-original-request"] = self.exchange.request_id
        stored = StoredResponse(response.status, headers, chunks, isinstance(response, StreamingResponse))
        await self._write(
            lambda: IdempotentRequest.objects.complete(self.claim_id, stored.encrypt(self.project_id))
        )

    async def release(self) -> None:
        await self._write(lambda: IdempotentRequest.objects.release(self.claim_id))

    async def _write(self, query: Callable[[], Any]) -> None:
        """The caller gets the answer in any case: a key that cannot be freed now is free when the lease has lapsed."""
        if self.renew_task is not None:
            self.renew_task.cancel()
        try:
            with outliving_cancellation():
                await run_query(query)
        except DatabaseError as error:
            log.error(
                "an idempotency key could not be written",
                request_id=self.exchange.request_id,
                reason=str(error),
            )


def fingerprint(operation: Operation, url_params: dict[str, Any], body: bytes) -> str:
    """Keyed, so that a database dump confirms no guess at what was asked."""
    head = f"{operation.name} {operation.format} {sorted(url_params.items())}\n".encode()
    return salted_hmac("proxy.idempotency", head + body, algorithm="sha256").hexdigest()
