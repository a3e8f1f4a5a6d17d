"""A cached response is sent again in any form: as it was, as a stream, or as a non-streaming response."""

import json
import time
from typing import Any

import pytest
from msgspec.structs import replace

from proxy import operations
from proxy.cache.entry import CachedResponse
from proxy.cache.key import form_of
from proxy.formats.codec import ClientRequest, Codec
from proxy.formats.neutral import Choice, Part, Response, Text, Thinking, ToolCall
from proxy.formats.registry import CODECS
from proxy.formats.streaming.collector import collect
from proxy.pipeline.conversion import parse_request
from proxy.pipeline.response_cache.replay import decode_response, find_hit
from tests.proxy.formats.golden.stream_readers import events_of
from tests.proxy.formats.scenarios import RESPONSES, USAGE, events
from tests.proxy.formats.test_sdk_types import EVENT_CHECKS, RESPONSE_CHECKS

PROMPT: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "openai_chat": {"model": "m", "messages": PROMPT},
    "openai_responses": {"model": "m", "input": "Hi", "store": False},
    "anthropic": {"model": "m", "messages": PROMPT, "max_tokens": 50},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
}
OPERATIONS = {
    "openai_chat": operations.CHAT_COMPLETIONS,
    "openai_responses": operations.RESPONSES,
    "anthropic": operations.MESSAGES,
    "gemini": operations.GENERATE_CONTENT,
}
cells = pytest.mark.parametrize("name", RESPONSES)
formats = pytest.mark.parametrize("format", CODECS)


def client_request(format: str, *, stream: bool, as_array: bool = False, **fields: Any) -> ClientRequest:
    body = json.dumps({**BODIES[format], **fields})
    if format == "gemini":
        params = {"as_array": as_array} if stream else {}
        return OPERATIONS[format].parse(body.encode(), model="m", stream=stream, **params)
    return OPERATIONS[format].parse(json.dumps({**json.loads(body), "stream": stream}).encode())


def cached(request: ClientRequest, body: bytes) -> CachedResponse:
    now = time.time()
    return CachedResponse(
        form=form_of(request),
        content_type="application/json",
        dropped="",
        body=body,
        usage=USAGE,
        cost_nano=1,
        created_at=now,
        expires_at=now + 60,
    )


def rendered(codec: Codec, request: ClientRequest, response: Response) -> bytes:
    neutral = parse_request(request, codec.FORMAT)
    if not request.facts.stream:
        return codec.render_response(response, neutral)
    encoder = request.encoder(neutral)
    return b"".join(map(encoder.encode, events(response))) + encoder.finish()


def content_of(response: Response | None) -> list[Any]:
    """Return what a client sees, without ids that each rendering makes again."""
    assert response is not None
    return [[list(map(without_origin, choice.parts)), choice.finish_reason] for choice in response.choices]


def without_origin(part: Part) -> Part:
    match part:
        case ToolCall():
            return replace(part, id="")
        case Thinking():
            return replace(part, signature=None, origin=None)
        case _:
            return part


@formats
@cells
@pytest.mark.parametrize("was_stream", [False, True])
def test_a_response_is_sent_in_the_other_form(format: str, name: str, was_stream: bool) -> None:
    codec = CODECS[format]
    first, again = client_request(format, stream=was_stream), client_request(format, stream=not was_stream)
    stored = cached(first, rendered(codec, first, RESPONSES[name]))
    hit = find_hit(stored, format, again)
    if (format, name, was_stream) == ("openai_chat", "thinking", True):
        assert hit is None  # The stream repeats the thinking to seal it, so it cannot be decoded exactly.
        return
    assert hit is not None
    if (format, name) != ("openai_chat", "thinking"):
        resent = cached(again, hit.body)
        assert content_of(decode_response(codec, resent)) == content_of(decode_response(codec, stored))
    if was_stream:
        RESPONSE_CHECKS[format](json.loads(hit.body))
    else:
        for event in events_of(hit.body):
            EVENT_CHECKS[format](event)


@formats
@pytest.mark.parametrize("stream", [False, True])
def test_the_same_form_gets_the_same_bytes(format: str, stream: bool) -> None:
    request = client_request(format, stream=stream)
    hit = find_hit(cached(request, b"any bytes"), format, request)
    assert hit is not None and hit.body == b"any bytes"


@formats
def test_a_response_that_cannot_be_decoded_is_a_miss(format: str) -> None:
    first, again = client_request(format, stream=False), client_request(format, stream=True)
    assert find_hit(cached(first, b"<html>"), format, again) is None


def test_a_chat_stream_without_usage_has_it_in_a_non_streaming_response() -> None:
    first = client_request("openai_chat", stream=True)
    body = rendered(CODECS["openai_chat"], first, RESPONSES["text"])
    assert b"usage" not in body
    hit = find_hit(cached(first, body), "openai_chat", client_request("openai_chat", stream=False))
    assert hit is not None and json.loads(hit.body)["usage"]["completion_tokens"] == USAGE.output


def test_a_chat_stream_gets_usage_only_if_its_client_asks_for_it() -> None:
    first = client_request("openai_chat", stream=True)
    stored = cached(first, rendered(CODECS["openai_chat"], first, RESPONSES["text"]))
    asked = client_request("openai_chat", stream=True, stream_options={"include_usage": True})
    hit = find_hit(stored, "openai_chat", asked)
    assert hit is not None and events_of(hit.body)[-1]["usage"]["completion_tokens"] == USAGE.output


def test_a_gemini_stream_is_sent_as_events_or_as_an_array() -> None:
    first = client_request("gemini", stream=True)
    stored = cached(first, rendered(CODECS["gemini"], first, RESPONSES["text"]))
    hit = find_hit(stored, "gemini", client_request("gemini", stream=True, as_array=True))
    assert hit is not None and json.loads(hit.body)[-1]["candidates"][0]["finishReason"] == "STOP"


def test_all_choices_of_a_stream_are_collected() -> None:
    choices = tuple(Choice(parts=(Text(text=text),)) for text in ("first", "second"))
    response = Response(id="answer", model="m", choices=choices, usage=USAGE)
    assert collect(events(response)) == response


@pytest.mark.parametrize("name", RESPONSES)
def test_collected_events_are_the_response(name: str) -> None:
    assert collect(events(RESPONSES[name])) == RESPONSES[name]
