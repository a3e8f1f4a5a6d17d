"""Responses and errors of Anthropic Messages, parsed and rendered."""

import json
from typing import Any

import pytest

from proxy.formats import anthropic
from proxy.formats.neutral import (
    ApiError,
    Choice,
    Image,
    InvalidUpstreamResponse,
    Refusal,
    Response,
    Usage,
)
from tests.proxy.formats.anthropic.samples import (
    PNG,
    REQUEST,
    RESPONSE_USAGE,
    USAGE,
    response_body,
)


def test_response_round_trips_through_neutral_types() -> None:
    content = [
        {"type": "text", "text": "It is "},
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Bern"}},
    ]
    response = anthropic.parse_response(response_body(content=content))
    assert response.usage == RESPONSE_USAGE
    assert response.choices[0].finish_reason == "tool_calls"
    rendered = json.loads(anthropic.render_response(response, REQUEST))
    assert (rendered["content"], rendered["stop_reason"]) == (content, "tool_use")
    assert {name: rendered["usage"][name] for name in USAGE} == USAGE


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [
        ("refusal", "content_filter"),
        ("pause_turn", "pause"),
        ("max_tokens", "length"),
        ("new_reason", "other"),
    ],
)
def test_stop_reasons_map_to_neutral_finish_reasons(reason: str, finish_reason: str) -> None:
    assert (
        anthropic.parse_response(response_body(stop_reason=reason)).choices[0].finish_reason == finish_reason
    )


COMPACTION = {"type": "compaction", "input_tokens": 1000, "output_tokens": 50}
ITERATION = {"type": "message", "input_tokens": 3, "output_tokens": 9}
TOTALS = {"input_tokens": 3, "output_tokens": 9}


@pytest.mark.parametrize(
    ("totals", "iterations", "billed"),
    [
        (TOTALS, [COMPACTION, ITERATION], Usage(input=1003, output=59)),
        (TOTALS, [COMPACTION], Usage(input=1003, output=59)),
        (TOTALS, [ITERATION], Usage(input=3, output=9)),
        (TOTALS, [{**ITERATION, "type": "fallback_message"}, COMPACTION], Usage(input=1003, output=59)),
        ({"input_tokens": 1003, "output_tokens": 59}, [COMPACTION, ITERATION], Usage(input=1003, output=59)),
        ({"input_tokens": 6, "output_tokens": 18}, [ITERATION, ITERATION], Usage(input=6, output=18)),
        (
            {**TOTALS, "cache_read_input_tokens": 40},
            [COMPACTION, {**ITERATION, "cache_read_input_tokens": 40}],
            Usage(input=1003, cache_read=40, output=59),
        ),
        # Iterations that leave out a part of what the totals count.
        ({"input_tokens": 500, "output_tokens": 9}, [ITERATION, {**ITERATION}], Usage(input=500, output=18)),
        ({"input_tokens": 3, "output_tokens": 90}, [ITERATION], Usage(input=3, output=90)),
        (TOTALS, [COMPACTION, {"type": "compaction"}, None, 7], Usage(input=1003, output=59)),
        (TOTALS, [], Usage(input=3, output=9)),
        (TOTALS, "none", Usage(input=3, output=9)),
    ],
)
def test_iterations_that_the_totals_leave_out_are_billed_once(
    totals: dict[str, int], iterations: Any, billed: Usage
) -> None:
    usage = {**totals, "iterations": iterations}
    assert anthropic.parse_response(response_body(usage=usage)).usage == billed


@pytest.mark.parametrize(
    "usage", [None, {}, {"input_tokens": -1}, {"input_tokens": 2**31}, {"input_tokens": "many"}, 5]
)
def test_absurd_usage_is_none(usage: Any) -> None:
    assert anthropic.parse_response(response_body(usage=usage)).usage is None


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{}", b'{"content": [1]}', b'{"type":"error","error":{"message":"no"}}']
)
def test_undecodable_response_is_invalid(body: bytes) -> None:
    with pytest.raises(InvalidUpstreamResponse):
        anthropic.parse_response(body)


def test_image_in_response_becomes_markdown() -> None:
    response = Response(
        id="r",
        model="m",
        choices=(Choice(parts=(Image(media_type="image/png", data=PNG), Refusal(text="No."))),),
    )
    blocks = json.loads(anthropic.render_response(response, REQUEST))["content"]
    assert [block["text"] for block in blocks] == [f"![image](data:image/png;base64,{PNG})", "No."]


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (429, b'{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}', "rate_limit", "slow"),
        (404, b'{"error":{"type":"not_found_error","message":"model: x"}}', "unknown_model", "model: x"),
        (529, b'{"error":"busy"}', "server_error", "busy"),
        (502, b"<html><style>p{}</style><h1>Bad Gateway</h1></html>", "server_error", "Bad Gateway"),
        (400, b"", "invalid_request", "The provider answered with status 400."),
        (500, b"[[[", "server_error", "[[["),
    ],
)
def test_any_error_body_is_parsed(status: int, body: bytes, kind: str, message: str) -> None:
    error = anthropic.parse_error(status, body)
    assert (error.kind, error.message, error.status) == (kind, message, status)


@pytest.mark.parametrize(
    ("kind", "status", "type"),
    [
        ("auth", 401, "authentication_error"),
        ("auth", 403, "permission_error"),
        ("unknown_model", 404, "not_found_error"),
        ("rate_limit", 429, "rate_limit_error"),
        ("invalid_request", 413, "request_too_large"),
        ("server_error", 529, "overloaded_error"),
        ("network", 502, "api_error"),
    ],
)
def test_rendered_errors_have_the_vendors_types(kind: str, status: int, type: str) -> None:
    body = json.loads(
        anthropic.render_error(ApiError(kind=kind, code="c", message="m", status=status), "req_1")
    )
    assert body == {"type": "error", "error": {"type": type, "message": "m"}, "request_id": "req_1"}
