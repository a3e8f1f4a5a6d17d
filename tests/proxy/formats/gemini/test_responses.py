"""Responses and errors of generateContent, parsed and rendered."""

import base64
import json
from typing import Any

import pytest

from proxy.formats import gemini
from proxy.formats.neutral import (
    ApiError,
    Choice,
    InvalidUpstreamResponse,
    Opaque,
    Refusal,
    Response,
    Thinking,
    ToolCall,
    Usage,
)
from proxy.formats.seals import seal
from tests.proxy.formats.gemini.samples import (
    MODEL,
    neutral_request,
    parsed,
    response_body,
)


def choice_of(body: dict[str, Any]) -> Choice:
    return gemini.parse_response(json.dumps(body).encode()).choices[0]


def test_calls_without_ids_get_them_and_stop_means_tool_calls() -> None:
    call = {"functionCall": {"name": "f", "args": {"a": 1}}}
    choice = choice_of(response_body(call | {"thoughtSignature": "c2ln"}, call))
    first, second = choice.parts
    assert isinstance(first, ToolCall) and isinstance(second, ToolCall)
    assert first.id != second.id and first.id.startswith("call_")
    assert (first.signature, first.origin, first.arguments) == ("c2ln", "gemini", '{"a":1}')
    assert choice.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("body", "finish_reason"),
    [
        ({"promptFeedback": {"blockReason": "NEW_REASON"}}, "content_filter"),
        ({"candidates": [{"finishReason": "SPII", "content": {}}]}, "content_filter"),
        ({"candidates": [{"finishReason": "MAX_TOKENS", "content": {"role": "model"}}]}, "length"),
        ({"candidates": [{"finishReason": "NEW_REASON"}]}, "other"),
        ({"candidates": [{"content": {"parts": [{}, {"text": "Hi"}]}}]}, "stop"),
    ],
)
def test_minimal_responses_are_parsed(body: dict[str, Any], finish_reason: str) -> None:
    assert choice_of(body).finish_reason == finish_reason


@pytest.mark.parametrize(
    ("metadata", "usage"),
    [
        (
            {
                "promptTokenCount": 10,
                "cachedContentTokenCount": 4,
                "toolUsePromptTokenCount": 5,
                "candidatesTokenCount": 3,
                "thoughtsTokenCount": 7,
            },
            Usage(input=11, cache_read=4, output=10, reasoning=7),
        ),
        ({"promptTokenCount": 10, "thoughtsTokenCount": 2}, Usage(input=10, output=2, reasoning=2)),
        ({"promptTokenCount": -1, "candidatesTokenCount": 2}, None),
        ({"promptTokenCount": 2**31, "candidatesTokenCount": 2}, None),
        ({"trafficType": "ON_DEMAND"}, None),
        (None, None),
    ],
)
def test_usage_is_parsed_into_disjoint_buckets(metadata: Any, usage: Usage | None) -> None:
    body = json.dumps(response_body({"text": "Hi"}) | {"usageMetadata": metadata}).encode()
    assert gemini.parse_response(body).usage == usage
    assert gemini.GenerateContentRequest(b'{"contents":[{}]}', MODEL).measure(body)[0] == usage


@pytest.mark.parametrize(
    "body", [b"<html>", b"", b"{}", b"[]", b'{"error": {"message": "no"}}', b'{"candidates": 1}']
)
def test_invalid_response_bodies_are_rejected(body: bytes) -> None:
    with pytest.raises(InvalidUpstreamResponse):
        gemini.parse_response(body)


def test_response_round_trips_through_neutral_types() -> None:
    body = response_body(
        {"text": "Hm", "thought": True},
        {"text": "So", "thoughtSignature": "c2ln"},
        {"functionCall": {"id": "1", "name": "f", "args": {"a": 1}}, "thoughtSignature": "c2ln"},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK"}},
        index=0,
        groundingMetadata={"webSearchQueries": ["x"]},
    ) | {"usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7}}
    response = gemini.parse_response(json.dumps(body).encode())
    assert json.loads(gemini.render_response(response, neutral_request())) == body


def test_response_of_another_format_is_rendered() -> None:
    parts = (
        Refusal(text="No."),
        ToolCall(id="1", name="f", arguments="not json"),
        Opaque(origin="anthropic", kind="server_tool_use", value={"secret": 1}),
    )
    response = Response(
        id="x", model="claude", choices=(Choice(parts=parts, finish_reason="content_filter"),)
    )
    candidate = json.loads(gemini.render_response(response, neutral_request()))["candidates"][0]
    assert candidate["content"]["parts"] == [
        {"text": "No."},
        {
            "functionCall": {"id": "1", "name": "f", "args": {"_raw": "not json"}},
            "thoughtSignature": seal(),
        },
    ]
    assert candidate["finishReason"] == "SAFETY"


@pytest.mark.parametrize(
    "thought",
    [
        Thinking(text="Hm", signature="sig/+", origin="anthropic"),
        Thinking(redacted="blob", origin="anthropic"),
    ],
)
def test_foreign_signature_round_trips_through_the_client(thought: Thinking) -> None:
    response = Response(id="x", model="m", choices=(Choice(parts=(thought,)),))
    content = json.loads(gemini.render_response(response, neutral_request()))["candidates"][0]["content"]
    base64.b64decode(content["parts"][0]["thoughtSignature"], validate=True)
    assert parsed(contents=[content]).messages[0].parts == (thought,)


@pytest.mark.parametrize("origin", ["openai_chat", "openai_responses", "anthropic"])
def test_signatures_survive_the_url_safe_alphabet(origin: Any) -> None:
    thought = Thinking(text="?", signature="??>>~~", origin=origin)
    sent = seal(thought).replace("+", "-").replace("/", "_").rstrip("=")
    content = {"role": "model", "parts": [{"text": "?", "thought": True, "thoughtSignature": sent}]}
    assert parsed(contents=[content]).messages[0].parts == (thought,)


@pytest.mark.parametrize(
    ("status", "body", "kind", "error_status", "message"),
    [
        (
            400,
            b'{"error": {"message": "API key not valid.", "details": [{"reason": "API_KEY_INVALID"}]}}',
            "auth",
            401,
            "API key not valid.",
        ),
        (
            404,
            b'{"error": {"message": "models/x is not found"}}',
            "unknown_model",
            404,
            "models/x is not found",
        ),
        (429, b'[{"error": {"message": "Quota"}}]', "rate_limit", 429, "Quota"),
        (503, b"<html>", "server_error", 503, "The provider answered with status 503."),
        (500, b"", "server_error", 500, "The provider answered with status 500."),
        (400, b"plain words", "invalid_request", 400, "plain words"),
        (200, b'{"error": {"status": "DEADLINE_EXCEEDED", "message": "Late"}}', "timeout", 504, "Late"),
    ],
)
def test_error_bodies_of_any_shape_are_parsed(
    status: int, body: bytes, kind: str, error_status: int, message: str
) -> None:
    api_error = gemini.parse_error(status, body)
    assert (api_error.kind, api_error.status, api_error.message) == (kind, error_status, message)


def test_error_uses_google_error_format() -> None:
    api_error = ApiError(
        kind="rate_limit", code="insufficient_quota", message="Spent.", param="model", status=429
    )
    error = json.loads(gemini.render_error(api_error, "req-1"))["error"]
    assert (error["code"], error["status"], error["message"]) == (429, "RESOURCE_EXHAUSTED", "Spent.")
    assert {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "req-1"} in error["details"]
    assert gemini.render_error_event(api_error, "req-1").startswith(b'data: {"error":')
