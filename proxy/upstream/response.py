"""Responses of providers. Their bodies are received after their headers have arrived."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

import aiohttp

from proxy.upstream.errors import UpstreamConnectionError, UpstreamTimeout
from proxy.upstream.read_buffer import BUFFER_BYTES
from proxy.upstream.timeouts import Timeouts

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
RECHECK_S = 1.0
"""Seconds between two checks of the timeouts while the gateway waits for a slow client only."""
MAX_READ_AT_ONCE_BYTES = 64 * 1024
"""Up to this length, a whole body must arrive within the idle timeout."""
KEEPALIVE_PREFIXES = (b":", b"event: ping", b"event:ping", b'data: {"type": "ping"', b'data: {"type":"ping"')
"""The first bytes of keep-alives: comments of server-sent events, and the `ping` event of Anthropic's API."""
KEEPALIVES = re.compile(
    rb"""(?:(?::[^\r\n]* | event:\ ?ping | data:\ ?\{"type":\ ?"ping"\}) \r?\n | \r?\n)+""", re.VERBOSE
)


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

    def __init__(self, response: aiohttp.ClientResponse, timeouts: Timeouts, started_at: float) -> None:
        """Keep a response; `started_at` is the loop's time at the start of the call."""
        self.response, self.timeouts = response, timeouts
        self.status, self.headers = response.status, response.headers
        self.loop = asyncio.get_running_loop()
        self.data_due_at = started_at + timeouts.first_chunk_s
        self.ends_at = started_at + timeouts.whole_s
        self.is_waiting = False
        self.timer: asyncio.TimerHandle | None = None

    async def read(self) -> bytes:
        """Receive and return the whole body.

        Raises UpstreamError if the body is interrupted, stalls, or is too large.
        """
        self.data_due_at = self.loop.time() + self.timeouts.idle_s
        length = self.response.content_length
        if length is not None and length <= MAX_READ_AT_ONCE_BYTES:
            with self.map_errors():
                async with asyncio.timeout_at(min(self.data_due_at, self.ends_at)):
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
        keep-alives, arrives in time. Only the time that is spent waiting for the provider counts, so a slow
        client does not cause an idle timeout.
        """
        self._check_timeouts()
        try:
            with self.map_errors():
                while chunk := await self._next_chunk():
                    yielded_at = self.loop.time()
                    if not is_keepalive(chunk):
                        self._expect_data_by(yielded_at + self.timeouts.idle_s)
                    yield chunk
                    self.data_due_at += self.loop.time() - yielded_at
        finally:
            self._stop_timer()

    def _expect_data_by(self, due_at: float) -> None:
        """Set the time at which the wait for data ends.

        After the first data, this time may be earlier than before, because the idle timeout may be the
        shorter one.
        """
        self.data_due_at = due_at
        if self.timer is not None and self.timer.when() > due_at:
            self._check_timeouts()

    async def _next_chunk(self) -> bytes:
        """Return the next bytes; none at the end of the body."""
        self.is_waiting = True
        chunk = await self.response.content.read(BUFFER_BYTES)
        self.is_waiting = False
        return chunk

    def _check_timeouts(self) -> None:
        """End the wait for the provider if it has taken too long; else schedule the next check.

        One timer serves the whole stream, because a timer for each chunk costs as much as the chunk.
        """
        self._stop_timer()
        now, due_at = self.loop.time(), min(self.data_due_at, self.ends_at)
        if self.is_waiting and now >= due_at:
            self.response.content.set_exception(UpstreamTimeout(self._timeout_reason()))
        else:
            check_at = due_at if due_at > now else now + min(RECHECK_S, self.timeouts.idle_s)
            self.timer = self.loop.call_at(check_at, self._check_timeouts)

    def _stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()

    @contextmanager
    def map_errors(self) -> Iterator[None]:
        """Raise UpstreamError in place of failures of the HTTP client while the body is received."""
        try:
            yield
        except TimeoutError:  # Tested first: aiohttp's timeouts are ClientErrors too.
            raise UpstreamTimeout(self._timeout_reason()) from None
        except aiohttp.ClientError as error:
            raise UpstreamConnectionError(f"the connection broke: {type(error).__name__}") from error

    def _timeout_reason(self) -> str:
        if self.loop.time() >= self.ends_at:
            return f"the whole response took longer than {self.timeouts.whole_s:g} s"
        return "it sent no data for too long"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_timer()
        # If the response was read to its end, its connection is already in the pool. Otherwise close() drops
        # it.
        self.response.close()


def is_keepalive(chunk: bytes) -> bool:
    """Return whether a chunk consists of whole keep-alives, without data of the response."""
    return chunk.startswith(KEEPALIVE_PREFIXES) and KEEPALIVES.fullmatch(chunk) is not None
