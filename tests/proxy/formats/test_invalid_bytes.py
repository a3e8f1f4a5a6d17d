"""Unusual bytes of servers: line ends, byte order marks, half characters, null for missing values."""

import json
from typing import Any

import pytest

from proxy.formats.json_body import is_json_document, repair_json
from proxy.formats.neutral import Finished, PartDelta, PartStarted, Started, Text, ToolCall
from proxy.formats.registry import CODECS
from tests.proxy.formats.golden.builders import FORMATS
from tests.proxy.formats.test_streams import decoded, encoded_stream

formats = pytest.mark.parametrize("format", FORMATS)

STREAMS: dict[str, list[dict[str, Any]]] = {
    "openai_chat": [
        {
            "id": "c",
            "model": "m",
            "choices": [
                {"index": 0, "delta": {"role": "assistant", "content": "Say %s!"}, "finish_reason": "stop"}
            ],
        }
    ],
    "openai_responses": [
        {
            "type": "response.output_text.delta",
            "output_index": 0,
            "content_index": 0,
            "item_id": "i",
            "delta": "Say %s!",
        },
        {
            "type": "response.completed",
            "response": {"id": "r", "model": "m", "status": "completed", "output": []},
        },
    ],
    "anthropic": [
        {
            "type": "message_start",
            "message": {
                "id": "m",
                "model": "m",
                "content": [],
                "usage": {"input_tokens": 1, "output_tokens": 1},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Say %s!"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ],
    "gemini": [
        {
            "candidates": [
                {
                    "content": {"parts": [{"text": "Say %s!"}], "role": "model"},
                    "finishReason": "STOP",
                    "index": 0,
                }
            ]
        }
    ],
}
BODIES: dict[str, dict[str, Any]] = {
    "openai_chat": {"choices": [{"message": {"content": "Say %s!"}, "finish_reason": "stop"}]},
    "openai_responses": {
        "status": "completed",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "Say %s!"}]}],
    },
    "anthropic": {"content": [{"type": "text", "text": "Say %s!"}], "stop_reason": "end_turn"},
    "gemini": STREAMS["gemini"][0],
}


def stream_saying(format: str, text: str) -> bytes:
    return b"".join(
        b"data: " + json.dumps(event).replace("%s", text).encode() + b"\n\n" for event in STREAMS[format]
    )


def streamed_text(format: str, stream: bytes) -> str:
    seen = decoded(format, stream)
    assert isinstance(seen[-1], Finished)
    return "".join(event.text for event in seen if isinstance(event, PartDelta))


@formats
@pytest.mark.parametrize("scenario", ["text", "parallel tool calls"])
@pytest.mark.parametrize("cuts", [(), range(0, 6000, 7)])
def test_lines_may_end_in_carriage_returns(format: str, scenario: str, cuts: range) -> None:
    stream = encoded_stream(format, scenario).replace(b"\r\n", b"\n")
    assert event_types(format, stream.replace(b"\n", b"\r"), cuts) == event_types(format, stream, ())


def event_types(format: str, stream: bytes, cuts: Any) -> list[str]:
    return [type(event).__name__ for event in decoded(format, stream, cuts)]


@formats
def test_byte_order_mark_is_ignored(format: str) -> None:
    assert streamed_text(format, b"\xef\xbb\xbf" + stream_saying(format, "hi")) == "Say hi!"
    body = b"\xef\xbb\xbf" + json.dumps(BODIES[format]).encode()
    assert CODECS[format].parse_response(body).choices[0].parts == (Text(text="Say %s!"),)


@formats
@pytest.mark.parametrize("half", [r"\ud83d", r"\uDE00"])
def test_lone_surrogate_loses_only_itself(format: str, half: str) -> None:
    assert streamed_text(format, stream_saying(format, half)) == "Say \N{REPLACEMENT CHARACTER}!"
    body = json.dumps(BODIES[format]).replace("%s", half).encode()
    assert CODECS[format].parse_response(body).choices[0].parts == (
        Text(text="Say \N{REPLACEMENT CHARACTER}!"),
    )


