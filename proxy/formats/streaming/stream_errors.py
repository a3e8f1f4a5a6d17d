"""Failures of a provider's stream. The messages are the same in all formats."""

from proxy.formats.neutral import ApiError
from proxy.formats.streaming.sse import MAX_EVENT_BYTES

MAX_NON_EVENT_BYTES = 1 << 20
STREAM_INTERRUPTED = ApiError(
    kind="network",
    code="upstream_unreachable",
    message="The provider's response ended before it was complete.",
    status=502,
)
EVENT_TOO_LONG = ApiError(
    kind="server_error",
    code="bad_upstream_answer",
    message=f"The provider sent an event of more than {MAX_EVENT_BYTES // 2**20} MiB.",
    status=502,
)
NOT_A_STREAM = ApiError(
    kind="server_error",
    code="bad_upstream_answer",
    message="The provider's response is not a stream.",
    status=502,
)


class NonEventBytes:
    """Collects non-event bytes: the body of an error, or a non-streaming response.

    It accepts nothing after `limit` bytes, so that memory stays bounded.
    """

    def __init__(self, limit: int = MAX_NON_EVENT_BYTES) -> None:
        self.limit = limit
        self.data = b""

    def add(self, data: bytes) -> None:
        if len(self.data) < self.limit:
            self.data += data

    @property
    def stripped(self) -> bytes:
        """The bytes without surrounding white space."""
        return self.data.strip()
