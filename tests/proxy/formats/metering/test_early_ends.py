"""Streams with a correct HTTP body that end before the response is complete."""

import json
from typing import Any

import pytest

from proxy.formats.neutral import Failed
from proxy.formats.openai_chat.passthrough import ChatRequest
from proxy.formats.registry import CODECS
from proxy.formats.streaming.sse import MAX_EVENT_BYTES, event_data
from proxy.formats.streaming.stream_errors import STREAM_INTERRUPTED
from tests.proxy.formats.test_upstream_failures import ARRAY, CLIENT_REQUESTS, meter_stream, stream_of

WITH_USAGE = {
    "openai_chat": ChatRequest(
        b'{"model": "m", "messages": [{}], "stream": true, "stream_options": {"include_usage": true}}'
    )
}
"""A request that asks for usage, so that all bytes of the stream pass unchanged."""


@pytest.mark.parametrize("name", CLIENT_REQUESTS)
@pytest.mark.parametrize("kept", [0, 1, 2])
def test_stream_that_ends_early_is_a_failure_in_every_format(name: str, kept: int) -> None:
    """The body is complete by HTTP, but the response is not complete by its format."""
    end = b"\r\n\r\n" if name == "gemini" else b"\n\n"
    stream_events = stream_of(name).split(end)
    start = end.join([*stream_events[:kept], b""])
    meter = CLIENT_REQUESTS[name].meter()
    assert meter_stream(meter, start) == (start, False)
    assert meter.error == STREAM_INTERRUPTED


@pytest.mark.parametrize("name", CLIENT_REQUESTS)
def test_unreadable_event_may_have_been_the_final_one(name: str) -> None:
    meter = CLIENT_REQUESTS[name].meter()
    meter.feed(b"x" * (MAX_EVENT_BYTES + 1))
    meter.feed(b"y")
    meter.finish()
    assert meter.error is None


def test_chat_stream_is_complete_when_every_choice_has_finished() -> None:
    """Some compatible servers never send [DONE]."""
    start = chat_chunk(0, "a", None) + chat_chunk(1, "b", None)
    for ends, complete in (((), False), ((0,), False), ((1,), False), ((0, 1), True)):
        meter = CLIENT_REQUESTS["openai_chat"].meter()
        meter_stream(meter, start + b"".join(chat_chunk(index, "", "stop") for index in ends))
        assert (meter.error is None) is complete


def chat_chunk(index: int, text: str, reason: str | None) -> bytes:
    choice = {"index": index, "delta": {"content": text}, "finish_reason": reason}
    return b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n"


def gemini_chunk(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("chunk", "complete"),
    [
        (gemini_chunk(promptFeedback={"blockReason": "SAFETY"}), True),
        (gemini_chunk(promptFeedback={"safetyRatings": []}, usageMetadata={"promptTokenCount": 3}), True),
        (gemini_chunk(candidates=[{"content": {"parts": [{"text": "Hi"}]}}], promptFeedback={}), False),
        (gemini_chunk(candidates=[{"content": {"parts": [{"text": 5}]}, "finishReason": "STOP"}]), True),
        (gemini_chunk(candidates=[{"index": 0, "finishReason": "STOP"}, {"index": 1}]), False),
        (gemini_chunk(usageMetadata={"promptTokenCount": 3}), False),
    ],
)
def test_gemini_stream_ends_alike_passed_through_and_converted(chunk: bytes, complete: bool) -> None:
    meter, decoder = CLIENT_REQUESTS["gemini"].meter(), CODECS["gemini"].parse_stream()
    meter_stream(meter, chunk)
    seen = [*decoder.feed(chunk), *decoder.finish()]
    assert (meter.error is None, isinstance(seen[-1], Failed)) == (complete, not complete)


def test_text_naming_the_final_event_does_not_end_an_anthropic_stream() -> None:
    delta = {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": "message_stop"},
    }
    meter = CLIENT_REQUESTS["anthropic"].meter()
    meter_stream(meter, b"event: content_block_delta\ndata: " + json.dumps(delta).encode() + b"\n\n")
    assert meter.error == STREAM_INTERRUPTED


@pytest.mark.parametrize("name", CLIENT_REQUESTS)
def test_error_after_a_partial_event_is_a_separate_event(name: str) -> None:
    """The connection to the provider may break at any byte."""
    meter, stream = WITH_USAGE.get(name, CLIENT_REQUESTS[name]).meter(), stream_of(name)
    passed = meter.feed(stream[: len(stream) // 2]) + meter.render_error_event(STREAM_INTERRUPTED, "req_1")
    last = passed.replace(b"\r\n", b"\n").split(b"\n\n")[-2]
    assert json.loads(event_data(last))["error"]["message"] == STREAM_INTERRUPTED.message


def test_gemini_array_that_ends_early_is_valid_json() -> None:
    meter = ARRAY.meter()
    passed, _ = meter_stream(meter, gemini_chunk(candidates=[{"content": {"parts": [{"text": "Hi"}]}}]))
    assert meter.error == STREAM_INTERRUPTED
    chunks = json.loads(passed + meter.render_error_event(meter.error, "req_1"))
    assert [list(chunk) for chunk in chunks] == [["candidates"], ["error"]]