@formats
def test_invalid_utf8_loses_only_itself(format: str) -> None:
    assert (
        streamed_text(format, stream_saying(format, "hi").replace(b"hi", b"h\xff"))
        == "Say h\N{REPLACEMENT CHARACTER}!"
    )


@pytest.mark.parametrize(
    "valid_json", [rb'"\ud83d\ude00"', rb'"\\ud83d"', rb'"\\\\ud83d \n"', '"😀"'.encode()]
)
def test_valid_json_is_unchanged(valid_json: bytes) -> None:
    assert repair_json(valid_json) == valid_json


# Null where something is absent -------------------------------------------------------------------


def test_nulls_in_an_anthropic_compatible_response() -> None:
    call = {"type": "tool_use", "id": None, "name": "f", "input": None, "caller": None}
    text = {"type": "text", "text": None, "citations": None}
    body = {
        "id": None,
        "content": [text, {"type": "thinking", "thinking": None, "signature": "s"}, call],
        "stop_reason": None,
    }
    choice = CODECS["anthropic"].parse_response(json.dumps(body).encode()).choices[0]
    assert [part.arguments for part in choice.parts if isinstance(part, ToolCall)] == [
        "{}"
    ] and choice.finish_reason == "tool_calls"


def test_nulls_in_an_anthropic_compatible_stream() -> None:
    events = [
        {"type": "message_start", "index": None, "message": None},
        {
            "type": "content_block_start",
            "index": None,
            "content_block": {"type": "tool_use", "id": None, "name": "f", "input": None},
        },
        {
            "type": "content_block_delta",
            "index": None,
            "delta": {"type": "input_json_delta", "partial_json": '{"a": null}', "text": None},
        },
        {"type": "content_block_stop", "index": None},
        {"type": "message_delta", "delta": {"stop_reason": None}},
        {"type": "message_stop"},
    ]
    seen = decoded(
        "anthropic", b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    )
    assert [
        event.part.name
        for event in seen
        if isinstance(event, PartStarted) and isinstance(event.part, ToolCall)
    ] == ["f"]
    assert [event.text for event in seen if isinstance(event, PartDelta)] == ['{"a": null}']
    assert seen[-1] == Finished(choice=0, finish_reason="tool_calls")


def test_item_without_text_adds_nothing() -> None:
    item = {
        "type": "message",
        "id": "i",
        "content": [{"type": "output_text", "text": None, "annotations": []}],
    }
    done = {"type": "response.output_item.done", "output_index": 0, "item": item}
    stream = stream_saying("openai_responses", "hi").replace(
        b"\n\n", b"\n\ndata: " + json.dumps(done).encode() + b"\n\n", 1
    )
    assert event_types("openai_responses", stream, ()) == event_types(
        "openai_responses", stream_saying("openai_responses", "hi"), ()
    )


def test_keepalive_before_the_response_does_not_start_it() -> None:
    created = b'data: {"type": "response.created", "response": {"id": "r1", "model": "m1", "output": []}}\n\n'
    stream = (
        b'data: {"type": "keepalive", "sequence_number": 0}\n\n'
        + created
        + stream_saying("openai_responses", "hi")
    )
    assert decoded("openai_responses", stream)[0] == Started(id="r1", model="m1")


def test_unreadable_part_does_not_affect_others() -> None:
    parts = [{"inlineData": {"mimeType": None, "data": "x"}}, {"text": "hi"}]
    body = {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]}
    (choice,) = CODECS["gemini"].parse_response(json.dumps(body).encode()).choices
    assert choice.parts == (Text(text="hi"),)


@pytest.mark.parametrize(
    ("body", "is_json"),
    [
        (b'{"a": 1}', True),
        (b' [{"a": 1}]\n', True),
        (b'\xef\xbb\xbf{"a": "\\ud83d"}', True),
        (b'{"logprob": NaN}', True),
        (b'{"a": 1e999}', True),
        (b'{"a": {"b": 1}', False),
        (b"<html></html>", False),
        (b'"text"', False),
        (b"", False),
    ],
)
def test_complete_json_is_an_object_or_a_list(body: bytes, is_json: bool) -> None:
    assert is_json_document(body) == is_json
