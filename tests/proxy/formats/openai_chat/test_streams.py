"""Streams of OpenAI Chat Completions, and arbitrary bytes instead of a stream."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from openai.types.chat import ChatCompletionChunk

from proxy.formats import openai_chat
from proxy.formats.json_body import guard_recursion, parse_object
from proxy.formats.neutral import (
    ApiError,
    Event,
    Failed,
    Finished,
    FinishReason,
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
from proxy.formats.openai_chat.wire import WireMessage, WireRequest
from proxy.formats.quirks import Quirks
from proxy.formats.seals import seal
from tests.proxy.formats.openai_chat.builders import (
    CHAT_REQUEST,
    call,
    chunk,
    decode,
    encode,
    parts_of,
    tool_call_fragment,
)

# Streams ------------------------------------------------------------------------------------------


def test_stream_becomes_events() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    stream = (
        b'data: {"id": "", "choices": [], "prompt_filter_results": []}\n\n'
        + chunk({"role": "assistant", "content": ""})
        + b": comment\n\n"
        + chunk({"reasoning": "hm"})
        + chunk({"content": "Hel"})
        + chunk({"content": "lo"}, "stop")
        + chunk({}, "stop", usage=usage)
        + b"data: [DONE]\n\n"
    )
    assert decode(stream) == [
        Started(id="c1", model="m1"),
        PartStarted(choice=0, index=0, part=Thinking(origin="openai_chat")),
        PartDelta(choice=0, index=0, text="hm"),
        PartEnded(choice=0, index=0),
        PartStarted(choice=0, index=1, part=Text()),
        PartDelta(choice=0, index=1, text="Hel"),
        PartDelta(choice=0, index=1, text="lo"),
        UsageReported(usage=Usage(input=3, output=2)),
        PartEnded(choice=0, index=1),
        Finished(choice=0, finish_reason="stop"),
    ]


@pytest.mark.parametrize(
    ("reasons", "finish"),
    [(["stop", "stop"], "stop"), (["length", "stop"], "length"), (["stop", "length"], "length")],
)
def test_finish_reason_in_every_chunk_does_not_end_the_stream(
    reasons: list[str], finish: FinishReason
) -> None:
    stream = b"".join(
        chunk({"content": word}, reason) for word, reason in zip(("Hel", "lo"), reasons, strict=True)
    )
    seen = decode(stream)
    assert "".join(event.text for event in seen if isinstance(event, PartDelta)) == "Hello"
    assert seen[-1] == Finished(choice=0, finish_reason=finish)


def test_usage_in_the_choice_is_read() -> None:
    data = {
        "choices": [
            {
                "index": 0,
                "delta": {},
                "finish_reason": "stop",
                "usage": {"prompt_tokens": 3, "completion_tokens": 2},
            }
        ]
    }
    assert UsageReported(usage=Usage(input=3, output=2)) in decode(
        b"data: " + json.dumps(data).encode() + b"\n\n"
    )


def test_call_name_may_come_after_its_id() -> None:
    stream = (
        chunk({"tool_calls": [{"index": 0, "id": "a", "type": "function"}]})
        + chunk({"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}]})
        + chunk(
            {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": '{"x":1}'}}]}, "tool_calls"
        )
    )
    started = [event.part for event in decode(stream) if isinstance(event, PartStarted)]
    assert [(part.id, part.name) for part in started if isinstance(part, ToolCall)] == [
        ("a", "f"),
        ("b", "g"),
    ]


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("content_filter: PROHIBITED_CONTENT", "content_filter"),
        ("end_turn", "stop"),
        ("sensitive", "content_filter"),
        ("odd", "other"),
    ],
)
def test_finish_reason_aliases(word: str, finish: FinishReason) -> None:
    assert decode(chunk({"content": "x"}, word))[-1] == Finished(choice=0, finish_reason=finish)


@pytest.mark.parametrize(
    "fragments",
    [
        [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}},
            {"index": 0, "id": "", "function": {"arguments": '{"x":1}'}},
        ],
        [{"id": "a", "function": {"name": "f", "arguments": '{"x":'}}, {"function": {"arguments": "1}"}}],
        [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":'}},
            {"index": 0, "function": {"name": "f", "arguments": "1}"}},
        ],
        [{"index": 0, "id": "a", "function": {"name": "f", "arguments": {"x": 1}}}],
    ],
)
def test_calls_of_all_known_forms_are_read(fragments: list[dict[str, Any]]) -> None:
    events = decode(b"".join(chunk(tool_call_fragment(**item)) for item in fragments) + chunk({}, "stop"))
    assert parts_of(events) == [(ToolCall(id="a", name="f", origin="openai_chat"), '{"x":1}')]
    assert events[-1] == Finished(choice=0, finish_reason="tool_calls")


def test_interleaved_tool_calls_are_serialized() -> None:
    stream = (
        chunk(tool_call_fragment(index=0, id="a", function={"name": "f", "arguments": '{"x":'}))
        + chunk(tool_call_fragment(index=1, id="b", function={"name": "g", "arguments": '{"y":'}))
        + chunk(tool_call_fragment(index=0, function={"arguments": "1}"}))
        + chunk(tool_call_fragment(index=1, function={"arguments": "2}"}), "tool_calls")
    )
    assert [(part.name, text) for part, text in parts_of(decode(stream))] == [
        ("f", '{"x":1}'),
        ("g", '{"y":2}'),
    ]


def test_new_id_or_name_starts_a_call_without_usable_index() -> None:
    stream = chunk(tool_call_fragment(index=0, id="a", function={"name": "f", "arguments": "{}"})) + chunk(
        tool_call_fragment(index=0, id="b", function={"name": "f", "arguments": "{}"})
    )
    assert [part.id for part, _ in parts_of(decode(stream + b"data: [DONE]\n\n"))] == ["a", "b"]


def test_parallel_calls_are_streamed_as_they_come() -> None:
    decoder = openai_chat.parse_stream()
    decoder.feed(chunk(tool_call_fragment(index=0, id="a", function={"name": "f", "arguments": "{}"})))
    events = decoder.feed(
        chunk(tool_call_fragment(index=1, id="b", function={"name": "g", "arguments": '{"y'}))
    )
    assert [type(event) for event in events] == [PartEnded, PartStarted, PartDelta]


def test_legacy_function_calls_are_streamed() -> None:
    stream = chunk({"function_call": {"name": "f", "arguments": ""}}) + chunk(
        {"function_call": {"arguments": "{}"}}, "function_call"
    )
    ((part, text),) = parts_of(decode(stream))
    assert part.name == "f" and text == "{}" and part.id.startswith("call_")


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b'event: error\ndata: {"error": {"message": "too long"}}\n\n', "too long"),
        (
            chunk({"content": "x"})
            + b'data: {"error": {"message": "too long"}, "choices": []}\n\ndata: [DONE]\n\n',
            "too long",
        ),
        (b'{"error": {"message": "too long"}}', "too long"),
        (b"event: error\ndata: too long\n\n", "too long"),
        (chunk({"content": "x"}), "ended before it was complete"),
        (b"", "ended before it was complete"),
        (b"data: [DONE]\n\n", "ended before it was complete"),
        (b"<html>\n\n</html>", "not a JSON object"),
    ],
)
def test_failed_stream_reports_the_reason(stream: bytes, message: str) -> None:
    failed = decode(stream)[-1]
    assert isinstance(failed, Failed) and message in failed.error.message


def test_missing_done_marker_or_finish_reason_is_tolerated() -> None:
    assert decode(chunk({"content": "x"}, "eos"))[-1] == Finished(choice=0, finish_reason="stop")
    assert decode(chunk({"content": "x"}) + b"data: [DONE]\n\n")[-1] == Finished(
        choice=0, finish_reason="stop"
    )


@pytest.mark.parametrize("half", [rb"\ud83d", rb"\ude00", b"\xff"])
def test_lone_surrogate_loses_only_itself(half: bytes) -> None:
    stream = chunk({"content": "a HALF b \U0001f600"}, "stop").replace(b"HALF", half)
    assert parts_of(decode(stream)) == [(Text(), "a \ufffd b \U0001f600")]


def test_non_streaming_body_is_parsed_as_a_response() -> None:
    body = json.dumps(
        {"id": "c", "model": "m", "choices": [{"message": {"content": "hi", "tool_calls": [call("a")]}}]},
        indent=2,
    )
    events = decode(body.encode())
    assert parts_of(events) == [
        (Text(), "hi"),
        (ToolCall(id="a", name="weather", origin="openai_chat"), "{}"),
    ]
    assert events[-1] == Finished(choice=0, finish_reason="tool_calls")


def test_signatures_are_kept_in_a_stream() -> None:
    detail = {"type": "reasoning.text", "signature": "sig", "format": "x"}
    stream = chunk({"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]})
    stream += chunk({"reasoning_details": [detail]})
    stream += chunk(
        tool_call_fragment(
            index=0,
            id="a",
            function={"name": "f", "arguments": "{}"},
            extra_content={"google": {"thought_signature": "proof"}},
        ),
        "stop",
    )
    events = decode(stream)
    signed = [event.signature for event in events if isinstance(event, PartSigned)]
    assert [json.loads(signed[0]), signed[1]] == [detail, "proof"]
    deltas = [choice["delta"] for chunk in encode(events)[:-1] for choice in chunk["choices"]]
    assert [detail] == [
        {name: value for name, value in entry.items() if name != "text"}
        for d in deltas
        for entry in d.get("reasoning_details", ())
    ]
    sealed = seal(Thinking(signature="proof", origin="gemini"))
    assert {"google": {"thought_signature": sealed}} in [
        c.get("extra_content") for d in deltas for c in d.get("tool_calls", ())
    ]


SIGNED_THINKING = Thinking(text="hm", signature="sig", origin="anthropic")
EVENTS: list[Event] = [
    Started(id="msg_1", model="claude"),
    PartStarted(choice=0, index=0, part=Thinking(origin="anthropic")),
    PartDelta(choice=0, index=0, text="hm"),
    PartSigned(choice=0, index=0, signature="sig"),
    PartEnded(choice=0, index=0),
    PartStarted(choice=0, index=1, part=Text()),
    PartDelta(choice=0, index=1, text="Hi"),
    PartEnded(choice=0, index=1),
    PartStarted(choice=0, index=2, part=ToolCall(id="a", name="f")),
    PartEnded(choice=0, index=2),
    PartStarted(choice=0, index=3, part=ToolCall(id="b", name="g")),
    PartDelta(choice=0, index=3, text='{"x":1}'),
    PartEnded(choice=0, index=3),
    UsageReported(usage=Usage(input=3, output=4)),
    Finished(choice=0, finish_reason="tool_calls"),
    Finished(choice=0, finish_reason="stop"),
]


def test_client_stream_has_the_exact_grammar() -> None:
    *chunks, usage, done = encode(EVENTS)
    assert done == "[DONE]" and usage["choices"] == [] and usage["usage"]["total_tokens"] == 7
    assert {(chunk["id"], chunk["model"], chunk["created"]) for chunk in [*chunks, usage]} == {
        ("chatcmpl-msg_1", "claude", usage["created"])
    }
    for sent in [*chunks, usage]:
        ChatCompletionChunk.model_validate(sent)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas == [
        {"role": "assistant", "content": "", "refusal": None},
        {"reasoning_content": "hm"},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": seal(SIGNED_THINKING), "index": 0}]},
        {"content": "Hi"},
        {
            "tool_calls": [
                {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
        {
            "tool_calls": [
                {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 1, "function": {"arguments": '{"x":1}'}}]},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 8 + ["tool_calls"]


def test_each_thought_of_a_stream_has_an_index_of_its_own() -> None:
    other = Thinking(redacted="EmwK", origin="anthropic")
    events = [
        *EVENTS[:5],
        PartStarted(choice=0, index=1, part=other),
        PartEnded(choice=0, index=1),
        Finished(choice=0, finish_reason="stop"),
    ]
    chunks = [chunk["choices"][0]["delta"] for chunk in encode(events)[:-2]]
    entries = [entry for delta in chunks for entry in delta.get("reasoning_details", ())]
    assert [(entry["index"], entry["data"]) for entry in entries] == [
        (0, seal(SIGNED_THINKING)),
        (1, seal(other)),
    ]
    message = {"role": "assistant", "content": "", "reasoning_content": "hm", "reasoning_details": entries}
    body = json.dumps({"model": "m", "messages": [message]}).encode()
    assert openai_chat.parse_request(parse_object(body)).messages[0].parts == (SIGNED_THINKING, other)


def test_usage_is_not_sent_to_a_client_that_did_not_ask() -> None:
    chunks = encode(EVENTS, replace(CHAT_REQUEST, wants_usage=False))
    assert not any("usage" in chunk for chunk in chunks[:-1])


def test_failed_stream_has_no_done_marker() -> None:
    chunks = encode([EVENTS[0], Failed(error=ApiError(kind="network", code="x", message="broke off"))])
    assert chunks[-1]["error"]["message"] == "broke off"


MIXED = (
    chunk({"role": "assistant", "content": ""})
    + chunk({"reasoning_content": "Gr\u00fc\u00dfe"})
    + b": ping\r\n\r\n"
    + chunk({"content": "\U0001f600 ok"})
    + chunk(tool_call_fragment(index=0, id="a", function={"name": "f", "arguments": '{"x'}))
    + chunk(tool_call_fragment(index=0, function={"arguments": '":1}'}), "tool_calls")
    + b"data: not json\n\n"
    + chunk({}, usage={"prompt_tokens": 1, "completion_tokens": 2})
    + b"data: [DONE]\n\n"
)


@given(st.lists(st.integers(0, 10_000), max_size=40), st.booleans())
def test_stream_gives_the_same_events_wherever_it_is_cut(cuts: list[int], crlf: bool) -> None:
    stream = MIXED.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") if crlf else MIXED
    assert decode(stream, cuts) == decode(MIXED)


# Anything at all ----------------------------------------------------------------------------------

NESTED = (
    "type",
    "text",
    "function",
    "id",
    "index",
    "delta",
    "message",
    "choices",
    "error",
    "arguments",
    "image_url",
    "url",
    "file",
)
names = st.sampled_from(
    [
        *WireRequest.__struct_fields__,
        *WireMessage.__struct_fields__,
        *NESTED,
        "parameters",
        "custom",
        "schema",
        "usage",
    ]
)
words = st.sampled_from(
    [
        "text",
        "function",
        "tool",
        "assistant",
        "user",
        "system",
        "image_url",
        "custom",
        "",
        "a",
        "{",
        "data:a/b;base64,AA",
    ]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6),
    max_leaves=30,
)
message = st.fixed_dictionaries(
    {"role": words}, optional=dict.fromkeys(("content", "tool_calls", "reasoning_details", "name"), anything)
)


@given(st.lists(message, min_size=1, max_size=4), st.dictionaries(names, anything))
def test_arbitrary_json_is_a_request_or_invalid(messages: list[Any], fields: dict[str, Any]) -> None:
    body = json.dumps({**fields, "model": "m", "messages": messages}).encode()
    try:
        request = guard_recursion(openai_chat.parse_request, parse_object(body))
        json.dumps(openai_chat.render_request(request, Quirks()).body)
    except InvalidRequest as rejected:
        assert str(rejected)


@given(anything)
def test_arbitrary_json_is_a_response_or_invalid(value: Any) -> None:
    body = json.dumps({"choices": [value, {"message": value}]}).encode()
    for text in (json.dumps(value).encode(), body):
        assert openai_chat.parse_error(500, text).message
        try:
            response = openai_chat.parse_response(text)
        except InvalidUpstreamResponse as rejected:
            assert str(rejected)
        else:
            json.loads(openai_chat.render_response(response, CHAT_REQUEST))


@given(st.lists(anything, max_size=6), st.binary(max_size=60))
def test_arbitrary_stream_keeps_the_grammar_and_ends(values: list[Any], junk: bytes) -> None:
    stream = (
        b"".join(
            b"data: " + json.dumps({"choices": [{"delta": value}]}).encode() + b"\n\n" for value in values
        )
        + junk
    )
    for ending in (b"", b"\n\ndata: [DONE]\n\n"):
        events = decode(stream + ending)
        parts_of(events)
        assert isinstance(events[-1], Failed | Finished)
        encode(events)
