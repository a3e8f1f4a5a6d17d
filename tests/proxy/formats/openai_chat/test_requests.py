"""Requests of OpenAI Chat Completions and compatible servers, to and from the neutral types."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from proxy.formats import openai_chat
from proxy.formats.codec import RenderedRequest
from proxy.formats.constraints.constraint import Destination
from proxy.formats.neutral import (
    Choice,
    File,
    Image,
    Message,
    Opaque,
    Reasoning,
    Request,
    Response,
    ResponseFormat,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    UnsupportedFeature,
)
from proxy.formats.quirks import Quirks
from proxy.formats.seals import unseal
from tests.proxy.formats.openai_chat.builders import CHAT_REQUEST, WEATHER, call, parse, render
from tests.support.adapted_requests import render_adapted


def test_conversation_survives_a_round_trip() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
            ],
        },
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [call("a"), call("b", arguments='{"x": 1}')],
        },
        {"role": "tool", "tool_call_id": "a", "content": "sun"},
        {"role": "tool", "tool_call_id": "b", "content": "rain"},
        {"role": "system", "content": "Now in French."},
        {"role": "user", "content": "Well?"},
    ]
    body = render(
        parse(
            messages=messages,
            tools=[WEATHER],
            tool_choice={"type": "function", "function": {"name": "weather"}},
            max_tokens=5,
        )
    )
    assert body["messages"] == messages
    assert body["tools"] == [WEATHER] and body["tool_choice"] == {
        "type": "function",
        "function": {"name": "weather"},
    }
    assert body["max_tokens"] == 5


def test_settings_without_a_neutral_field_are_reported_as_dropped() -> None:
    request = parse(logit_bias={"1": 2}, store=True, metadata=None, top_k=4, seed=7)
    assert openai_chat.render_request(request, Quirks(unsupported=frozenset({"seed"}))).dropped == [
        "top_k",
        "seed",
        "logit_bias",
        "store",
    ]


def render_for(model: str, request: Request) -> RenderedRequest:
    return render_adapted(replace(request, model=model), Destination("openai", "openai_chat", model))


def test_reasoning_models_get_only_supported_settings() -> None:
    request = parse(
        max_tokens=9,
        temperature=0.5,
        top_p=1,
        stop="x",
        presence_penalty=1,
        logprobs=True,
        reasoning_effort="low",
    )
    rendered = render_for("o3-mini", request)
    assert rendered.dropped == ["temperature", "presence_penalty", "logprobs"]
    assert rendered.body["stop"] == ["x"]
    assert "stop" in render_for("gpt-5", request).dropped
    assert rendered.body["max_completion_tokens"] == 9 and "max_tokens" not in rendered.body
    assert rendered.body["reasoning_effort"] == "low"
    assert render_for("gpt-4o", request).dropped == ["reasoning"]


@pytest.mark.parametrize(
    ("budget", "effort"), [(-1, "medium"), (1024, "low"), (8192, "medium"), (8193, "high"), (0, "none")]
)
def test_thinking_budget_becomes_an_effort(budget: int, effort: str) -> None:
    assert render(replace(parse(), reasoning=Reasoning(budget=budget)))["reasoning_effort"] == effort


def test_results_match_calls_in_order_without_usable_ids() -> None:
    history = [
        {"role": "user", "content": "x"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [call("same", "a"), call("same", "b"), call("", "c")],
        },
        {"role": "tool", "tool_call_id": "same", "content": "1"},
        {"role": "tool", "tool_call_id": "same", "content": "2"},
        {"role": "tool", "content": "3"},
    ]
    _, assistant, results = parse(messages=history).messages
    ids = [part.id for part in assistant.parts if isinstance(part, ToolCall)]
    assert len(set(ids)) == 3 and all(ids)
    assert [(part.call_id, part.name) for part in results.parts if isinstance(part, ToolResult)] == list(
        zip(ids, "abc", strict=True)
    )


def test_results_follow_their_calls_and_images_follow_the_results() -> None:
    image_part = Image(media_type="image/png", data="AAAA")
    results = (Text(text="look"), ToolResult(call_id="a", content=(Text(text="seen"), image_part)))
    messages = (
        Message(role="assistant", parts=(ToolCall(id="a", name="f"),)),
        Message(role="system", parts=(Text(text="hurry"),)),
        Message(role="user", parts=results),
    )
    body = render(replace(CHAT_REQUEST, messages=messages))
    assert [message["role"] for message in body["messages"]] == ["assistant", "tool", "system", "user"]
    assert body["messages"][1]["content"] == "seen"
    assert [part["type"] for part in body["messages"][3]["content"]] == ["image_url", "text"]


def test_legacy_functions_are_tools() -> None:
    history = [
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "42"},
    ]
    request = parse(
        messages=history, functions=[{"name": "f", "parameters": {}}], function_call={"name": "f"}
    )
    called, result = (message.parts[0] for message in request.messages)
    assert isinstance(called, ToolCall) and isinstance(result, ToolResult) and result.call_id == called.id
    assert request.tools == (Tool(name="f", schema={}),) and request.tool_choice == ToolChoice(
        mode="required", names=("f",)
    )


def test_allowed_tools_become_a_choice_or_a_subset() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in "abc"]

    def choose(mode: str) -> Request:
        return parse(
            tools=tools,
            tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools[:2]}},
        )

    assert [tool.name for tool in choose("auto").tools if isinstance(tool, Tool)] == ["a", "b"]
    required = choose("required")
    assert render(replace(required, model="gpt-5"))["tool_choice"]["type"] == "allowed_tools"
    elsewhere = render(required)
    assert len(elsewhere["tools"]) == 2 and elsewhere["tool_choice"] == "required"


def test_custom_tools_stay_custom_for_openai_alone() -> None:
    request = parse(tools=[{"type": "custom", "custom": {"name": "sum", "description": "adds"}}])
    assert render(replace(request, model="gpt-5"))["tools"] == [
        {"type": "custom", "custom": {"name": "sum", "description": "adds"}}
    ]
    assert render(request)["tools"][0]["function"]["parameters"]["properties"] == {
        "input": {"type": "string"}
    }
    history = (Message(role="assistant", parts=(ToolCall(id="a", name="sum", arguments="4", custom=True),)),)
    assert render(replace(request, messages=history))["messages"][0]["tool_calls"] == [
        call("a", "sum", '{"input":"4"}')
    ]


def test_unsupported_content_is_rejected() -> None:
    def refuses(**changes: Any) -> None:
        with pytest.raises(UnsupportedFeature):
            render(replace(CHAT_REQUEST, **changes))

    refuses(
        messages=(Message(role="user", parts=(File(url="https://x/y.pdf", media_type="application/pdf"),)),)
    )
    refuses(messages=(Message(role="assistant", parts=(Image(url="https://x/y.png"),)),))


def test_foreign_server_tool_use_and_thinking_are_left_out_of_history() -> None:
    parts = (
        Thinking(text="hm", signature="s", origin="anthropic"),
        Opaque(origin="anthropic", kind="a search", value={}),
        Text(text="yes"),
    )
    assert render(replace(CHAT_REQUEST, messages=(Message(role="assistant", parts=parts),)))["messages"] == [
        {"role": "assistant", "content": "yes"}
    ]


def test_own_thinking_round_trips() -> None:
    detail = {
        "type": "reasoning.text",
        "text": "hm",
        "signature": "sig",
        "format": "anthropic-claude-v1",
        "index": 0,
    }
    sealed = {"type": "reasoning.encrypted", "data": "gAAA", "id": "rs_1"}
    message = {
        "role": "assistant",
        "content": "yes",
        "reasoning": "hm",
        "reasoning_details": [detail, sealed],
    }
    (back,) = render(parse(messages=[message]))["messages"]
    assert back == {
        "role": "assistant",
        "content": "yes",
        "reasoning_content": "hm",
        "reasoning_details": [detail, sealed],
    }


def test_signatures_of_other_origins_survive_a_clients_tool_loop() -> None:
    thought = Thinking(text="hm", signature="sig==", origin="anthropic")
    called = ToolCall(id="a", name="f", arguments="{}", signature="proof", origin="gemini")
    body = openai_chat.render_response(
        Response(id="1", model="m", choices=(Choice(parts=(thought, called)),)), CHAT_REQUEST
    )
    message = json.loads(body)["choices"][0]["message"]
    assert message["reasoning_content"] == "hm"
    assert [unseal(entry["data"]) for entry in message["reasoning_details"]] == [(thought,)]
    sealed = message["tool_calls"][0]["extra_content"]["google"]["thought_signature"]
    assert unseal(sealed) == (Thinking(signature="proof", origin="gemini"),)
    assert parse(messages=[message]).messages[0].parts == (thought, called)


def test_multiple_foreign_thinking_parts_survive_a_tool_loop() -> None:
    parts = (
        Thinking(text="a", signature="1", origin="anthropic"),
        Thinking(redacted="xyz", origin="anthropic"),
        Text(text="b"),
    )
    body = openai_chat.render_response(
        Response(id="1", model="m", choices=(Choice(parts=parts),)), CHAT_REQUEST
    )
    assert parse(messages=[json.loads(body)["choices"][0]["message"]]).messages[0].parts == parts


def test_cache_breakpoints_are_sent_only_if_supported() -> None:
    request = parse(
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
                ],
            }
        ]
    )
    assert request.messages[0].parts == (Text(text="x", cache="1h"),)
    rendered = openai_chat.render_request(request, Quirks())
    assert rendered.dropped == ["cache"] and rendered.body["messages"][0]["content"] == "x"
    routed = render(replace(request, model="anthropic/claude-x"))
    assert routed["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}


@pytest.mark.parametrize(
    ("part", "file"),
    [
        (
            {"type": "input_audio", "input_audio": {"data": "AA", "format": "mp3"}},
            File(media_type="audio/mpeg", data="AA", origin="openai_chat"),
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"}},
            File(media_type="application/pdf", data="AA", name="a.pdf", origin="openai_chat"),
        ),
        ({"type": "file", "file": {"file_id": "file-1"}}, File(file_id="file-1", origin="openai_chat")),
        (
            {"type": "video_url", "video_url": {"url": "https://x/y.mp4"}},
            File(media_type="video/mp4", url="https://x/y.mp4", origin="openai_chat"),
        ),
    ],
)
def test_files_survive_a_round_trip(part: dict[str, Any], file: File) -> None:
    request = parse(messages=[{"role": "user", "content": [part]}])
    assert request.messages[0].parts == (file,)
    assert render(request)["messages"][0]["content"] == [part]


def test_json_mode_is_rendered_in_a_supported_way() -> None:
    request = replace(CHAT_REQUEST, response_format=ResponseFormat())
    assert render(request)["response_format"]["type"] == "json_schema"
    instructed = replace(request, system=(Text(text="Answer in JSON."),))
    assert render(instructed)["response_format"] == {"type": "json_object"}
    named = render(
        replace(CHAT_REQUEST, response_format=ResponseFormat(schema={"type": "object"}, name="my form"))
    )
    assert named["response_format"]["json_schema"] == {"name": "my_form", "schema": {"type": "object"}}
