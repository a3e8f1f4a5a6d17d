"""Server-sent events: splits a byte stream into events. Chunks may end at any byte.

Source: html.spec.whatwg.org/multipage/server-sent-events.html.
"""

import re

from proxy.formats.json_body import BOM

BLANK_LINE = re.compile(rb"\n\r?\n|\r\r")
"""The end of an event. Lines end in LF, CRLF or CR."""
LF_BLANK_LINE = re.compile(rb"\n\n")
"""The end of an event in data without CR, the usual case. This pattern searches several times faster."""
EVENT_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")
EVENT_END = b"\n\n"
EVENT_FIELD = b"event:"
KEEPALIVE_COMMENT = b": keep-alive" + EVENT_END
MAX_PARTIAL_BLANK_LINE_BYTES = 2
"""Maximum number of bytes at the end of the buffer that may be the start of a blank line."""
MAX_EVENT_BYTES = 16 * 2**20


class EventTooLong(Exception):
    """An incomplete event is longer than MAX_EVENT_BYTES.

    The splitter has not stored the new bytes. `finish` returns the bytes that it stored earlier.
    """


class EventSplitter:
    """Collects bytes and returns complete events unchanged, each with the blank line that ends it.

    When more bytes arrive, the search for a blank line resumes where it ended.
    """

    def __init__(self) -> None:
        self.buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events that are complete with these bytes. Raises EventTooLong."""
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
        """Return the bytes after the last blank line.

        They are the last event if a server did not send its blank line.
        """
        rest, self.buffer = bytes(self.buffer), bytearray()
        return rest


def blank_line_pattern(data: bytes | bytearray) -> re.Pattern[bytes]:
    return BLANK_LINE if b"\r" in data else LF_BLANK_LINE


def at_event_boundary(sent_tail: bytes) -> bool:
    """Return whether a new event may be sent after these last bytes.

    This is true if nothing was sent, or if the bytes end an event.
    """
    return not sent_tail or sent_tail.endswith(EVENT_ENDS)


def keepalive_comment(sent_tail: bytes) -> bytes:
    """Return a comment that keeps the connection alive; it is empty inside an event.

    The standard requires clients to ignore comments.
    """
    return KEEPALIVE_COMMENT if at_event_boundary(sent_tail) else b""


def event_name(event: bytes) -> bytes:
    """Return the name in the first line of an event.

    The result is empty if that line is not an `event` field.
    """
    return event.splitlines()[0][len(EVENT_FIELD) :].strip() if event.startswith(EVENT_FIELD) else b""


def event_data(event: bytes) -> bytes:
    """Return the joined data lines of an event. They are empty for a comment or an event without data.

    A byte order mark may precede the first line.
    """
    if event.startswith(b"data: ") and event.count(b"\n") == 2 and event.endswith(b"\n\n"):
        return event[6:-2]
    lines = [
        line[5:].removeprefix(b" ")
        for line in event.removeprefix(BOM).splitlines()
        if line.startswith(b"data:")
    ]
    return b"\n".join(lines)


def has_events(body: bytes) -> bool:
    """Return whether a body contains an event with data."""
    return any(event_data(event) for event in EventSplitter().feed(body))
