"""Server-sent events, cut at any byte. See https://html.spec.whatwg.org/multipage/server-sent-events.html"""

import re

BLANK_LINE = re.compile(rb"\n\r?\n")


class EventSplitter:
    """Collects bytes and gives back whole events, each with the blank line that ends it, byte for byte as they came."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        data = self.rest + data if self.rest else data
        events, start = [], 0
        for end in BLANK_LINE.finditer(data):
            events.append(data[start : end.end()])
            start = end.end()
        self.rest = data[start:]
        return events

    def finish(self) -> bytes:
        """What came after the last blank line: an event all the same where a server leaves the final one out."""
        rest, self.rest = self.rest, b""
        return rest


def data_of(event: bytes) -> bytes:
    """The event's data lines, joined; empty for a comment or an event without data."""
    if event.startswith(b"data: ") and event.count(b"\n") == 2 and event.endswith(b"\n\n"):
        return event[6:-2]
    lines = [line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)
