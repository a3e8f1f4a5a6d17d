"""Former place of `proxy/formats/streaming/sse.py` and `EVENT_TOO_LONG` of `stream_errors.py`."""

from proxy.formats.streaming.sse import *  # noqa: F403
from proxy.formats.streaming.stream_errors import EVENT_TOO_LONG as EVENT_TOO_LONG  # noqa: PLC0414
