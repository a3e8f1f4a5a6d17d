"""Backpressure on providers: how much of a response the gateway reads ahead of a slow client.

uvloop reads up to 250 KiB from a socket at once, which aiohttp then stores, even if it wants to pause. Each
read here gets at most READ_BYTES, so a paused response stores at most READ_BYTES + 2 * BUFFER_BYTES. The rest
stays in the provider's and the kernel's buffers.
"""

import asyncio
from functools import partial
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler

READ_BYTES = 64 * 1024
BUFFER_BYTES = 16 * 1024
"""aiohttp resumes reading below this size, and pauses above twice this size.

It is also the most that `chunks` takes from aiohttp's buffer at once, because aiohttp raises the size of the
buffer to that of a chunk.
"""


class BoundedReader(asyncio.BufferedProtocol):
    """Receives the bytes of a connection in small reads, and passes them to aiohttp's protocol.

    All connections share one buffer, because a read is passed on before the next one starts.
    """

    buffer = memoryview(bytearray(READ_BYTES))

    def __init__(self, handler: ResponseHandler) -> None:
        self.handler = handler

    def get_buffer(self, _size_hint: int) -> memoryview:
        """Return the shared buffer."""
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        """Pass the bytes that were read to aiohttp."""
        self.handler.data_received(bytes(self.buffer[:count]))

    def eof_received(self) -> None:
        """Tell aiohttp that the provider sends nothing more."""
        self.handler.eof_received()

    def pause_writing(self) -> None:
        """Tell aiohttp to wait before it writes more."""
        self.handler.pause_writing()

    def resume_writing(self) -> None:
        """Tell aiohttp that it may write again."""
        self.handler.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell aiohttp that the connection is closed."""
        self.handler.connection_lost(error)


class BoundedResponseHandler(ResponseHandler):
    """aiohttp's protocol of a connection, which receives its bytes from a BoundedReader."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Read through a BoundedReader from now on."""
        super().connection_made(transport)
        cast(asyncio.Transport, transport).set_protocol(BoundedReader(self))


class BoundedConnector(aiohttp.TCPConnector):
    """A pool of connections whose reads are bounded. aiohttp has no option for the class of its protocol."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        handler_class: type[ResponseHandler] = BoundedResponseHandler
        self._factory = partial(handler_class, loop=self._loop)
