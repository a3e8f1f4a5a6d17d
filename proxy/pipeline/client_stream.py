"""The client's end of a stream: it gets what is passed on, and a sign of life where that is nothing for too long."""

import asyncio
from collections.abc import Awaitable, Callable

KEEPALIVE_INTERVAL_S = 15
"""Seconds without a byte. Common proxies cut a connection that is silent for 30 to 60 of them."""
FINAL_WRITE_TIMEOUT_S = 3
BOUNDARY_BYTES = 3
"""Bytes of a blank line with the end of the line before it: they tell whether an event has ended."""


class ClientStream:
    """`render_keepalive` gives the client's words for a sign of life, or none where they have no place. `is_complete`: the last event is out.

    One timer for the whole stream looks at when something was sent last, so that a chunk costs no more than to note its time.
    Nothing is sent while something else is: neither tears the other, and who does not read gets no more to read.
    """

    def __init__(
        self, send: Callable[[bytes], Awaitable[None]], render_keepalive: Callable[[bytes], bytes]
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.send_chunk, self.render_keepalive = send, render_keepalive
        self.sent_tail = b""
        self.is_complete = False
        self.is_sending = False
        self.last_sent_at = self.loop.time()
        self.keepalive_task: asyncio.Task[None] | None = None
        self.timer = self.loop.call_later(KEEPALIVE_INTERVAL_S, self._on_timer)

    async def send(self, chunk: bytes) -> None:
        if self.keepalive_task is not None:
            beat, self.keepalive_task = self.keepalive_task, None
            await beat
        self.sent_tail = chunk if len(chunk) >= BOUNDARY_BYTES else self.sent_tail[-BOUNDARY_BYTES:] + chunk
        self.is_sending = True
        await self.send_chunk(chunk)
        self.is_sending = False
        self.last_sent_at = self.loop.time()

    async def send_final(self, data: bytes) -> bool:
        """Why the stream ends. A client that does not read is not waited for: what it used is to be settled.

        Return whether the client took it.
        """
        try:
            async with asyncio.timeout(FINAL_WRITE_TIMEOUT_S):
                await self.send(data)
        except TimeoutError:
            return False
        return True

    def _on_timer(self) -> None:
        left = self.last_sent_at + KEEPALIVE_INTERVAL_S - self.loop.time()
        if left <= 0 and not self.is_busy and (words := self.render_keepalive(self.sent_tail)):
            self.keepalive_task = self.loop.create_task(self._send_keepalive(words))
        self.timer = self.loop.call_later(left if left > 0 else KEEPALIVE_INTERVAL_S, self._on_timer)

    @property
    def is_busy(self) -> bool:
        return self.is_sending or (self.keepalive_task is not None and not self.keepalive_task.done())

    async def _send_keepalive(self, data: bytes) -> None:
        await self.send_chunk(data)

    def close(self) -> None:
        self.timer.cancel()
        if self.keepalive_task is not None:
            self.keepalive_task.cancel()
