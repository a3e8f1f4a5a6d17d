"""Streams of Anthropic Messages: decoded, encoded and passed through."""

import contextlib
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.formats import anthropic
from proxy.formats.anthropic import CountTokensRequest, MessagesRequest, StreamDecoder, StreamEncoder
from proxy.formats.anthropic.opaque_parts import parse_opaque_part
from proxy.formats.json_body import parse_object
from proxy.formats.neutral import (
    ApiError,
    Event,
    Failed,
    Finished,
    InvalidRequest,
    InvalidUpstreamResponse,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Started,
    Text,
    Thinking,
    ToolCall,
    Usage,
    UsageReported,
)
from proxy.formats.quirks import Quirks
from proxy.formats.seals import seal
from tests.proxy.formats.anthropic.samples import (
    OLDER_MODEL,
    REQUEST,
    RESPONSE_USAGE,
    USAGE,
    render,
    response_body,
    wire_request,
)

# Streams ------------------------------------------------------------------------------------------


def event(type: str, **fields: Any) -> bytes:
    return f"event: {type}\ndata: {json.dumps({'type': type, **fields}, ensure_ascii=False)}\n\n".encode()


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> bytes:
    return (
        event("content_block_start", index=index, content_block=start)
        + b"".join(event("content_block_delta", index=index, delta=delta) for delta in deltas)
        + event("content_block_stop", index=index)
    )


START = event(
    "message_start", message={"id": "msg_1", "model": "m", "usage": {"input_tokens": 3, "output_tokens": 1}}
)
END = event("message_delta", delta={"stop_reason": "tool_use"}, usage=USAGE) + event("message_stop")
TEXT = block(
    1,
    {"type": "text", "text": ""},
    {"type": "text_delta", "text": "Grü"},
    {"type": "text_delta", "text": "ße"},
)
STREAM = (
    START
    + block(
        0,
        {"type": "thinking", "thinking": ""},
        {"type": "thinking_delta", "thinking": "hm"},
        {"type": "signature_delta", "signature": "s"},
    )
    + event("ping")
    + TEXT
    + block(
        2,
        {"type": "server_tool_use", "id": "s1", "name": "search", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"q":1}'},
    )
    + block(
        3,
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {}},
        {"type": "input_json_delta", "partial_json": ""},
    )
    + END
)


def decode(stream: bytes, cuts: list[int] | None = None) -> list[Event]:
    decoder = StreamDecoder()
    edges = [0, *sorted({cut % (len(stream) or 1) for cut in cuts or ()}), len(stream)]
    events = [event for start, end in pairwise(edges) for event in decoder.feed(stream[start:end])]
    return events + decoder.finish()


def texts(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, PartDelta))


def encode(*events: Event) -> list[dict[str, Any]]:
    encoder = StreamEncoder(REQUEST)
    stream = b"".join(map(encoder.encode, events)) + encoder.finish()
    return [json.loads(line[6:]) for line in stream.splitlines() if line.startswith(b"data: ")]


def test_stream_is_decoded_into_neutral_events() -> None:
    search = {"type": "server_tool_use", "id": "s1", "name": "search", "input": {"q": 1}}
    assert decode(STREAM) == [
        Started(id="msg_1", model="m"),
        PartStarted(choice=0, index=0, part=Thinking(origin="anthropic")),
        PartDelta(choice=0, index=0, text="hm"),
        PartSigned(choice=0, index=0, signature="s"),
        PartEnded(choice=0, index=0),
        PartStarted(choice=0, index=1, part=Text()),
        PartDelta(choice=0, index=1, text="Grü"),
        PartDelta(choice=0, index=1, text="ße"),
        PartEnded(choice=0, index=1),
        PartStarted(choice=0, index=2, part=parse_opaque_part(search, "server_tool_use")),
        PartEnded(choice=0, index=2),
        PartStarted(choice=0, index=3, part=ToolCall(id="t1", name="weather")),
        PartDelta(choice=0, index=3, text="{}"),
        PartEnded(choice=0, index=3),
        UsageReported(usage=RESPONSE_USAGE),
        Finished(choice=0, finish_reason="tool_calls"),
    ]


@given(st.lists(st.integers(0, 10_000), max_size=40), st.sampled_from([b"\n", b"\r\n"]), st.booleans())
def test_chunk_boundaries_do_not_change_the_events(cuts: list[int], newline: bytes, spaced: bool) -> None:
    stream = STREAM.replace(b"\n", newline)
    assert decode(stream if spaced else stream.replace(b"data: ", b"data:"), cuts) == decode(STREAM)


