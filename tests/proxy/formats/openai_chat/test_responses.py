"""Responses and errors of OpenAI Chat Completions and compatible servers."""

import json
from typing import Any

import pytest
from msgspec.structs import replace
from openai.types.chat import ChatCompletion

from proxy.formats import openai_chat
from proxy.formats.neutral import (
    ApiError,
    Choice,
    Citation,
    Image,
    InvalidUpstreamResponse,
    Opaque,
    PartDelta,
    PartEnded,
    PartStarted,
    Refusal,
    Response,
    Started,
    Text,
    Thinking,
    Tool,
    ToolCall,
    Usage,
)
from tests.proxy.formats.openai_chat.builders import CHAT_REQUEST, call, encode, response

# Answers ------------------------------------------------------------------------------------------


def test_response_is_parsed_in_full() -> None:
    message = {
        "role": "assistant",
        "content": "Yes.",
        "reasoning_content": "hm",
        "tool_calls": [call("a"), call("a")],
    }
    choice = response(message)
    thought, text, first, second = choice.parts
    assert (thought, text, choice.finish_reason) == (
        Thinking(text="hm", origin="openai_chat"),
        Text(text="Yes."),
        "tool_calls",
    )
    assert isinstance(first, ToolCall) and isinstance(second, ToolCall) and first.id == "a" != second.id


def test_unusual_responses_are_parsed() -> None:
    assert response(None, "content_filter") == Choice(finish_reason="content_filter")
    assert response({"content": None, "refusal": "no"}).parts == (Refusal(text="no"),)
    assert response(
        {"content": [{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": "4"}]},
        "eos",
    ) == Choice(parts=(Thinking(text="hm", origin="openai_chat"), Text(text="4")))


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b"", b'{"choices": []}', b"[" * 10_000])
def test_non_response_body_is_invalid(body: bytes) -> None:
    with pytest.raises(InvalidUpstreamResponse):
        openai_chat.parse_response(body)


def test_error_with_status_200_is_invalid_with_its_message() -> None:
    with pytest.raises(InvalidUpstreamResponse, match="filtered"):
        openai_chat.parse_response(b'{"error": {"message": "filtered", "code": "content_filter"}}')


@pytest.mark.parametrize(
    ("wire", "usage"),
    [
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "total_tokens": 21,
                "completion_tokens_details": {"reasoning_tokens": 7},
            },
            (9, 12, 7),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "total_tokens": 14,
                "completion_tokens_details": {"reasoning_tokens": 7},
            },
            (9, 5, 5),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 5, "reasoning_tokens": 2}, (9, 5, 2)),
    ],
)
def test_reasoning_counts_as_output_wherever_it_is_reported(
    wire: dict[str, Any], usage: tuple[int, int, int]
) -> None:
    response = openai_chat.parse_response(json.dumps({"choices": [{"message": {}}], "usage": wire}).encode())
    assert response.usage == Usage(input=usage[0], output=usage[1], reasoning=usage[2])


def test_usage_keeps_its_buckets_in_both_directions() -> None:
    usage = Usage(input=5, cache_read=3, cache_write_5m=2, output=7, reasoning=4)
    body = openai_chat.render_response(
        Response(id="1", model="m", choices=(Choice(),), usage=usage), CHAT_REQUEST
    )
    assert json.loads(body)["usage"]["prompt_tokens"] == 10
    assert openai_chat.parse_response(body).usage == usage


def test_response_has_the_official_types() -> None:
    parts = (
        Thinking(text="hm", signature="s", origin="anthropic"),
        Text(text="see", citations=(Citation(url="https://x"),)),
        ToolCall(id="a", name="f"),
        Image(media_type="image/png", data="AA"),
        Opaque(origin="anthropic", kind="a search", value={}),
    )
    body = openai_chat.render_response(
        Response(id="msg_1", model="m", choices=(Choice(parts=parts, finish_reason="tool_calls"),)),
        CHAT_REQUEST,
    )
    completion = ChatCompletion.model_validate_json(body)
    message = completion.choices[0].message
    assert message.annotations is not None and message.annotations[0].url_citation.end_index == 3
    assert (
        message.tool_calls is not None
        and message.tool_calls[0].type == "function"
        and message.tool_calls[0].function.arguments == "{}"
    )


