"""The first event of a stream, and keep-alives before it."""

import pytest

from proxy.pipeline.attempts.first_event import MAX_OPENING_BYTES, has_event

COMMENT, PING = b": keep-alive\n\n", b'event: ping\ndata: {"type": "ping"}\n\n'


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'data: {"id":1}\n\n', True),
        (b'data:{"id":1}\r\n\r\n', True),
        (b'event: message_start\ndata: {"type":"message_start"}\n\n', True),
        (COMMENT + b'data: {"id":1}\n\n', True),
        (PING + b'data: {"id":1}\n\n', True),
        (b'data: {"id":1}', False),
        (b'event: message_start\ndata: {"type"', False),
        (COMMENT + COMMENT, False),
        (PING, False),
        (PING + PING, False),
        (b"", False),
        (b"<html>" + b"x" * MAX_OPENING_BYTES, True),
    ],
)
def test_an_event_is_not_a_keepalive(data: bytes, expected: bool) -> None:
    assert has_event(data) is expected
