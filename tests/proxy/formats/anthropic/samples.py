"""Requests and responses of the Messages API, for the tests of this folder."""

import json
from typing import Any

from msgspec.structs import replace

from proxy.formats.codec import RenderedRequest
from proxy.formats.constraints.constraint import Destination
from proxy.formats.neutral import (
    Message,
    Part,
    Request,
    Text,
    Tool,
    Usage,
)
from proxy.formats.quirks import Quirks
from tests.support.adapted_requests import render_adapted

OLDER_MODEL, NEWER_MODEL = "claude-sonnet-4-5", "claude-opus-4-8"
WEATHER = Tool(name="weather", schema={"type": "object", "properties": {"city": {"type": "string"}}})
REQUEST = Request(model=OLDER_MODEL, messages=(Message(role="user", parts=(Text(text="Hi"),)),))
PNG = "iVBORw0KGgo="
USAGE = {
    "input_tokens": 3,
    "cache_read_input_tokens": 40,
    "cache_creation_input_tokens": 7,
    "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 5},
    "output_tokens": 9,
    "output_tokens_details": {"thinking_tokens": 4},
}
RESPONSE_USAGE = Usage(input=3, cache_read=40, cache_write_5m=2, cache_write_1h=5, output=9, reasoning=4)


def wire_request(**fields: Any) -> bytes:
    return json.dumps(
        {"model": OLDER_MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}], **fields}
    ).encode()


def render(request: Request, *unsupported: str) -> RenderedRequest:
    destination = Destination("anthropic", "anthropic", request.model)
    return render_adapted(request, destination, Quirks(unsupported=frozenset(unsupported)))


def turn(role: Any, *parts: Part) -> Message:
    return Message(role=role, parts=parts)


def contents(*messages: Message) -> list[Any]:
    return [
        (message["role"], message["content"])
        for message in render(replace(REQUEST, messages=messages)).body["messages"]
    ]


def response_body(**fields: Any) -> bytes:
    body = {
        "id": "msg_1",
        "type": "message",
        "model": "m",
        "content": [],
        "stop_reason": "end_turn",
        "usage": USAGE,
        **fields,
    }
    return json.dumps(body).encode()
