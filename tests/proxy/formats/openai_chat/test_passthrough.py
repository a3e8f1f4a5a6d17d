"""Passed-through requests and streams of OpenAI Chat Completions."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.formats.neutral import InvalidRequest, Usage
from proxy.formats.openai_chat.embeddings import CreateEmbeddingRequest
from proxy.formats.openai_chat.passthrough import ChatRequest, StreamMeter, max_input_tokens
from proxy.formats.openai_chat.usage import delta_tokens, measure
from proxy.formats.quirks import Quirks
from proxy.formats.streaming.sse import EventSplitter, event_data
from tests.support.upstream_server import USAGE, chunk

OPENAI_QUIRKS = Quirks(max_tokens_field="max_completion_tokens")
USAGE_EVENT = b'data: {"choices":[],"usage":' + json.dumps(USAGE).encode() + b"}\n\n"
STREAM = (
    chunk({"role": "assistant", "content": ""})
    + chunk({"content": "Gr\u00fc\u00dfe"})
    + b": keep-alive\n\n"
    + USAGE_EVENT
    + b"data: [DONE]\n\n"
)


def feed(meter: StreamMeter, stream: bytes, cuts: list[int]) -> bytes:
    edges = [0, *sorted({cut % len(stream) for cut in cuts}), len(stream)]
    parts = [stream[start:end] for start, end in pairwise(edges)]
    return b"".join(meter.feed(part) for part in parts) + meter.finish()


@given(st.lists(st.integers(0, 10_000), max_size=40), st.booleans(), st.booleans())
def test_stream_is_metered_the_same_wherever_it_is_cut(cuts: list[int], withhold: bool, crlf: bool) -> None:
    stream = STREAM.replace(b"\n", b"\r\n") if crlf else STREAM
    usage = USAGE_EVENT.replace(b"\n", b"\r\n") if crlf else USAGE_EVENT
    meter = StreamMeter(withhold_usage=withhold)
    assert feed(meter, stream, cuts) == (stream.replace(usage, b"") if withhold else stream)
    assert meter.usage == Usage(input=60, cache_read=40, output=20, reasoning=5)
    assert meter.output_tokens == 1


@given(st.binary(max_size=200), st.lists(st.integers(0, 10_000), max_size=10))
def test_meter_forwards_any_bytes(junk: bytes, cuts: list[int]) -> None:
    stream = junk + b"\n\n"
    assert feed(StreamMeter(withhold_usage=False), stream, cuts).startswith(stream)


def test_final_event_without_a_blank_line_gets_one() -> None:
    assert (
        feed(StreamMeter(withhold_usage=False), b"data: {}\n\ndata: [DONE]", [])
        == b"data: {}\n\ndata: [DONE]\n\n"
    )
    assert (
        feed(StreamMeter(withhold_usage=True), b"data: {}\n\n" + USAGE_EVENT.rstrip(), []) == b"data: {}\n\n"
    )


def test_unrequested_usage_stays_in_the_stream() -> None:
    together = (
        b'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":3,"reasoning_tokens":2}}\n\n'
    )
    meter = StreamMeter(withhold_usage=True)
    assert meter.feed(together) == together
    assert meter.usage == Usage(input=4, output=3, reasoning=2)


def test_usage_beside_content_is_counted_and_the_content_stays() -> None:
    event = chunk({"content": "x"}).replace(
        b'"choices"', b'"usage": {"prompt_tokens": 1, "completion_tokens": 2}, "choices"'
    )
    meter = StreamMeter(withhold_usage=True)
    assert meter.feed(event) == event and meter.usage == Usage(input=1, output=2)


@pytest.mark.parametrize(
    "wire",
    [
        None,
        {},
        {"prompt_tokens": -1},
        {"prompt_tokens": 1e30},
        {"prompt_tokens": 1, "completion_tokens": -2},
        "many",
        [],
    ],
)
def test_out_of_range_usage_is_ignored(wire: Any) -> None:
    usage, _ = measure(json.dumps({"usage": wire}).encode())
    assert usage is None


def test_cached_tokens_are_capped_by_the_prompt() -> None:
    usage, _ = measure(
        b'{"usage": {"prompt_tokens": 5, "completion_tokens": 1,'
        b' "prompt_tokens_details": {"cached_tokens": 9}}}'
    )
    assert usage == Usage(input=0, cache_read=5, output=1)


@pytest.mark.parametrize(
    ("delta", "tokens"),
    [
        ({"content": " word"}, 1),
        ({"role": "assistant", "content": ""}, 0),
        ({"content": "x" * 400}, 100),
        ({"reasoning": "hm"}, 1),
        (None, 0),
        ("x", 0),
    ],
)
def test_delta_tokens_are_estimated(delta: Any, tokens: int) -> None:
    assert delta_tokens(delta) == tokens


@given(st.text(max_size=200))
def test_text_bound_is_its_bytes_and_the_markers(text: str) -> None:
    body = json.dumps({"model": "m", "messages": [{"content": text}]}).encode()
    assert max_input_tokens(ChatRequest(body).request) == len(text.encode()) + 4 + 3


def test_images_count_by_the_vendor_formula_not_by_bytes() -> None:
    image_part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": [image_part]}]}
    assert (
        max_input_tokens(ChatRequest(json.dumps(body).encode()).request)
        == 2833 + 8 * 5667 + len("user") + 4 + 3
    )


def test_tools_and_schemas_are_part_of_the_bound() -> None:
    plain = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    bounds = [
        ChatRequest(json.dumps({**plain, **extra}).encode()).facts.max_input_tokens
        for extra in ({}, {"tools": tools}, {"response_format": {"a": "b"}})
    ]
    assert bounds[0] < bounds[2] < bounds[1]


def test_choices_multiply_the_output_limit() -> None:
    call = ChatRequest(
        b'{"model": "m", "messages": [{}], "n": 3, "max_tokens": 9, "max_completion_tokens": 10}'
    ).facts
    assert (call.max_output_tokens, call.n) == (30, 3)


@pytest.mark.parametrize(
    ("given", "tokens"), [("abc", 3), (["ab", "c"], 3), ([1, 2, 3], 3), ([[1, 2], [3]], 3)]
)
def test_embeddings_count_bytes_or_ids(given: Any, tokens: int) -> None:
    assert (
        CreateEmbeddingRequest(json.dumps({"model": "m", "input": given}).encode()).facts.max_input_tokens
        == tokens
    )


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_parsed_or_invalid(body: bytes) -> None:
    for parse in (ChatRequest, CreateEmbeddingRequest):
        try:
            parse(body)
        except InvalidRequest as rejected:
            assert str(rejected)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("model", "messages", "stream", "n", "max_tokens", "tools", "stream_options", "input"),
            json_values,
        ),
    )
)
def test_arbitrary_json_is_a_request_or_invalid(value: dict[str, Any]) -> None:
    for parse in (ChatRequest, CreateEmbeddingRequest):
        try:
            parsed = parse(json.dumps(value).encode())
        except InvalidRequest:
            continue
        assert json.loads(parsed.upstream_body("other", 5, Quirks()))["model"] == "other"


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: x\n\n", b"x"),
        (b"data:x\r\n\r\n", b"x"),
        (b"event: e\ndata: a\ndata: b\n\n", b"a\nb"),
        (b": comment\n\n", b""),
        (b"data\n\n", b""),
    ],
)
def test_event_data_joins_the_data_lines(event: bytes, data: bytes) -> None:
    assert event_data(event) == data
    assert EventSplitter().feed(event) == [event]


@pytest.mark.parametrize(
    ("model", "quirks", "client_limits", "limit", "sent"),
    [
        ("gpt-5.2", OPENAI_QUIRKS, {"max_tokens": 9}, None, {"max_completion_tokens": 9}),
        ("gpt-5.2", OPENAI_QUIRKS, {"max_tokens": 9}, 5, {"max_completion_tokens": 5}),
        ("gpt-5.2", OPENAI_QUIRKS, {"max_tokens": None}, None, {"max_tokens": None}),
        (
            "gpt-5.2",
            OPENAI_QUIRKS,
            {"max_tokens": 9, "max_completion_tokens": 7},
            None,
            {"max_completion_tokens": 7},
        ),
        ("gpt-4.1", OPENAI_QUIRKS, {"max_tokens": 9}, None, {"max_tokens": 9}),
        ("gpt-5.2", Quirks(), {"max_tokens": 9}, None, {"max_tokens": 9}),
    ],
)
def test_reasoning_models_get_the_limit_in_the_field_that_they_accept(
    model: str, quirks: Quirks, client_limits: dict[str, Any], limit: int | None, sent: dict[str, Any]
) -> None:
    """The AI SDK's provider for compatible servers, which opencode uses, sends only `max_tokens`."""
    body = json.dumps({"model": model, "messages": [{}], **client_limits}).encode()
    upstream = json.loads(ChatRequest(body).upstream_body(model, limit, quirks))
    assert upstream == {"model": model, "messages": [{}], **sent}
