"""Django views without the cost of Django's request cycle: for gateway routes alone.

No middleware, no signals, no thread-local context, and the body is read only when the view asks for it, under a cap, so
that nothing is stored for a caller who has no key. See `docs/adr/0001-lean-handler.md`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from types import TracebackType
from typing import Any

from django.http import HttpRequest
from django.urls import Resolver404, ResolverMatch, resolve

Scope = Mapping[str, Any]
ASGIMessage = Mapping[str, Any]
Receive = Callable[[], Awaitable[ASGIMessage]]
Send = Callable[[ASGIMessage], Awaitable[None]]
Headers = dict[str, str]

CONTROL_CHARACTERS: dict[int, None] = dict.fromkeys((*range(32), 127))


class BodyTooLarge(Exception):
    """The body is larger than the cap; what had come of it is dropped."""


class ClientDisconnected(Exception):
    """The client has closed its connection."""


class ClientStalled(Exception):
    """The client does not read the rest of its stream."""


class GatewayRequest(HttpRequest):
    """A request whose body is still on the wire."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        # HttpRequest.__init__ builds half a dozen containers that no gateway route reads.
        self.scope = scope
        self.receive = receive
        self.path = self.path_info = scope["path"]
        self.method = scope["method"]
        self.raw_headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            self.raw_headers.setdefault(name, value)
        self.disconnect_watcher = DisconnectWatcher(receive)

    def header(self, name: bytes) -> str:
        """The first header of this name (lower case), or an empty string."""
        return self.raw_headers.get(name, b"").decode("latin-1")

    async def read_body(self, limit: int) -> bytes:
        """The whole body; raises BodyTooLarge beyond `limit` bytes, and ClientGone if it never ends."""
        parts: list[bytes] = []
        await self._receive_body(limit, parts.append)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def discard_body(self, limit: int) -> None:
        """Lets the body pass without keeping any of it; raises as `read_body` does."""
        await self._receive_body(limit, lambda _: None)

    async def _receive_body(self, limit: int, consume: Callable[[bytes], None]) -> None:
        """The server closes connections on which a body does not go on (`gateway_project/server.py`)."""
        length = self.header(b"content-length")
        if length.isdecimal() and int(length) > limit:
            raise BodyTooLarge
        size, more = 0, True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            size += len(message["body"])
            if size > limit:
                raise BodyTooLarge
            consume(message["body"])
            more = message["more_body"]


class DisconnectWatcher:
    """The client's side of a request whose body has been read. `async with` it around what is of no use without a client: the block
    is cancelled when the client goes, or when `abort` is called, and the reason comes out of it: ClientGone, or what `abort` was given.
    """

    def __init__(self, receive: Receive) -> None:
        self.receive = receive
        self.abort_reason: Exception | None = None
        self.watch_task: asyncio.Task[None] | None = None
        self.guarded_task: asyncio.Task[Any] | None = None

    async def _wait_for_disconnect(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.abort(ClientDisconnected())

    def abort(self, reason: Exception) -> None:
        """At once, or as soon as the block is entered."""
        if self.abort_reason is None:
            self.abort_reason = reason
            if self.guarded_task is not None:
                self.guarded_task.cancel()

    async def __aenter__(self) -> None:
        if self.abort_reason is not None:
            raise self.abort_reason
        if self.watch_task is None:
            self.watch_task = asyncio.create_task(self._wait_for_disconnect())
        self.guarded_task = asyncio.current_task()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self.guarded_task = self.guarded_task, None
        if self.abort_reason is not None and kind is asyncio.CancelledError and task is not None:
            task.uncancel()
            raise self.abort_reason from None

    def close(self) -> None:
        if self.watch_task is not None:
            self.watch_task.cancel()


class Response:
    """A complete answer."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    async def send_to(self, send: Send) -> None:
        headers = encode_headers(self.headers)
        headers.append((b"content-length", str(len(self.body)).encode()))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


class StreamingResponse:
    """An answer that is written while it comes: `write` is called once, with a function that sends one chunk."""

    def __init__(
        self,
        status: int,
        headers: Headers,
        write: Callable[[Callable[[bytes], Awaitable[None]]], Awaitable[None]],
    ) -> None:
        self.status, self.headers, self.write = status, headers, write

    async def send_to(self, send: Send) -> None:
        async def send_chunk(chunk: bytes) -> None:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

        await send(
            {"type": "http.response.start", "status": self.status, "headers": encode_headers(self.headers)}
        )
        await self.write(send_chunk)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


GatewayResponse = Response | StreamingResponse
GatewayView = Callable[..., Any]
"""As Django's URLconf sees it: a view, although it is called and answered here."""


@lru_cache(maxsize=1024)
def resolve_route(path: str) -> ResolverMatch | None:
    """The gateway route at this path, or None where Django's own handler answers."""
    try:
        match = resolve(path)
    except Resolver404:
        return None
    return match if hasattr(match.func, "operation") else None


async def dispatch(match: ResolverMatch, scope: Scope, receive: Receive, send: Send) -> None:
    request = GatewayRequest(scope, receive)
    try:
        response = await answer_of(match, request)
        with suppress(
            ClientStalled, asyncio.CancelledError
        ):  # The server closes a connection whose response has no end.
            await response.send_to(send)
    finally:
        request.disconnect_watcher.close()


async def answer_of(match: ResolverMatch, request: GatewayRequest) -> GatewayResponse:
    """Return the view's response, or a 503 if the server stops before the view has one."""
    try:
        response: GatewayResponse = await match.func(request, *match.args, **match.kwargs)
    except asyncio.CancelledError:
        outlive_cancellation()
        return stopped()
    return response


def stopped() -> Response:
    """Return what a request gets that the stopping server could not wait for, if no format of a client applies."""
    headers = {"content-type": "text/plain; charset=utf-8", "retry-after": "2", "cache-control": "no-store"}
    return Response(
        503, headers, b"The gateway was stopped before the answer ended. Try again in a moment.\n"
    )


@contextmanager
def outliving_cancellation() -> Iterator[None]:
    """Leave the block early if this task is cancelled in it, and go on behind it."""
    try:
        yield
    except asyncio.CancelledError:
        outlive_cancellation()


def outlive_cancellation() -> None:
    """Mark the cancellation of this task as handled: the server cancels tasks only to make them end soon."""
    if task := asyncio.current_task():
        task.uncancel()


def encode_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Header values can hold what clients and providers sent: no control character leaves here."""
    return [
        (name.encode("latin-1"), value.translate(CONTROL_CHARACTERS).encode("latin-1", "replace"))
        for name, value in headers.items()
    ]