@given(st.lists(st.sampled_from(STREAM.split(b"\n\n")), max_size=20), st.binary(max_size=20))
def test_events_in_any_order_give_a_well_formed_stream(pieces: list[bytes], junk: bytes) -> None:
    events = decode(b"\n\n".join([*pieces, junk]))
    open_part: int | None = None
    assert (
        sum(isinstance(event, Finished) for event in events)
        + sum(isinstance(event, Failed) for event in events)
        >= 1
    )
    for event in events:
        match event:
            case PartStarted():
                assert open_part is None
                open_part = event.index
            case PartDelta() | PartSigned():
                assert open_part == event.index
            case PartEnded():
                assert open_part == event.index
                open_part = None
            case _:
                assert open_part is None or isinstance(event, UsageReported)


def test_overlapping_blocks_are_serialized() -> None:
    first, second = (
        {"type": "text", "text": "A"},
        {"type": "tool_use", "id": "t", "name": "n", "input": {"a": 1}},
    )
    overlapping = (
        event("content_block_start", index=0, content_block=first)
        + event("content_block_start", index=1, content_block=second)
        + event("content_block_delta", index=0, delta={"type": "text_delta", "text": "B"})
    )
    assert texts(decode(START + overlapping + END)) == 'AB{"a":1}'.replace(":1", ": 1")


def test_overlapping_parts_keep_the_order_in_which_they_began() -> None:
    starts = b"".join(
        event("content_block_start", index=index, content_block={"type": "text", "text": text})
        for index, text in enumerate("ABC")
    )
    stops = b"".join(event("content_block_stop", index=index) for index in (2, 1, 0))
    assert texts(decode(START + starts + stops + END)) == "ABC"


def test_repeated_start_and_end_are_ignored() -> None:
    assert [
        event
        for event in decode(START + START + TEXT + END + TEXT + END)
        if not isinstance(event, UsageReported)
    ] == [event for event in decode(START + TEXT + END) if not isinstance(event, UsageReported)]


@pytest.mark.parametrize("pieces", [["sig"], ["s", "ig"], ["s", "sig"]])
def test_signature_is_emitted_once_complete(pieces: list[str]) -> None:
    block = event(
        "content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""}
    )
    deltas = [
        event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": piece})
        for piece in pieces
    ]
    events = decode(START + block + b"".join(deltas) + event("content_block_stop", index=0) + END)
    assert [signed.signature for signed in events if isinstance(signed, PartSigned)] == ["sig"]


def test_interrupted_stream_fails() -> None:
    events = decode(START + TEXT)
    assert isinstance(events[-1], Failed)
    assert events[-1].error.kind == "network"
    assert not any(isinstance(event, UsageReported) for event in events)


def test_error_event_ends_the_stream() -> None:
    error = event("error", error={"type": "overloaded_error", "message": "busy"})
    events = decode(START + error + TEXT)
    assert events[-1] == Failed(
        error=ApiError(kind="server_error", code="overloaded", message="busy", status=529)
    )


def test_non_streaming_body_is_parsed_as_a_response() -> None:
    assert texts(decode(response_body(content=[{"type": "text", "text": "whole"}]))) == "whole"
    failed = decode(b"<html><body>Bad\n\nGateway</body></html>")[-1]
    assert isinstance(failed, Failed)
    assert failed.error.message == "Bad Gateway"


def test_encoder_follows_the_event_grammar() -> None:
    sent = encode(
        Started(id="chatcmpl-1", model="m"),
        PartStarted(choice=0, index=0, part=Text()),
        PartEnded(choice=0, index=0),
        PartStarted(choice=0, index=1, part=ToolCall(id="c1", name="weather", origin="gemini")),
        PartSigned(choice=0, index=1, signature="signed"),
        PartDelta(choice=0, index=1, text='{"a":1}'),
        PartEnded(choice=0, index=1),
        Finished(choice=0, finish_reason="tool_calls"),
        UsageReported(usage=RESPONSE_USAGE),
    )
    assert [(event["type"], event.get("index")) for event in sent] == [
        ("message_start", None),
        ("content_block_start", 0),
        ("content_block_delta", 0),
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_delta", 1),
        ("content_block_stop", 1),
        ("message_delta", None),
        ("message_stop", None),
    ]
    sealed = seal(Thinking(signature="signed", origin="gemini"))
    assert sent[2]["delta"] == {"type": "signature_delta", "signature": sealed}
    assert sent[7]["delta"]["stop_reason"] == "tool_use"
    assert {name: sent[7]["usage"][name] for name in USAGE} == USAGE


