"""OpenAI Responses: requests of clients through the neutral types and back."""

import json
from typing import Any

import pytest

from proxy.formats import openai_responses as responses
from proxy.formats.json_body import parse_object
from proxy.formats.neutral import (
    Choice,
    Event,
    File,
    Finished,
    Image,
    Message,
    Reasoning,
    Refusal,
    Request,
    Response,
    Started,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    UnsupportedFeature,
)
from proxy.formats.quirks import Quirks
from tests.proxy.formats.openai_responses.builders import encode, part_events, render, request


def test_conversation_round_trips() -> None:
    history = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Hi"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA=="},
            ],
        },
        {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "42"}]},
        {
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Yes"}, {"type": "refusal", "refusal": "No"}],
        },
    ]
    parsed = request(input=history, instructions="You help.")
    assert parsed.system == (Text(text="You help."), Text(text="Be brief."))
    assert parsed.messages == (
        Message(role="user", parts=(Text(text="Hi"), Image(media_type="image/png", data="AA=="))),
        Message(
            role="assistant",
            parts=(
                Thinking(signature="gAAA", origin="openai_responses"),
                ToolCall(id="c1", name="f", arguments="{}"),
            ),
        ),
        Message(role="user", parts=(ToolResult(call_id="c1", name="f", content=(Text(text="42"),)),)),
        Message(role="assistant", parts=(Text(text="Yes"), Refusal(text="No"))),
    )
    again = responses.parse_request(parse_object(json.dumps(render(parsed)).encode()))
    assert again.messages[1:] == parsed.messages[1:]
    assert render(parsed)["instructions"] == "You help.\n\nBe brief."


def test_results_match_calls_with_repeated_or_missing_ids() -> None:
    call, result = (
        {"type": "function_call", "name": "f", "arguments": ""},
        {"type": "function_call_output", "output": "x"},
    )
    parsed = request(
        input=[
            call | {"call_id": "a"},
            call | {"call_id": "a"},
            call,
            *[result | {"call_id": "a"}] * 2,
            result,
        ]
    )
    calls, results = parsed.messages
    assert [part.id for part in calls.parts if isinstance(part, ToolCall)] == ["a", "a_1", "call_1"]
    assert [part.call_id for part in results.parts if isinstance(part, ToolResult)] == ["a", "a_1", "call_1"]


def test_invalid_call_ids_are_rewritten_for_call_and_result() -> None:
    parts = (ToolCall(id="a:" * 50, name="f"), ToolResult(call_id="a:" * 50, content=(Text(text="x"),)))
    messages = (Message(role="assistant", parts=parts[:1]), Message(role="user", parts=parts[1:]))
    call, result = render(Request(model="m", messages=messages))["input"]
    assert call["call_id"] == result["call_id"] and len(call["call_id"]) <= 64
    assert call["arguments"] == "{}"


def test_foreign_thinking_stays_with_the_client() -> None:
    history = [
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "Hm."}],
            "encrypted_content": "anthropic#sig==",
        },
        {"type": "reasoning", "summary": [], "encrypted_content": "anthropic#redacted#blob"},
        {"type": "reasoning", "summary": [], "encrypted_content": "gemini#thought"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    ]
    parsed = request(input=history)
    assert parsed.messages[0].parts == (
        Thinking(text="Hm.", signature="sig==", origin="anthropic"),
        Thinking(redacted="blob", origin="anthropic"),
        ToolCall(id="c", name="f", arguments="{}", signature="thought", origin="gemini"),
    )
    assert [item["type"] for item in render(parsed)["input"]] == ["function_call"]


def test_signatures_survive_a_round_trip_through_the_client() -> None:
    parts = (
        Thinking(text="Hm.", signature="sig==", origin="anthropic"),
        Thinking(redacted="blob", origin="anthropic"),
        Thinking(text="Own.", signature="gAAA", origin="openai_responses"),
        ToolCall(id="c", name="f", arguments="{}", signature="thought", origin="gemini"),
    )
    response = Response(id="x", model="m", choices=(Choice(parts=parts, finish_reason="tool_calls"),))
    output = json.loads(responses.render_response(response, request()))["output"]
    assert request(input=output).messages[0].parts == parts
    streamed: list[Event] = [Started(id="x", model="m")]
    for part in parts:
        streamed += part_events(part)
    sent = encode([*streamed, Finished(choice=0, finish_reason="tool_calls")])
    assert request(input=sent[-1]["response"]["output"]).messages[0].parts == parts


