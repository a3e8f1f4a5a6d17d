"""The client's end of a stream: it gets what is passed on, and a sign of life where that is nothing for too long."""

import asyncio
from collections.abc import Awaitable, Callable

KEEPALIVE_S = 15
"""Seconds without a byte. Common proxies cut a connection that is silent for 30 to 60 of them."""
LAST_WORDS_S = 3
SEAM = 3
"""Bytes of a blank line with the end of the line before it: they tell whether an event has ended."""


class Downstream:
    """`keep_alive` gives the client's words for a sign of life, or none where they have no place. `has_all`: the last event is out.

    One timer for the whole stream looks at when something was sent last, so that a chunk costs no more than to note its time.
    Nothing is sent while something else is: neither tears the other, and who does not read gets no more to read.
    """

    def __init__(self, send: Callable[[bytes], Awaitable[None]], keep_alive: Callable[[bytes], bytes]) -> None:
        self.loop = asyncio.get_running_loop()
        self.send_chunk, self.keep_alive = send, keep_alive
        self.passed = b""
        self.has_all = False
        self.sending = False
        self.sent_at = self.loop.time()
        self.beat: asyncio.Task[None] | None = None
        self.timer = self.loop.call_later(KEEPALIVE_S, self.look)

    async def send(self, chunk: bytes) -> None:
        if self.beat is not None:
            beat, self.beat = self.beat, None
            await beat
        self.passed = chunk if len(chunk) >= SEAM else self.passed[-SEAM:] + chunk
        self.sending = True
        await self.send_chunk(chunk)
        self.sending = False
        self.sent_at = self.loop.time()

    async def send_last(self, words: bytes) -> bool:
        """Why the stream ends. A client that does not read is not waited for: what it used is to be settled.

        Return whether the client took it.
        """
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                await self.send(words)
        except TimeoutError:
            return False
        return True

    def look(self) -> None:
        left = self.sent_at + KEEPALIVE_S - self.loop.time()
        if left <= 0 and not self.is_busy and (words := self.keep_alive(self.passed)):
            self.beat = self.loop.create_task(self.show_life(words))
        self.timer = self.loop.call_later(left if left > 0 else KEEPALIVE_S, self.look)

    @property
    def is_busy(self) -> bool:
        return self.sending or (self.beat is not None and not self.beat.done())

    async def show_life(self, words: bytes) -> None:
        await self.send_chunk(words)

    def close(self) -> None:
        self.timer.cancel()
        if self.beat is not None:
            self.beat.cancel()
