"""Captures of requests: collect the prompt and the response of a request for the prompt log.

A capture is part of every request, so it only collects references. Texts are found, redacted and encrypted
later, in the thread of the writer (`writer.py`).
"""

from collections.abc import Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Any
from uuid import UUID

from proxy.formats.json_body import DECODE_ERRORS, decode_any, repair_json
from proxy.formats.streaming.sse import EventSplitter, EventTooLong
from proxy.prompt_log.body import LoggedBody
from proxy.prompt_log.policy import PromptLogPolicy
from proxy.prompt_log.texts import event_text, newest_message, text_of

PREVIEW_LENGTH = 500
"""Maximum number of characters of a preview."""
PREVIEW_SOURCE_LENGTH = 2 * PREVIEW_LENGTH
"""Number of characters that are read for a preview.

Some are spare, because redaction may shorten the text.
"""
FULL_LENGTH = 256 * 1024
"""Maximum number of characters of a body in the mode `full`."""
MAX_READ_BYTES = 1024 * 1024
"""A larger response is not decoded, because that takes too long. Its beginning is stored as text."""
SEGMENT_BYTES = 64 * 1024
"""Number of bytes of a stream after which its text is read, so that a long stream takes little memory."""


class Capture:
    """Collects the prompt and the response of one request."""

    def __init__(
        self,
        id: UUID,
        project_id: int,
        policy: PromptLogPolicy,
        fields: Mapping[str, Any],
        size: int,
        end_users: tuple[str, ...],
    ) -> None:
        self.id, self.project_id, self.policy = id, project_id, policy
        self.newest_message = newest_message(fields)
        # A preview needs only the newest message, so the rest of the request is not kept.
        self.fields = fields if policy.is_full else {}
        self.size, self.end_users = size, end_users
        self.chunks: list[bytes] = []
        self.segment_bytes = 0
        self.stream: StreamText | None = None
        self.is_interrupted = False

    def start_stream(self) -> None:
        """Note that the response is a stream of events."""
        limit = FULL_LENGTH if self.policy.is_full else PREVIEW_SOURCE_LENGTH
        self.stream = StreamText(limit)

    def add(self, chunk: bytes, executor: Executor) -> None:
        """Add a chunk of the response. `executor` reads the text of long streams."""
        if self.stream is not None and self.stream.is_full:
            return
        self.chunks.append(chunk)
        self.segment_bytes += len(chunk)
        if self.stream is not None and self.segment_bytes >= SEGMENT_BYTES:
            executor.submit(partial(self.stream.read, self.chunks))
            self.chunks, self.segment_bytes = [], 0

    @property
    def memory_bytes(self) -> int:
        """Return the approximate number of bytes that this capture occupies until it is written."""
        return self.size + self.segment_bytes

    def build_body(self) -> LoggedBody:
        """Return the redacted body. Call this in the thread of the writer."""
        redactor = self.policy.redactor
        response = self.read_response()
        text = response if isinstance(response, str) else text_of(response, PREVIEW_SOURCE_LENGTH)
        body = LoggedBody(
            redactor.shorten(text_of(self.newest_message, PREVIEW_SOURCE_LENGTH), PREVIEW_LENGTH),
            redactor.shorten(text, PREVIEW_LENGTH),
            is_interrupted=self.is_interrupted,
        )
        if self.policy.is_full:
            body.request_body = redactor.redact_json(dict(self.fields), FULL_LENGTH)
            body.response_body = redactor.redact_json(response, FULL_LENGTH)
        return body

    def read_response(self) -> Any:
        """Return the text of a stream.

        For another response, return its decoded JSON, or the text if it has none.
        """
        if self.stream is not None:
            chunks, self.chunks = self.chunks, []  # If the batch cannot be written, this runs again.
            self.stream.read(chunks)
            return self.stream.finish()
        data = self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)
        if len(data) <= MAX_READ_BYTES:
            try:
                return decode_any(repair_json(data))
            except DECODE_ERRORS:
                pass
        return data[:FULL_LENGTH].decode(errors="replace")


class StreamText:
    """The text of a stream, which is read in segments.

    Only the thread of the writer calls `read` and `finish`. The event loop reads `is_full`.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.length = limit, 0
        self.splitter = EventSplitter()
        self.texts: list[str] = []
        self.is_full = False

    def read(self, chunks: list[bytes]) -> None:
        """Add the text of these chunks, up to the limit."""
        try:
            events = self.splitter.feed(b"".join(chunks))
        except EventTooLong:
            self.is_full = True
            return
        for event in events:
            self.add(event_text(event))
            if self.is_full:
                return

    def add(self, text: str) -> None:
        if text:
            self.texts.append(text)
            self.length += len(text)
            self.is_full = self.length >= self.limit

    def finish(self) -> str:
        """Return the text of the whole stream."""
        if not self.is_full:
            self.add(event_text(self.splitter.finish()))
        return "".join(self.texts)
