"""Requests and streams of OpenAI Responses that pass through, and arbitrary JSON instead of them."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.formats import openai_responses as responses
from proxy.formats.json_body import parse_object
from proxy.formats.neutral import (
    InvalidRequest,
    InvalidUpstreamResponse,
    Usage,
)
from proxy.formats.openai_chat.completions import CreateCompletionRequest
from proxy.formats.quirks import Quirks
from tests.proxy.formats.openai_responses.builders import (
    NEUTRAL_USAGE,
    OUTPUT,
    STREAM,
    decode,
    event,
    parts_of,
    render,
    request,
    response,
)

# Relaying -----------------------------------------------------------------------------------------


def test_request_passes_unchanged_except_for_model_and_limit() -> None:
    body = b'{ "model":"a", "input" : "Hi", "new_field": [1.0] , "max_output_tokens": 9}'
    call = responses.ResponsesRequest(body)
    assert (call.facts.max_output_tokens, call.facts.max_input_tokens, call.path("x")) == (
        9,
        2 + 4 + 3 + len(b"new_field[1.0]"),
        "/responses",
    )
    assert call.upstream_body("a", None, Quirks()) == body
    assert call.upstream_body(
        "b", 5, Quirks()
    ) == b'{"model":"b","input":"Hi","new_field":[1.0],"max_output_tokens":5}'.replace(b'"Hi"', b'"Hi"')


def test_stored_conversation_counts_as_a_full_context_window() -> None:
    assert (
        responses.ResponsesRequest(
            b'{"model": "a", "input": "x", "previous_response_id": "r"}'
        ).facts.max_input_tokens
        > 1_000_000
    )


@given(st.lists(st.integers(0, 10_000), max_size=40), st.booleans())
def test_meter_reads_usage_and_text_and_passes_every_byte(cuts: list[int], crlf: bool) -> None:
    stream = STREAM.replace(b"\n", b"\r\n") if crlf else STREAM
    meter, start, passed = responses.ResponsesRequest(b'{"model": "a", "input": "x"}').meter(), 0, b""
    for cut in [*sorted(cut % len(stream) for cut in cuts), len(stream)]:
        passed += meter.feed(stream[start:cut])
        start = cut
    assert passed + meter.finish() == stream
    assert (meter.usage, meter.output_tokens) == (NEUTRAL_USAGE, 6)


def test_output_is_counted_without_usage() -> None:
    call = responses.ResponsesRequest(b'{"model": "a", "input": "x"}')
    assert call.measure(json.dumps(response(usage=None)).encode()) == (None, 3)
    assert call.measure(json.dumps(response()).encode()) == (NEUTRAL_USAGE, 0)
    assert call.measure(b"<html>") == (None, 1)


def test_text_completions_are_passed_through_and_metered() -> None:
    call = CreateCompletionRequest(
        b'{"model": "a", "prompt": ["ab", "c"], "n": 2, "best_of": 3, "max_tokens": 10, "stream": true}'
    )
    assert (call.facts.max_output_tokens, call.facts.n, call.facts.max_input_tokens) == (60, 6, 3 + 2 * 4 + 3)
    assert json.loads(call.upstream_body("a", None, Quirks()))["stream_options"] == {"include_usage": True}
    text, usage = (
        b'data: {"choices":[{"text":"hello"}]}\n\n',
        b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n',
    )
    meter = call.meter()
    assert meter.feed(text + usage) == text
    assert (meter.usage, meter.output_tokens) == (Usage(input=3, output=1), 1)


# Anything at all ----------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
items = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(
            [item["type"] for item in OUTPUT]
            + ["function_call_output", "custom_tool_call", "input_image", "output_text"]
        )
        | json_values,
        **dict.fromkeys(
            (
                "role",
                "content",
                "call_id",
                "name",
                "arguments",
                "output",
                "summary",
                "encrypted_content",
                "text",
                "id",
            ),
            json_values,
        ),
    },
)
fields = {"input": json_values | st.lists(items), "tools": st.lists(items) | json_values} | dict.fromkeys(
    (
        "model",
        "instructions",
        "tool_choice",
        "text",
        "reasoning",
        "include",
        "top_logprobs",
        "max_output_tokens",
        "metadata",
    ),
    json_values,
)


@given(st.fixed_dictionaries({}, optional=fields))
def test_arbitrary_request_is_parsed_or_rejected(value: dict[str, Any]) -> None:
    body = json.dumps(value).encode()
    for parse in (responses.ResponsesRequest, CreateCompletionRequest):
        try:
            parse(body)
        except InvalidRequest as rejected:
            assert str(rejected)
    try:
        parsed = responses.parse_request(parse_object(body))
        json.dumps(render(parsed))
    except InvalidRequest as rejected:
        assert str(rejected)


@given(st.lists(items | json_values), json_values)
def test_arbitrary_response_and_its_stream_agree(output: list[Any], usage: Any) -> None:
    body = json.dumps(response(output=output, usage=usage, error=None)).encode()
    try:
        parsed = responses.parse_response(body)
    except InvalidUpstreamResponse:
        return
    responses.render_response(parsed, request())
    events = decode(event("response.completed", response=json.loads(body)))
    encoder = responses.render_stream(request())
    assert b"".join(map(encoder.encode, events)) + encoder.finish()
    assert [type(part).__name__ for part in parsed.choices[0].parts] == [
        kind for kind, *_ in parts_of(events)
    ]


@given(st.binary(max_size=200), st.integers(400, 599))
def test_arbitrary_error_body_is_an_error(body: bytes, status: int) -> None:
    failure = responses.parse_error(status, body)
    assert failure.status == status and failure.message and failure.code
