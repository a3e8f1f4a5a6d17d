"""Builders and readers of chat completions, for the tests of this folder."""

import json
from itertools import pairwise
from typing import Any

from proxy.formats import openai_chat
from proxy.formats.json_body import parse_object
from proxy.formats.neutral import (
    Choice,
    Event,
    Message,
    PartDelta,
    PartEnded,
    PartStarted,
    Request,
    Text,
)
from proxy.formats.quirks import Quirks

CHAT_REQUEST = Request(model="m", messages=(Message(role="user", parts=(Text(text="hi"),)),), stream=True)
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "d", "parameters": {"type": "object", "properties": {}}},
}


def parse(**fields: Any) -> Request:
    return openai_chat.parse_request(
        parse_object(
            json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}).encode()
        )
    )


def render(request: Request, **quirks: Any) -> dict[str, Any]:
    return openai_chat.render_request(request, Quirks(**quirks)).body


def call(call_id: str, name: str = "weather", arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def chunk(delta: Any, finish: str | None = None, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return (
        b"data: " + json.dumps({"id": "c1", "model": "m1", "choices": [choice], **fields}).encode() + b"\n\n"
    )


def tool_call_fragment(**fields: Any) -> dict[str, Any]:
    return {"tool_calls": [fields]}


def decode(stream: bytes, cuts: list[int] | None = None) -> list[Event]:
    decoder = openai_chat.parse_stream()
    edges = [0, *sorted({cut % (len(stream) or 1) for cut in cuts or ()}), len(stream)]
    return [
        event for start, end in pairwise(edges) for event in decoder.feed(stream[start:end])
    ] + decoder.finish()


def encode(events: list[Event], request: Request = CHAT_REQUEST) -> list[Any]:
    encoder = openai_chat.render_stream(request)
    stream = b"".join(map(encoder.encode, events)) + encoder.finish()
    lines = [line.removeprefix("data: ") for line in stream.decode().split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def parts_of(events: list[Event]) -> list[tuple[Any, str]]:
    """Return each part with its text. Fail if a part starts before the previous one has ended."""
    parts: list[tuple[Any, str]] = []
    is_open = False
    for event in events:
        match event:
            case PartStarted():
                assert not is_open
                is_open = True
                parts.append((event.part, ""))
            case PartDelta():
                assert is_open
                parts[-1] = (parts[-1][0], parts[-1][1] + event.text)
            case PartEnded():
                is_open = False
            case _:
                pass
    return parts


def response(message: Any, finish: str | None = "stop", **fields: Any) -> Choice:
    body = {
        "id": "c",
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        **fields,
    }
    return openai_chat.parse_response(json.dumps(body).encode()).choices[0]
