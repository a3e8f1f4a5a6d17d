"""Server-sent events, cut at any byte. See https://html.spec.whatwg.org/multipage/server-sent-events.html"""

import re

from proxy.formats.json_body import BOM

BLANK_LINE = re.compile(rb"\n\r?\n|\r\r")
"""Lines end in LF, CRLF or CR."""
LF_BLANK_LINE = re.compile(rb"\n\n")
"""The same for nearly all streams, which have no CR: several times faster to search."""
EVENT_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")
EVENT_END = b"\n\n"
NAME = b"event:"
KEEPALIVE_COMMENT = b": keep-alive" + EVENT_END
BOUNDARY_BYTES = 2
"""Bytes of a blank line that may have come before the rest of it."""
MAX_EVENT_BYTES = 16 * 2**20


class EventTooLong(Exception):
    """Nothing of what came with it was taken; `finish` gives back what had come before."""


class EventSplitter:
    """Collects bytes and gives back whole events, each with the blank line that ends it, byte for byte as they came. What has been
    searched is not searched again.
    """

    def __init__(self) -> None:
        self.buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Raises EventTooLong."""
        searched = 0
        if self.buffer:
            if len(self.buffer) > MAX_EVENT_BYTES:
                raise EventTooLong
            searched = max(len(self.buffer) - BOUNDARY_BYTES, 0)
            self.buffer += data
            if not blank_line_pattern(self.buffer).search(self.buffer, searched):
                return []
            data = bytes(self.buffer)
        events, start = [], 0
        for end in blank_line_pattern(data).finditer(data, searched):
            events.append(data[start : end.end()])
            start = end.end()
        self.buffer = bytearray(data[start:])
        return events

    def finish(self) -> bytes:
        """What came after the last blank line: an event all the same where a server leaves the final one out."""
        rest, self.buffer = bytes(self.buffer), bytearray()
        return rest


def blank_line_pattern(data: bytes | bytearray) -> re.Pattern[bytes]:
    return BLANK_LINE if b"\r" in data else LF_BLANK_LINE


def at_event_boundary(sent_tail: bytes) -> bool:
    """Whether a stream that ends like this has no event open, so that another one may stand there."""
    return not sent_tail or sent_tail.endswith(EVENT_ENDS)


def keepalive_comment(sent_tail: bytes) -> bytes:
    """A sign of life for clients that skip comments, as the standard asks of them."""
    return KEEPALIVE_COMMENT if at_event_boundary(sent_tail) else b""


def name_of(event: bytes) -> bytes:
    """Return the name in the event's first line, or nothing if that line holds something else."""
    return event.splitlines()[0][len(NAME) :].strip() if event.startswith(NAME) else b""


def event_data(event: bytes) -> bytes:
    """The event's data lines, joined; empty for a comment or an event without data. A byte order mark may stand before the first."""
    if event.startswith(b"data: ") and event.count(b"\n") == 2 and event.endswith(b"\n\n"):
        return event[6:-2]
    lines = [
        line[5:].removeprefix(b" ")
        for line in event.removeprefix(BOM).splitlines()
        if line.startswith(b"data:")
    ]
    return b"\n".join(lines)