def test_settings_without_a_neutral_name_keep_their_own_name() -> None:
    parsed = request(
        store=False,
        truncation="auto",
        text={
            "verbosity": "low",
            "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True},
        },
        reasoning={"effort": "low", "summary": "auto"},
        include=["reasoning.encrypted_content", "message.output_text.logprobs"],
        top_logprobs=3,
        metadata={"a": "b"},
    )
    assert parsed.unmapped_settings == {"truncation": "auto", "text.verbosity": "low", "metadata": {"a": "b"}}
    assert parsed.reasoning == Reasoning(effort="low", visible=True) and parsed.logprobs == 3
    rendered = responses.render_request(parsed, Quirks(unsupported=frozenset({"reasoning"})))
    assert sorted(rendered.dropped) == ["metadata", "reasoning", "text.verbosity"]
    assert rendered.body["text"]["format"]["strict"] is True and rendered.body["store"] is False


def test_stateful_features_are_reported() -> None:
    items = [{"type": "item_reference", "id": "msg_1"}, {"type": "compaction", "encrypted_content": "x"}]
    parsed = request(input=items, previous_response_id="resp_1", background=True)
    assert responses.stateful_features(parsed) == [
        "previous_response_id",
        "background",
        "item_reference",
        "compaction",
    ]
    assert render(parsed)["previous_response_id"] == "resp_1"
    assert responses.stateful_features(request(background=False, store=True)) == []


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        ("none", ToolChoice(mode="none")),
        ({"type": "function", "name": "f"}, ToolChoice(mode="required", names=("f",))),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "g"}],
            },
            ToolChoice(mode="required", names=("f", "g")),
        ),
    ],
)
def test_tool_choices_round_trip(given: Any, choice: ToolChoice) -> None:
    tools = [{"type": "function", "name": "f", "parameters": {}}, {"type": "custom", "name": "g"}]
    parsed = request(tools=tools, tool_choice=given)
    assert parsed.tool_choice == choice and render(parsed)["tool_choice"] == given


def test_tools_that_are_not_allowed_are_left_out() -> None:
    tools = [{"type": "function", "name": name, "parameters": {}} for name in "fg"]
    parsed = request(
        tools=tools,
        tool_choice={"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]},
    )
    assert [tool.name for tool in parsed.tools if isinstance(tool, Tool)] == [
        "g"
    ] and parsed.tool_choice == ToolChoice()


def test_custom_tool_grammar_becomes_a_description() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: X"}
    (tool,) = request(
        tools=[{"type": "custom", "name": "apply_patch", "description": "Patch.", "format": grammar}]
    ).tools
    assert tool == Tool(
        name="apply_patch",
        description="Patch.\n\nThe input must follow this lark grammar:\nstart: X",
        custom=True,
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (
            {"messages": (Message(role="user", parts=(File(media_type="audio/wav", data="AA=="),)),)},
            "messages",
        ),
        ({"messages": (Message(role="user", parts=(File(file_id="f", origin="anthropic"),)),)}, "messages"),
    ],
)
def test_unsupported_content_is_rejected_by_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedFeature) as rejected:
        render(Request(**{"model": "m", "messages": (), **fields}))
    assert rejected.value.param == param


def test_settings_that_openai_lacks_are_reported_as_dropped() -> None:
    client_request = Request(
        model="m",
        messages=(),
        top_k=1,
        stop=("x",),
        seed=2,
        temperature=0.5,
        unmapped_settings={"safetySettings": []},
    )
    rendered = responses.render_request(client_request, Quirks())
    assert (
        sorted(rendered.dropped) == ["safetySettings", "seed", "stop", "top_k"]
        and rendered.body["temperature"] == 0.5
    )


def test_json_mode_adds_the_word_json_to_the_input() -> None:
    assert (
        render(request(text={"format": {"type": "json_object"}}))["input"][-1]["content"] == "Answer in JSON."
    )
    assert (
        len(render(request(input="As json, please", text={"format": {"type": "json_object"}}))["input"]) == 1
    )
