"""Server-sent events, cut at any byte (html.spec.whatwg.org/multipage/server-sent-events.html)."""

import re

from proxy.formats.json_body import BOM

BLANK_LINE = re.compile(rb"\n\r?\n|\r\r")
"""The end of an event: lines end in LF, CRLF or CR."""
LF_BLANK_LINE = re.compile(rb"\n\n")
"""The same for streams without CR, which nearly all are: several times faster to search."""
EVENT_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")
EVENT_END = b"\n\n"
EVENT_FIELD = b"event:"
KEEPALIVE_COMMENT = b": keep-alive" + EVENT_END
MAX_PARTIAL_BLANK_LINE_BYTES = 2
"""Bytes of a blank line that may have come before the rest of it."""
MAX_EVENT_BYTES = 16 * 2**20


class EventTooLong(Exception):
    """An event exceeds the limit. The new bytes were not taken; `finish` returns those before them."""


class EventSplitter:
    """Collects bytes and returns complete events, byte for byte, each with the blank line that ends it.

    Bytes that were searched are not searched again.
    """

    def __init__(self) -> None:
        self.buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events that these bytes complete. Raises EventTooLong."""
        searched = 0
        if self.buffer:
            if len(self.buffer) > MAX_EVENT_BYTES:
                raise EventTooLong
            searched = max(len(self.buffer) - MAX_PARTIAL_BLANK_LINE_BYTES, 0)
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
        """Return the bytes after the last blank line: the last event, if a server left out its blank line."""
        rest, self.buffer = bytes(self.buffer), bytearray()
        return rest


def blank_line_pattern(data: bytes | bytearray) -> re.Pattern[bytes]:
    return BLANK_LINE if b"\r" in data else LF_BLANK_LINE


def at_event_boundary(sent_tail: bytes) -> bool:
    """Return whether a stream with this end has no open event, so that another event may follow."""
    return not sent_tail or sent_tail.endswith(EVENT_ENDS)


def keepalive_comment(sent_tail: bytes) -> bytes:
    """Return a keep-alive for clients that skip comments, as the standard requires."""
    return KEEPALIVE_COMMENT if at_event_boundary(sent_tail) else b""


def event_name(event: bytes) -> bytes:
    """Return the name in the event's first line, or nothing if that line holds something else."""
    return event.splitlines()[0][len(EVENT_FIELD) :].strip() if event.startswith(EVENT_FIELD) else b""


def event_data(event: bytes) -> bytes:
    """Return the event's data lines, joined; empty for a comment or an event without data.

    A byte order mark may stand before the first line.
    """
    if event.startswith(b"data: ") and event.count(b"\n") == 2 and event.endswith(b"\n\n"):
        return event[6:-2]
    lines = [
        line[5:].removeprefix(b" ")
        for line in event.removeprefix(BOM).splitlines()
        if line.startswith(b"data:")
    ]
    return b"\n".join(lines)
