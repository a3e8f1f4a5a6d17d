"""Responses of providers. Their bodies are received after their headers have arrived."""

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

import aiohttp

from proxy.upstream.errors import UpstreamConnectionError, UpstreamTimeout
from proxy.upstream.read_buffer import BUFFER_BYTES

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
MAX_KEEPALIVE_BYTES = 64
KEEPALIVE_PREFIXES = (b":", b"event: ping", b"event:ping", b'data: {"type": "ping"', b'data: {"type":"ping"')
"""The first bytes of keep-alives: comments of server-sent events, and the `ping` event of Anthropic's API."""


class UpstreamResponse(Protocol):
    """A response of a provider, or of the demo in this process, whose headers have arrived.

    It is an async context manager. The call ends when the block ends.
    """

    status: int

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the headers of the response. Their names can be looked up in any case."""

    async def read(self) -> bytes:
        """Receive and return the whole body."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class HttpUpstreamResponse:
    """A provider's response over HTTP."""

    def __init__(self, response: aiohttp.ClientResponse, idle_timeout_s: float) -> None:
        self.response, self.idle_timeout_s = response, idle_timeout_s
        self.status = response.status
        self.headers = response.headers

    async def read(self) -> bytes:
        """Receive and return the whole body.

        Raises UpstreamError if the body is interrupted, stalls, or is too large.
        """
        length = self.response.content_length
        if length is not None and length <= MAX_RESPONSE_BYTES:
            with map_errors():
                return await self.response.read()
        parts, size = [], 0
        async for part in self.chunks():
            parts.append(part)
            size += len(part)
            if size > MAX_RESPONSE_BYTES:
                text = f"its response is larger than {MAX_RESPONSE_BYTES} bytes"
                raise UpstreamConnectionError(text, is_transient=False)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield bytes as they arrive.

        Raises UpstreamConnectionError if the stream breaks, and UpstreamTimeout if nothing, or nothing but
        keep-alives, arrives for `idle_timeout_s` seconds.
        """
        last_data_at = time.monotonic()
        with map_errors():
            async for chunk in self.response.content.iter_chunked(BUFFER_BYTES):
                now = time.monotonic()
                if not is_keepalive(chunk):
                    last_data_at = now
                elif now - last_data_at > self.idle_timeout_s:
                    raise UpstreamTimeout("nothing but keep-alives arrived for too long")
                yield chunk

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # If the response was read to its end, its connection is already in the pool. Otherwise close() drops
        # it.
        self.response.close()


@contextmanager
def map_errors() -> Iterator[None]:
    """Raise UpstreamError in place of failures of the HTTP client while a response is received."""
    try:
        yield
    except TimeoutError:  # Tested first: these are ClientErrors too.
        raise UpstreamTimeout("nothing arrived for too long") from None
    except aiohttp.ClientError as error:
        raise UpstreamConnectionError(f"the connection broke: {type(error).__name__}") from error


def is_keepalive(chunk: bytes) -> bool:
    """Return whether a chunk is only a keep-alive, without data of the response."""
    return len(chunk) < MAX_KEEPALIVE_BYTES and chunk.startswith(KEEPALIVE_PREFIXES)
