"""Write a stream to the client, and send keep-alives while the provider sends nothing."""

import asyncio
from collections.abc import Awaitable, Callable

KEEPALIVE_INTERVAL_S = 15
"""Seconds without a byte after which a keep-alive is sent.

Common proxies close an idle connection after 30 to 60 seconds.
"""
FINAL_WRITE_TIMEOUT_S = 1
BOUNDARY_BYTES = 3
"""Number of bytes at the end of the sent data that show whether the last event has ended.

An event ends with a blank line.
"""


class ClientStream:
    """Writes one stream to the client.

    `render_keepalive` returns a keep-alive in the client's format, or nothing if a keep-alive would be
    invalid at this point. `is_complete` is true when the final event has been sent.

    One timer serves the whole stream. Sending a chunk only stores the time, and does not restart the timer.
    No keep-alive is written while a chunk is being written, because it would split the chunk. If the client
    has stalled, a keep-alive would also only fill buffers.
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
        """Send a chunk. If a keep-alive is being sent, wait for it first."""
        if self.keepalive_task is not None:
            keepalive, self.keepalive_task = self.keepalive_task, None
            await keepalive
        self.sent_tail = chunk if len(chunk) >= BOUNDARY_BYTES else self.sent_tail[-BOUNDARY_BYTES:] + chunk
        self.is_sending = True
        await self.send_chunk(chunk)
        self.is_sending = False
        self.last_sent_at = self.loop.time()

    async def send_final(self, data: bytes) -> bool:
        """Send the reason why the stream ends. Return whether the client received it.

        If the client does not read, this waits only briefly, because the request must be settled.
        """
        try:
            async with asyncio.timeout(FINAL_WRITE_TIMEOUT_S):
                await self.send(data)
        except TimeoutError:
            return False
        return True

    def _on_timer(self) -> None:
        left = self.last_sent_at + KEEPALIVE_INTERVAL_S - self.loop.time()
        if left <= 0 and not self.is_busy and (keepalive := self.render_keepalive(self.sent_tail)):
            self.keepalive_task = self.loop.create_task(self._send_keepalive(keepalive))
        self.timer = self.loop.call_later(left if left > 0 else KEEPALIVE_INTERVAL_S, self._on_timer)

    @property
    def is_busy(self) -> bool:
        """Return whether a chunk or a keep-alive is being written."""
        return self.is_sending or (self.keepalive_task is not None and not self.keepalive_task.done())

    async def _send_keepalive(self, data: bytes) -> None:
        await self.send_chunk(data)

    def close(self) -> None:
        """Stop sending keep-alives."""
        self.timer.cancel()
        if self.keepalive_task is not None:
            self.keepalive_task.cancel()
