"""OpenAI Responses: responses of providers through the neutral types and back, and errors."""

import json
from typing import Any

import pytest

from proxy.formats import openai_responses as responses
from proxy.formats.neutral import (
    ApiError,
    Choice,
    Finished,
    FinishReason,
    Image,
    InvalidUpstreamResponse,
    Opaque,
    Refusal,
    Response,
    Text,
    Thinking,
    ToolCall,
    Usage,
)
from proxy.formats.openai_responses.opaque_parts import parse_opaque_part
from tests.proxy.formats.openai_responses.builders import (
    CREATED,
    NEUTRAL_USAGE,
    SDK_EVENT,
    SDK_RESPONSE,
    SEARCH,
    USAGE,
    decode,
    event,
    request,
    response,
)

# Answers ------------------------------------------------------------------------------------------


def test_response_is_parsed() -> None:
    parsed = responses.parse_response(json.dumps(response()).encode())
    assert parsed.usage == NEUTRAL_USAGE
    assert parsed.choices[0].finish_reason == "tool_calls"
    assert parsed.choices[0].parts == (
        parse_opaque_part(SEARCH, "web_search_call"),
        Thinking(text="Hm.", signature="gAAA", origin="openai_responses"),
        Text(text="Grüße 🎉"),
        ToolCall(id="call_1", name="f", arguments='{"a":1}'),
    )


def test_response_has_the_sdk_type_and_repeats_the_request() -> None:
    client_request = request(
        instructions="Be brief.",
        temperature=0.5,
        metadata={"a": "b"},
        tools=[
            {"type": "function", "name": "f", "parameters": {"type": "object"}},
            {"type": "custom", "name": "g"},
        ],
        tool_choice={"type": "function", "name": "f"},
    )
    parts = (
        Text(text="x"),
        Refusal(text="no"),
        Image(media_type="image/png", data="AA=="),
        ToolCall(id="c", name="f"),
    )
    entry = {
        "token": "x",
        "logprob": -0.1,
        "bytes": None,
        "top_logprobs": [{"token": "x", "logprob": -0.1, "bytes": None}],
    }
    neutral_response = Response(
        id="x",
        model="m-1",
        choices=(Choice(parts=parts, finish_reason="length", logprobs=(entry,)),),
        usage=NEUTRAL_USAGE,
    )
    body = json.loads(responses.render_response(neutral_response, client_request))
    SDK_RESPONSE.validate_python(body)
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert (body["model"], body["temperature"], body["instructions"], body["metadata"]) == (
        "m-1",
        0.5,
        "Be brief.",
        {"a": "b"},
    )
    assert body["usage"] == USAGE and body["max_tool_calls"] is None
    assert [item["type"] for item in body["output"]] == ["message", "image_generation_call", "function_call"]
    assert body["output"][-1]["arguments"] == "{}"


def test_foreign_server_tool_use_is_not_a_client_tool_call() -> None:
    parts = (Opaque(origin="anthropic", kind="server_tool_use", value={"name": "f"}), Text(text="x"))
    neutral_response = Response(id="x", model="m", choices=(Choice(parts=parts),))
    assert [
        item["type"] for item in json.loads(responses.render_response(neutral_response, request()))["output"]
    ] == ["message"]


@pytest.mark.parametrize(
    ("status", "details", "finish"),
    [
        ("completed", None, "tool_calls"),
        ("incomplete", {"reason": "max_output_tokens"}, "length"),
        ("incomplete", {"reason": "content_filter"}, "content_filter"),
        ("incomplete", None, "other"),
        ("cancelled", None, "other"),
    ],
)
def test_finish_reason_is_parsed(status: str, details: Any, finish: FinishReason) -> None:
    body = response(status, incomplete_details=details)
    assert responses.parse_response(json.dumps(body).encode()).choices[0].finish_reason == finish
    assert Finished(choice=0, finish_reason=finish) in decode(
        CREATED + event(f"response.{status}", response=body)
    )


@pytest.mark.parametrize(
    "usage",
    [None, "many", {"input_tokens": -1}, {"input_tokens": 2**40}, {"input_tokens": 1, "output_tokens": 1e30}],
)
def test_out_of_range_usage_is_ignored(usage: Any) -> None:
    assert responses.parse_response(json.dumps(response(usage=usage)).encode()).usage is None


def test_uncounted_reasoning_is_added_to_the_output() -> None:
    usage = {"input_tokens": 1, "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 10}}
    assert responses.parse_response(json.dumps(response(usage=usage)).encode()).usage == Usage(
        input=1, output=13, reasoning=10, billable_extras={"web_search": 1}
    )


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"<html>", b'{"output": null}', b'{"error": {"message": "no"}}', b'{"status": "failed"}'],
)
def test_invalid_response_bodies_are_rejected(body: bytes) -> None:
    with pytest.raises(InvalidUpstreamResponse):
        responses.parse_response(body)


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (
            401,
            b'{"error": {"message": "Bad key", "type": "invalid_request_error", "code": "invalid_api_key"}}',
            "auth",
            "Bad key",
        ),
        (400, b'{"error": {"message": "No model", "code": "model_not_found"}}', "unknown_model", "No model"),
        (400, b'{"code": "invalid-argument", "error": "Flat"}', "invalid_request", "Flat"),
        (429, b'[{"error": {"message": "Listed", "code": 429}}]', "rate_limit", "Listed"),
        (502, b"<html><head><title>502 Bad Gateway</title></head></html>", "server_error", "502 Bad Gateway"),
        (504, b"upstream timed out", "timeout", "upstream timed out"),
        (503, b"", "server_error", "The provider answered with status 503."),
        (422, b'{"detail": [{"msg": "short"}]}', "invalid_request", "short"),
    ],
)
def test_errors_of_all_forms_are_parsed(status: int, body: bytes, kind: str, message: str) -> None:
    failure = responses.parse_error(status, body)
    assert (failure.status, failure.kind, failure.message) == (status, kind, message) and failure.code


def test_error_is_rendered_in_the_openai_format() -> None:
    failure = ApiError(kind="rate_limit", code="insufficient_quota", message="Spent.", status=429)
    expected = {
        "message": "Spent.",
        "type": "rate_limit",
        "param": None,
        "code": "insufficient_quota",
        "request_id": "req_1",
    }
    assert json.loads(responses.render_error(failure, "req_1")) == {"error": expected}
    name, data, *_ = responses.render_error_event(failure, "req_1").decode().split("\n")
    fields = json.loads(data.removeprefix("data: "))
    SDK_EVENT.validate_python(fields)
    assert name == "event: error" and fields["error"] == expected and fields["message"] == "Spent."
