"""The opening of a stream: what the provider sends up to its first event.

Providers report an overload, and other errors, as the first event of a stream whose status is 200. The
gateway reads the first event before the client gets anything, so that it can repeat such a call.
"""

from collections.abc import AsyncIterator
from typing import NamedTuple

from proxy.formats.neutral import ApiError
from proxy.formats.streaming.sse import EVENT_END, EventSplitter, EventTooLong, event_data, event_name
from proxy.routing.targets import UpstreamPlan
from proxy.upstream.response import UpstreamResponse

MAX_OPENING_BYTES = 64 * 1024
"""If the first event is longer than this, it is not an error, and is relayed as it arrives."""
ERROR_MARKERS = (b"error", b"failed")
"""Every error event of every format contains one of these."""
PING, PING_START = b"ping", b"event: ping"
USUAL_STARTS = (b"data: {", b"event: ")
"""The first bytes of most streams. After them, an event is found by its end, without parsing."""


class Opening(NamedTuple):
    """The chunks up to the first event, and an iterator over the others.

    `error` is the error in the first event, or the reason why there is no event. `is_reported` is true if the
    provider reported the error, so that it does not bill the call.
    """

    first_chunks: list[bytes]
    chunks: AsyncIterator[bytes]
    error: ApiError | None = None
    is_reported: bool = False

    @property
    def is_unbilled_error(self) -> bool:
        return self.error is not None and self.is_reported


async def read_opening(response: UpstreamResponse, plan: UpstreamPlan) -> Opening:
    """Read a stream up to its first event. The call ends if this raises.

    `EarlyStream` keeps the client's connection open meanwhile. Raises UpstreamError.
    """
    try:
        return await read_first_event(response.chunks(), plan)
    except BaseException:
        async with response:
            raise


async def read_first_event(chunks: AsyncIterator[bytes], plan: UpstreamPlan) -> Opening:
    """Read up to the first event. Raises UpstreamError."""
    received: list[bytes] = []
    async for chunk in chunks:
        received.append(chunk)
        data = chunk if len(received) == 1 else b"".join(received)
        if has_event(data):
            return Opening(received, chunks, opening_error(plan, data), is_reported=True)
    return Opening(received, chunks, plan.opening_error(b"".join(received), is_complete=True))


def has_event(data: bytes) -> bool:
    """Return whether the data contains an event that is not a keep-alive, or is too long to be an error."""
    if len(data) > MAX_OPENING_BYTES:
        return True
    if data.startswith(USUAL_STARTS) and EVENT_END in data and not data.startswith(PING_START):
        return True
    try:
        events = EventSplitter().feed(data)
    except EventTooLong:
        return True
    return any(event_data(event) and event_name(event) != PING for event in events)


def opening_error(plan: UpstreamPlan, data: bytes) -> ApiError | None:
    """Return the error that opens a stream, or None."""
    if not any(marker in data for marker in ERROR_MARKERS):
        return None
    return plan.opening_error(data, is_complete=False)
