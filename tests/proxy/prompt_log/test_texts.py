"""Texts of requests, responses and streams in each format."""

import json
from typing import Any

import pytest

from proxy.prompt_log.capture import StreamText
from proxy.prompt_log.texts import newest_message, text_of
from tests.support.api_calls import FORMATS, RESPONSES, STREAMS

HISTORY = {"role": "user", "content": "Earlier"}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"messages": [HISTORY, {"role": "user", "content": "Now"}]}, "Now"),
        ({"messages": [{"content": [{"type": "text", "text": "A"}, {"type": "image_url"}]}]}, "A"),
        ({"messages": [{"content": [{"type": "tool_result", "content": [{"text": "42"}]}]}]}, "42"),
        ({"input": "Now"}, "Now"),
        ({"input": [HISTORY, {"role": "user", "content": [{"type": "input_text", "text": "Now"}]}]}, "Now"),
        ({"input": [{"type": "function_call_output", "output": "42"}]}, "42"),
        ({"contents": [{"role": "user", "parts": [{"text": "Now"}]}]}, "Now"),
        ({"prompt": ["A", "B"]}, "A\nB"),
        ({"input": ["A", "B"]}, "A\nB"),
        ({"input": [[1, 2], [3]]}, ""),
        ({"content": {"parts": [{"text": "A"}]}}, "A"),
        ({"messages": []}, ""),
        ({"messages": "odd"}, "odd"),
        ({}, ""),
    ],
)
def test_prompt_is_the_newest_message(fields: dict[str, Any], text: str) -> None:
    assert text_of(newest_message(fields), 100) == text


@pytest.mark.parametrize("format", FORMATS)
def test_text_of_a_response_is_found(format: str) -> None:
    assert text_of(RESPONSES[format]("Hello there"), 100) == "Hello there"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("size", [7, 10_000])
def test_text_of_a_stream_is_found_once(format: str, size: int) -> None:
    data = b"".join(STREAMS[format]("Hello ", {}, 3))
    stream = StreamText(1000)
    for start in range(0, len(data), size):
        stream.read([data[start : start + size]])
    assert stream.finish() == "Hello Hello Hello "


def test_reading_stops_at_the_limit() -> None:
    stream = StreamText(10)
    stream.read(STREAMS["openai_chat"]("Hello ", {}, 100))
    assert stream.is_full and stream.finish() == "Hello Hello "


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"error": {"message": "No."}}, "No."),
        ({"choices": [{"text": "legacy"}]}, "legacy"),
        (
            {"choices": [{"message": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]},
            "f\n{}",
        ),
        ({"content": [{"type": "tool_use", "name": "f", "input": {"a": 1}}]}, 'f\n{"a":1}'),
        ({"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": {}}}]}}]}, "f"),
        ({"data": [{"embedding": [0.1]}]}, ""),
        ([{"candidates": [{"content": {"parts": [{"text": "A"}]}}]}], "A"),
        ("plain", "plain"),
    ],
)
def test_errors_and_tool_calls_have_texts_too(value: Any, text: str) -> None:
    assert text_of(value, 100) == text


def test_events_that_are_not_json_have_no_text() -> None:
    stream = StreamText(100)
    stream.read([b": keep-alive\n\n", b"data: [DONE]\n\n", b"data: {broken\n\n", b"data: 3\n\n"])
    stream.read([b'data: {"type": "response.failed", "response": 3}\n\n'])
    failed = {"type": "response.failed", "response": {"error": {"message": "No."}}}
    stream.read([f"data: {json.dumps(failed)}\n\n".encode()])
    assert stream.finish() == "No."


def test_a_text_is_read_only_up_to_its_limit() -> None:
    parts = [{"text": "word " * 100}] * 1_000_000
    assert text_of({"content": parts}, 700) == ("word " * 100) + "\n" + "word " * 40


def test_a_value_that_is_nested_too_deeply_has_a_mark() -> None:
    value: Any = "deep"
    for _ in range(5000):
        value = [value]
    assert text_of(value, 100) == "[nested too deeply]"
