"""Tools that take free text, such as Codex's apply_patch, at providers that support only functions."""

import json
from typing import Any

import pytest

from proxy.formats.json_body import parse_object
from proxy.formats.neutral import Choice, Request, Response, ToolCall
from proxy.formats.quirks import Quirks
from proxy.formats.registry import CODECS
from tests.proxy.formats.scenarios import events

PATCH = '*** Begin Patch\n*** Update File: grüße.txt\n+"quoted" \\ 世界\n*** End Patch'
TOOL = {"type": "custom", "name": "apply_patch", "description": "Changes files", "format": {"type": "text"}}
FIRST_TURN: dict[str, Any] = {
    "model": "some/model",
    "input": "Fix it",
    "tools": [TOOL],
    "tool_choice": {"type": "custom", "name": "apply_patch"},
}
SECOND_TURN = FIRST_TURN | {
    "input": [
        {"role": "user", "content": "Fix it"},
        {"type": "custom_tool_call", "call_id": "call_1", "name": "apply_patch", "input": PATCH},
        {"type": "custom_tool_call_output", "call_id": "call_1", "output": "Done"},
    ]
}
CALL = ToolCall(id="call_1", name="apply_patch", arguments=json.dumps({"input": PATCH}, ensure_ascii=False))
ANSWER = Response(id="a", model="m", choices=(Choice(parts=(CALL,), finish_reason="tool_calls"),))
PROVIDERS = ["anthropic", "gemini", "openai_chat"]
responses = CODECS["openai_responses"]


def rendered_request(turn: dict[str, Any]) -> Request:
    request: Request = responses.parse_request(parse_object(json.dumps(turn).encode()), "", False)
    return request


def streamed_response(provider: str, turn: dict[str, Any]) -> dict[str, Any]:
    """Return the assistant's turn as the provider receives it."""
    rendered = CODECS[provider].render_request(rendered_request(turn), Quirks())
    assert "tools" not in rendered.dropped
    body: dict[str, Any] = rendered.body
    return body


def function_of(provider: str, body: dict[str, Any]) -> tuple[str, str, Any]:
    match provider, body["tools"]:
        case "anthropic", [{"name": str(name), "description": str(description), "input_schema": schema}]:
            return name, description, schema
        case "gemini", [
            {
                "functionDeclarations": [
                    {"name": str(name), "description": str(description), "parametersJsonSchema": schema}
                ]
            }
        ]:
            return name, description, schema
        case "openai_chat", [
            {
                "type": "function",
                "function": {"name": str(name), "description": str(description), "parameters": schema},
            }
        ]:
            return name, description, schema
        case _:
            raise AssertionError(body["tools"])


@pytest.mark.parametrize("provider", PROVIDERS)
def test_custom_tool_becomes_a_function_with_one_text(provider: str) -> None:
    name, description, schema = function_of(provider, streamed_response(provider, FIRST_TURN))
    assert (name, description) == ("apply_patch", "Changes files")
    assert (schema["properties"], schema["required"]) == ({"input": {"type": "string"}}, ["input"])


def test_openai_models_get_the_custom_tool_unchanged() -> None:
    body = streamed_response("openai_chat", FIRST_TURN | {"model": "gpt-5"})
    assert body["tools"] == [
        {"type": "custom", "custom": {"name": "apply_patch", "description": "Changes files"}}
    ]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_custom_call_and_result_return_with_the_history(provider: str) -> None:
    match provider, streamed_response(provider, SECOND_TURN):
        case "anthropic", {"messages": [_, {"content": [call]}, {"content": [result]}]}:
            assert (call["input"], result["tool_use_id"]) == ({"input": PATCH}, call["id"])
        case "gemini", {
            "contents": [_, {"parts": [{"functionCall": call}]}, {"parts": [{"functionResponse": result}]}]
        }:
            assert (call["args"], result["name"]) == ({"input": PATCH}, "apply_patch")
        case "openai_chat", {
            "messages": [
                _,
                {"tool_calls": [{"type": "function", "function": call}]},
                {"role": "tool", "content": result},
            ]
        }:
            assert (json.loads(call["arguments"]), result) == ({"input": PATCH}, "Done")
        case _, body:
            raise AssertionError(body)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_response_calls_the_custom_tool_with_free_text(provider: str) -> None:
    sent = CODECS[provider].render_response(ANSWER, Request(model="m", messages=()))
    received = json.loads(
        responses.render_response(CODECS[provider].parse_response(sent), rendered_request(FIRST_TURN))
    )
    assert [(item["type"], item["name"], item["input"]) for item in received["output"]] == [
        ("custom_tool_call", "apply_patch", PATCH)
    ]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_stream_calls_the_custom_tool_with_free_text(provider: str) -> None:
    provider_encoder = CODECS[provider].render_stream(Request(model="m", messages=(), stream=True))
    sent = b"".join(provider_encoder.encode(event) for event in events(ANSWER)) + provider_encoder.finish()
    decoder, encoder = CODECS[provider].parse_stream(), responses.render_stream(rendered_request(FIRST_TURN))
    received = (
        b"".join(encoder.encode(event) for event in [*decoder.feed(sent), *decoder.finish()])
        + encoder.finish()
    )
    read = [json.loads(line[6:]) for line in received.decode().splitlines() if line.startswith("data: ")]
    deltas = [event["delta"] for event in read if event["type"] == "response.custom_tool_call_input.delta"]
    (item,) = read[-1]["response"]["output"]
    assert ("".join(deltas), item["type"], item["input"]) == (PATCH, "custom_tool_call", PATCH)
