"""Helpers for streams: server-sent events, and texts in pieces."""

import json
from collections.abc import Iterator
from typing import Any


def event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def named_event(data: dict[str, Any]) -> bytes:
    """Return an event whose name is the `type` of its data, as Anthropic and the Responses API send it."""
    return f"event: {data['type']}\n".encode() + event(data)


def pieces(text: str, size: int = 11) -> Iterator[str]:
    """Split a text into the pieces that a stream sends as deltas."""
    for start in range(0, len(text), size):
        yield text[start : start + size]