def test_encoded_events_decode_to_the_same_events() -> None:
    events = [event for event in decode(STREAM) if not isinstance(event, Started)]
    encoder = StreamEncoder(REQUEST)
    stream = b"".join(map(encoder.encode, decode(STREAM))) + encoder.finish()
    assert [event for event in decode(stream) if not isinstance(event, Started)] == events


def test_failed_stream_ends_with_an_error_event() -> None:
    sent = encode(
        Started(id="", model="m"),
        Failed(error=ApiError(kind="timeout", code="c", message="late", status=504)),
    )
    assert sent[-1] == {"type": "error", "error": {"type": "timeout_error", "message": "late"}}


# Pass-through -------------------------------------------------------------------------------------


def test_pass_through_changes_only_model_and_max_tokens() -> None:
    body = b'{"model":"a",  "new_field": [1.0],"messages":[{"role":"user","content":"x"}]}'
    request = MessagesRequest(body)
    assert request.upstream_body("a", None, Quirks()) is body
    sent = json.loads(request.upstream_body("b", 7, Quirks()))
    assert (sent["model"], sent["max_tokens"], sent["new_field"]) == ("b", 7, [1.0])


def test_images_count_by_formula_and_text_by_bytes() -> None:
    def bound(content: Any) -> int:
        return MessagesRequest(
            wire_request(messages=[{"role": "user", "content": content}])
        ).facts.max_input_tokens

    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": "A" * 1_000_000},
    }
    assert bound([image]) < 20_000
    assert bound("ü" * 100) - bound("") == 200


@given(st.lists(st.integers(0, 10_000), max_size=20))
def test_meter_forwards_every_byte_and_reads_the_usage(cuts: list[int]) -> None:
    meter = MessagesRequest(wire_request()).meter()
    edges = [0, *sorted({cut % len(STREAM) for cut in cuts}), len(STREAM)]
    assert (
        b"".join(meter.feed(STREAM[start:end]) for start, end in pairwise(edges)) + meter.finish() == STREAM
    )
    assert meter.usage == RESPONSE_USAGE


def test_interrupted_stream_is_metered_by_its_output() -> None:
    meter = MessagesRequest(wire_request()).meter()
    meter.feed(START + TEXT)
    assert meter.usage == Usage(input=3, output=2, estimated=True)


def test_count_tokens_request_has_no_max_tokens_and_can_estimate() -> None:
    request = CountTokensRequest(wire_request(messages=[{"role": "user", "content": "x" * 400}]))
    assert request.path("m") == "/v1/messages/count_tokens"
    assert request.upstream_body(OLDER_MODEL, 50, Quirks()) == request.body
    assert json.loads(request.estimate())["input_tokens"] in range(100, 110)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        wire_request(model=""),
        wire_request(model=7),
        wire_request(messages=[]),
        wire_request(messages=[1]),
        wire_request(max_tokens=0),
        wire_request(max_tokens=10**12),
    ],
)
def test_invalid_request_is_rejected(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        MessagesRequest(body)


# Arbitrary input ----------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
TYPES = st.sampled_from(
    ["text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking", "search_result"]
)
BLOCKS = st.lists(
    st.fixed_dictionaries(
        {"type": TYPES},
        optional=dict.fromkeys(
            ("text", "source", "id", "input", "content", "citations", "signature", "data"), JSON
        ),
    ),
    max_size=4,
)
TURNS = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]), "content": BLOCKS}),
    min_size=1,
    max_size=5,
)


@given(
    TURNS,
    st.dictionaries(
        st.sampled_from(["system", "tools", "thinking", "tool_choice", "output_config", "extra"]), JSON
    ),
)
def test_arbitrary_input_raises_only_typed_errors(turns: list[Any], fields: dict[str, Any]) -> None:
    body = wire_request(messages=turns, **fields)
    with contextlib.suppress(InvalidRequest):
        json.dumps(render(anthropic.parse_request(parse_object(body))).body)
    with contextlib.suppress(InvalidUpstreamResponse):
        anthropic.render_response(
            anthropic.parse_response(response_body(content=turns[0]["content"], usage=fields)), REQUEST
        )
    assert anthropic.parse_error(500, body).message
