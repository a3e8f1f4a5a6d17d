"""Detect a client disconnect during a call to a provider, and end the call."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from proxy.http.asgi import Receive


class ClientDisconnected(Exception):
    """The client closed its connection before the response was complete."""


class RequestTimeout(Exception):
    """The request took longer in all than the operator allows."""


async def serves_only_its_client() -> bool:
    return False


class DisconnectWatcher:
    """Watches the connection of a request whose body has been received.

    Use `async with` around work that is useless without a client. If the client disconnects or
    `abort(reason)` is called, the block is cancelled. It then raises ClientDisconnected or `reason`. If
    `serves_others` returns true, other requests wait for the same response, so a disconnect has no effect.
    """

    def __init__(self, receive: Receive) -> None:
        self.receive = receive
        self.abort_reason: Exception | None = None
        self.watch_task: asyncio.Task[None] | None = None
        self.guarded_task: asyncio.Task[Any] | None = None
        self.serves_others: Callable[[], Awaitable[bool]] = serves_only_its_client

    async def _wait_for_disconnect(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        if not await self.serves_others():
            self.abort(ClientDisconnected())

    def abort(self, reason: Exception) -> None:
        """Cancel the guarded block now, or as soon as it is entered. Later reasons are ignored."""
        if self.abort_reason is None:
            self.abort_reason = reason
            if self.guarded_task is not None:
                self.guarded_task.cancel()

    @contextmanager
    def abort_after(self, seconds: float) -> Iterator[None]:
        """Call `abort` if the `with` block takes longer than this."""
        reason = RequestTimeout(f"the whole request took longer than {seconds:g} s")
        timer = asyncio.get_running_loop().call_later(seconds, self.abort, reason)
        try:
            yield
        finally:
            timer.cancel()

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
        """Stop watching."""
        if self.watch_task is not None:
            self.watch_task.cancel()
