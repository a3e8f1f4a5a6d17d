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
from projects.configcache import read
from projects.redaction import contains_key
from proxy import errors
from proxy.exchange import Exchange
from proxy.lean import GatewayRequest, Headers, LeanResponse, Reply, Stream, outliving_cancellation
from proxy.models import IdempotentRequest
from proxy.operations import Operation

HEADER = b"idempotency-key"
MAX_KEY_LENGTH = 255
MAX_STORED_BYTES = 4 * 1024 * 1024
RENEW_S = 10
PAUSES_S = (0.05, 0.1, 0.2)
OF_ONE_REQUEST = ("x-request-id", "x-cost-usd", "x-gateway-overhead-ms", "x-ratelimit-")
"""Beginnings of the names of headers that tell of the first request, and not of its answer."""

Send = Callable[[bytes], Awaitable[None]]

log = structlog.get_logger()


class InUse(Exception):
    """The first request under this key has not ended."""


class Stored(msgspec.Struct):
    """An answer as it went out: a stream in the chunks in which it came."""

    status: int
    headers: Headers
    chunks: list[bytes]
    is_stream: bool

    def seal(self, project_id: int) -> str:
        return vault.seal(project_id, b64encode(zlib.compress(msgspec.msgpack.encode(self), 1)).decode())

    @classmethod
    def unseal(cls, project_id: int, sealed: str) -> "Stored":
        """Raises vault.Undecipherable."""
        return msgspec.msgpack.decode(zlib.decompress(b64decode(vault.unseal(project_id, sealed))), type=cls)

    def response(self, headers: Headers) -> LeanResponse:
        headers = {**headers, **self.headers, "x-cost-usd": decimal_usd(0), "idempotent-replayed": "true"}
        return Stream(self.status, headers, self.write) if self.is_stream else Reply(self.status, headers, b"".join(self.chunks))

    async def write(self, send: Send) -> None:
        for chunk in self.chunks:
            await send(chunk)


def is_asked(request: GatewayRequest) -> bool:
    return HEADER in request.raw_headers


async def once(exchange: Exchange, address: dict[str, Any], body: bytes, run: Callable[[], Awaitable[LeanResponse]]) -> LeanResponse:
    """The stored answer where there is one, else what `run` answers; `address` and `body` are what tells requests apart."""
    claim = Claim(exchange)
    try:
        stored = await claim.take(address, body)
    except Exception as error:
        return await exchange.refuse(errors.of(error))
    if stored is not None:
        await exchange.finish(Outcome.CACHED, stored.status)
        return stored.response(exchange.headers())
    try:
        response = await run()
    except BaseException:
        await claim.free()
        raise
    return await claim.pass_on(response)


class Claim:
    """A request's right to run under its key. It is a lease, so that a killed process keeps no key: renewed while the request's task
    lives, it lapses within 45 seconds."""

    def __init__(self, exchange: Exchange) -> None:
        assert exchange.grant is not None
        self.exchange = exchange
        self.project_id = exchange.grant.project_id
        self.owner = uuid4()
        self.renewal: asyncio.Task[None] | None = None

    async def take(self, address: dict[str, Any], body: bytes) -> Stored | None:
        """None where this request is to run. Raises GatewayError where the key is in use, or was used for another request."""
        key = self.exchange.request.header(HEADER)
        if not (0 < len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable()):
            raise errors.idempotency_key_malformed()
        if contains_key(key):
            raise errors.idempotency_key_is_secret()
        stored = await self.look_up_patiently(key, address, body)
        if stored is None:
            self.renewal = asyncio.create_task(self.renew(asyncio.current_task()))
        return stored

    async def look_up_patiently(self, key: str, address: dict[str, Any], body: bytes) -> Stored | None:
        """An answer is stored when its last byte is out: a client that repeats itself at once is not told of a conflict."""
        for pause in PAUSES_S:
            with suppress(InUse):
                return await read(self.look_up, key, address, body)
            await asyncio.sleep(pause)
        raise errors.idempotency_key_in_use()

    def look_up(self, key: str, address: dict[str, Any], body: bytes) -> Stored | None:
        asked = fingerprint(self.exchange.operation, address, body)
        first = IdempotentRequest.objects.claim(self.project_id, key, asked, self.owner)
        if first is None:
            raise InUse
        if first.owner == self.owner:
            return None
        if first.fingerprint != asked:
            raise errors.idempotency_key_reused()
        if not first.sealed_answer:
            raise InUse
        try:
            return Stored.unseal(self.project_id, first.sealed_answer)
        except vault.Undecipherable:
            raise errors.stored_answer_unreadable() from None

    async def renew(self, request: asyncio.Task[Any] | None) -> None:
        while request is not None and not request.done():
            await asyncio.sleep(RENEW_S)
            with suppress(DatabaseError):
                await read(IdempotentRequest.objects.renew, self.owner)

    async def pass_on(self, response: LeanResponse) -> LeanResponse:
        """The same answer, which is stored as soon as it is whole."""
        if isinstance(response, Stream):
            return Stream(response.status, response.headers, lambda send: self.copy(response, send))
        await self.end(response, [response.body], len(response.body))
        return response

    async def copy(self, stream: Stream, send: Send) -> None:
        chunks: list[bytes] = []
        size = 0

        async def send_and_keep(chunk: bytes) -> None:
            nonlocal size
            size += len(chunk)
            if size <= MAX_STORED_BYTES:
                chunks.append(chunk)
            await send(chunk)

        try:
            await stream.write(send_and_keep)
        except BaseException:
            await self.free()
            raise
        await self.end(stream, chunks, size)

    async def end(self, response: LeanResponse, chunks: list[bytes], size: int) -> None:
        entry = self.exchange.entry
        if entry is None or entry.outcome != Outcome.OK.value or size > MAX_STORED_BYTES:
            await self.free()
            return
        headers = {name: value for name, value in response.headers.items() if not name.startswith(OF_ONE_REQUEST)}
        headers["x-gateway-original-request"] = self.exchange.request_id
        stored = Stored(response.status, headers, chunks, isinstance(response, Stream))
        await self.write(lambda: IdempotentRequest.objects.keep(self.owner, stored.seal(self.project_id)))

    async def free(self) -> None:
        await self.write(lambda: IdempotentRequest.objects.free(self.owner))

    async def write(self, query: Callable[[], Any]) -> None:
        """The caller gets the answer in any case: a key that cannot be freed now is free when the lease has lapsed."""
        if self.renewal is not None:
            self.renewal.cancel()
        try:
            with outliving_cancellation():
                await read(query)
        except DatabaseError as error:
            log.error("an idempotency key could not be written", request_id=self.exchange.request_id, reason=str(error))


def fingerprint(operation: Operation, address: dict[str, Any], body: bytes) -> str:
    """Keyed, so that a database dump confirms no guess at what was asked."""
    head = f"{operation.name} {operation.format} {sorted(address.items())}\n".encode()
    return salted_hmac("proxy.idempotency", head + body, algorithm="sha256").hexdigest()