def test_custom_tool_text_is_unwrapped_from_a_function_call() -> None:
    request = replace(CHAT_REQUEST, tools=(Tool(name="sum", custom=True),))
    called = ToolCall(id="a", name="sum", arguments='{"input": "4 + 4"}')
    body = json.loads(
        openai_chat.render_response(Response(id="1", model="m", choices=(Choice(parts=(called,)),)), request)
    )
    expected = {"id": "a", "type": "custom", "custom": {"name": "sum", "input": "4 + 4"}}
    assert body["choices"][0]["message"]["tool_calls"] == [expected]
    started = PartStarted(choice=0, index=0, part=replace(called, arguments=""))
    deltas = [PartDelta(choice=0, index=0, text=text) for text in ('{"input": ', '"4 + 4"}')]
    chunks = encode([Started(id="1", model="m"), started, *deltas, PartEnded(choice=0, index=0)], request)
    inputs = [
        call["custom"].get("input")
        for chunk in chunks[1:-1]
        for call in chunk["choices"][0]["delta"]["tool_calls"]
    ]
    assert "".join(inputs) == "4 + 4"


def test_custom_call_for_a_function_tool_is_wrapped_in_arguments() -> None:
    called = ToolCall(id="a", name="sum", arguments='4 + "4"', custom=True)
    wire = json.loads(
        openai_chat.render_response(
            Response(id="1", model="m", choices=(Choice(parts=(called,)),)), CHAT_REQUEST
        )
    )
    arguments = wire["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    started = PartStarted(choice=0, index=0, part=replace(called, arguments=""))
    deltas = [PartDelta(choice=0, index=0, text=text) for text in ("4 +", ' "4"')]
    chunks = encode([Started(id="1", model="m"), started, *deltas, PartEnded(choice=0, index=0)])
    streamed = [
        call["function"]["arguments"]
        for chunk in chunks[1:-1]
        for call in chunk["choices"][0]["delta"]["tool_calls"]
    ]
    assert json.loads(arguments) == json.loads("".join(streamed)) == {"input": '4 + "4"'}


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "message"),
    [
        (429, b'{"error": {"message": "slow", "code": "tokens"}}', "rate_limit", "tokens", "slow"),
        (
            401,
            b'{"message": "Wrong API Key", "code": "wrong_api_key"}',
            "auth",
            "wrong_api_key",
            "Wrong API Key",
        ),
        (401, b'{"detail": "Invalid API Key"}', "auth", "invalid_api_key", "Invalid API Key"),
        (400, b'{"error": "text"}', "invalid_request", "invalid_request_error", "text"),
        (
            422,
            b'{"detail": [{"loc": ["body", "x"], "msg": "bad"}]}',
            "invalid_request",
            "invalid_request_error",
            "body.x: bad",
        ),
        (
            404,
            b'{"error": {"message": "The model x does not exist", "code": 404}}',
            "unknown_model",
            "model_not_found",
            "The model x does not exist",
        ),
        (
            502,
            b"<html><body>Bad gateway</body></html>",
            "server_error",
            "server_error",
            "The provider answered with status 502.",
        ),
        (503, b"upstream connect error", "server_error", "service_unavailable", "upstream connect error"),
        (
            400,
            b'[{"error": {"message": "in a list"}}]',
            "invalid_request",
            "invalid_request_error",
            "in a list",
        ),
        (500, b"", "server_error", "server_error", "The provider answered with status 500."),
    ],
)
def test_errors_of_any_form_are_parsed(status: int, body: bytes, kind: str, code: str, message: str) -> None:
    assert openai_chat.parse_error(status, body) == ApiError(
        kind=kind, code=code, message=message, status=status
    )
