"""Server-sent events, cut at any byte. See https://html.spec.whatwg.org/multipage/server-sent-events.html"""

import re

from proxy.formats.body import BOM
from proxy.formats.neutral import Failure

BLANK_LINE = re.compile(rb"\n\r?\n|\r\r")
"""Lines end in LF, CRLF or CR."""
LF_BLANK_LINE = re.compile(rb"\n\n")
"""The same for nearly all streams, which have no CR: several times faster to search."""
EVENT_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")
END_OF_EVENT = b"\n\n"
NAME = b"event:"
COMMENT = b": keep-alive" + END_OF_EVENT
SEAM = 2
"""Bytes of a blank line that may have come before the rest of it."""
LONGEST_EVENT = 16 * 2**20
TOO_LONG = Failure(
    kind="server_error",
    code="bad_upstream_answer",
    message=f"The provider sent an event of more than {LONGEST_EVENT // 2**20} MiB.",
    status=502,
)


class EventTooLong(Exception):
    """Nothing of what came with it was taken; `finish` gives back what had come before."""


class EventSplitter:
    """Collects bytes and gives back whole events, each with the blank line that ends it, byte for byte as they came. What has been
    searched is not searched again."""

    def __init__(self) -> None:
        self.rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Raises EventTooLong."""
        searched = 0
        if self.rest:
            if len(self.rest) > LONGEST_EVENT:
                raise EventTooLong
            searched = max(len(self.rest) - SEAM, 0)
            self.rest += data
            if not blank_line_in(self.rest).search(self.rest, searched):
                return []
            data = bytes(self.rest)
        events, start = [], 0
        for end in blank_line_in(data).finditer(data, searched):
            events.append(data[start : end.end()])
            start = end.end()
        self.rest = bytearray(data[start:])
        return events

    def finish(self) -> bytes:
        """What came after the last blank line: an event all the same where a server leaves the final one out."""
        rest, self.rest = bytes(self.rest), bytearray()
        return rest


def blank_line_in(data: bytes | bytearray) -> re.Pattern[bytes]:
    return BLANK_LINE if b"\r" in data else LF_BLANK_LINE


def between_events(passed: bytes) -> bool:
    """Whether a stream that ends like this has no event open, so that another one may stand there."""
    return not passed or passed.endswith(EVENT_ENDS)


def comment_after(passed: bytes) -> bytes:
    """A sign of life for clients that skip comments, as the standard asks of them."""
    return COMMENT if between_events(passed) else b""


def name_of(event: bytes) -> bytes:
    """Return the name in the event's first line, or nothing if that line holds something else."""
    return event.splitlines()[0][len(NAME) :].strip() if event.startswith(NAME) else b""


def data_of(event: bytes) -> bytes:
    """The event's data lines, joined; empty for a comment or an event without data. A byte order mark may stand before the first."""
    if event.startswith(b"data: ") and event.count(b"\n") == 2 and event.endswith(b"\n\n"):
        return event[6:-2]
    lines = [line[5:].removeprefix(b" ") for line in event.removeprefix(BOM).splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)
