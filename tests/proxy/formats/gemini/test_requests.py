"""Requests of generateContent, parsed and rendered."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.formats import gemini
from proxy.formats.constraints.constraint import Destination
from proxy.formats.json_body import guard_recursion, parse_object
from proxy.formats.neutral import (
    File,
    Image,
    InvalidRequest,
    Message,
    Opaque,
    Reasoning,
    ResponseFormat,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    UnsupportedFeature,
    WebSearch,
)
from proxy.formats.quirks import Quirks
from tests.proxy.formats.gemini.samples import (
    CONTENT,
    JSON,
    MODEL,
    USER,
    WEATHER,
    assistant,
    contents,
    neutral_request,
    parsed,
    rendered,
    tool_results,
)
from tests.support.adapted_requests import render_adapted


def test_snake_case_and_camel_case_are_equivalent() -> None:
    snake = {
        "contents": {"role": "user", "parts": {"inline_data": {"mime_type": "image/png", "data": "iVBO"}}},
        "system_instruction": {"parts": [{"text": "Be brief."}]},
        "generation_config": {
            "max_output_tokens": "64",
            "top_k": 40.0,
            "thinking_config": {"include_thoughts": True},
        },
        "tool_config": {"function_calling_config": {"mode": "any", "allowed_function_names": ["weather"]}},
        "tools": [
            {"function_declarations": [{"name": "weather", "parameters_json_schema": {"type": "object"}}]}
        ],
    }
    camel = {
        "contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "iVBO"}}]}],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "generationConfig": {"maxOutputTokens": 64, "topK": 40, "thinkingConfig": {"includeThoughts": True}},
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}},
        "tools": [
            {"functionDeclarations": [{"name": "weather", "parametersJsonSchema": {"type": "object"}}]}
        ],
    }
    assert parsed(**snake) == parsed(**camel)
    assert parsed(**camel).tool_choice == ToolChoice(mode="required", names=("weather",))
    assert parsed(**camel).max_tokens == 64


def test_arguments_and_schemas_keep_their_names() -> None:
    call = {"function_call": {"name": "f", "args": {"some_key": {"inner_key": 1}}}}
    request = parsed(contents=[{"role": "model", "parts": [call]}])
    (part,) = request.messages[0].parts
    assert isinstance(part, ToolCall) and json.loads(part.arguments) == {"some_key": {"inner_key": 1}}


def test_googles_schema_becomes_json_schema() -> None:
    schema = {
        "type": "OBJECT",
        "properties": {
            "any_of": {"type": "STRING", "nullable": True, "enum": ["a"]},
            "n": {"type": "ARRAY", "min_items": "2"},
        },
        "propertyOrdering": ["n"],
    }
    (tool,) = parsed(tools=[{"functionDeclarations": [{"name": "f", "parameters": schema}]}]).tools
    assert isinstance(tool, Tool) and tool.schema == {
        "type": "object",
        "properties": {
            "any_of": {"type": ["string", "null"], "enum": ["a", None]},
            "n": {"type": "array", "minItems": 2},
        },
    }


def test_results_without_ids_are_linked_in_order() -> None:
    call = {"functionCall": {"name": "topic", "args": {}}}
    result = {"functionResponse": {"name": "topic", "response": {"result": "x"}}}
    request = parsed(
        contents=[{"role": "model", "parts": [call, call]}, {"role": "function", "parts": [result, result]}]
    )
    calls, linked = request.messages[0].parts, request.messages[1].parts
    ids = [part.id for part in calls if isinstance(part, ToolCall)]
    assert len(set(ids)) == 2
    assert [part.call_id for part in linked if isinstance(part, ToolResult)] == ids


def test_the_same_history_gets_the_same_ids() -> None:
    history = [{"role": "model", "parts": [{"functionCall": {"name": "f"}}]}]
    assert parsed(contents=history) == parsed(contents=history)


@pytest.mark.parametrize(
    ("response", "text", "is_error"),
    [
        ({"result": "ok"}, "ok", False),
        ({"output": "ok"}, "ok", False),
        ({"error": "no"}, "no", True),
        ({"a": 1}, '{"a":1}', False),
    ],
)
def test_tool_results_are_parsed_as_text(response: dict[str, Any], text: str, is_error: bool) -> None:
    request = parsed(contents=[{"parts": [{"functionResponse": {"name": "f", "response": response}}]}])
    (part,) = request.messages[0].parts
    assert isinstance(part, ToolResult) and part.content == (Text(text=text),) and part.is_error is is_error


def test_google_only_content_is_kept_as_opaque() -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "1"}, "thoughtSignature": "c2ln"}
    request = parsed(
        contents=[{"role": "model", "parts": [code]}],
        tools=[{"googleSearch": {}}],
        safetySettings=[],
        generationConfig={"speechConfig": {}},
    )
    text = "```python\n1\n```"
    assert request.messages[0].parts == (
        Opaque(origin="gemini", kind="executableCode", value=code, text=text),
    )
    assert request.tools == (
        ServerTool(origin="gemini", kind="googleSearch", value={"googleSearch": {}}, shared=WebSearch()),
    )
    assert set(request.unmapped_settings) == {"safetySettings", "speechConfig"}
    body = rendered(request)
    assert body["contents"][1]["parts"] == [code] and body["tools"] == [{"googleSearch": {}}]


def test_cached_content_reference_is_not_dropped_silently() -> None:
    (tool,) = parsed(cachedContent="cachedContents/1").tools
    assert isinstance(tool, ServerTool) and tool.origin == "gemini"
    assert rendered(parsed(cachedContent="cachedContents/1"))["cachedContent"] == "cachedContents/1"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"nope",
        b'{"contents": 1}',
        b'{"contents": [{"role": "system", "parts": []}]}',
        b'{"contents": [{"parts": [1]}]}',
    ],
)
def test_non_request_body_is_rejected(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        guard_recursion(gemini.parse_request, parse_object(body), MODEL)


def test_neighbouring_turns_merge_and_the_user_begins() -> None:
    turns = contents(assistant(Text(text="Hello")), assistant(Text(text="!")), USER, USER)
    assert [turn["role"] for turn in turns] == ["user", "model", "user"]
    assert turns[1]["parts"] == [{"text": "Hello"}, {"text": "!"}]


def test_every_call_gets_a_result_in_the_next_turn() -> None:
    calls = assistant(ToolCall(id="a", name="f", arguments='{"x":1}'), ToolCall(id="b", name="g"))
    turns = contents(
        USER, calls, tool_results(ToolResult(call_id="b", content=(Text(text="two"),)), Text(text="go on"))
    )
    assert turns[2]["parts"] == [
        {"functionResponse": {"id": "a", "name": "f", "response": {"error": "The tool gave no result."}}},
        {"functionResponse": {"id": "b", "name": "g", "response": {"result": "two"}}},
        {"text": "go on"},
    ]


def test_repeated_ids_are_linked_in_order_and_not_sent() -> None:
    calls = assistant(ToolCall(id="x", name="f"), ToolCall(id="x", name="f"))
    turns = contents(
        USER, calls, tool_results(*(ToolResult(call_id="x", content=(Text(text=text),)) for text in "12"))
    )
    assert [part["functionResponse"] for part in turns[2]["parts"]] == [
        {"name": "f", "response": {"result": text}} for text in "12"
    ]


def test_result_without_a_call_is_rejected() -> None:
    with pytest.raises(UnsupportedFeature):
        contents(USER, assistant(Text(text="Hm")), tool_results(ToolResult(call_id="x")))


def test_non_object_arguments_are_preserved() -> None:
    turns = contents(USER, assistant(ToolCall(id="a", name="f", arguments="[1")))
    assert turns[1]["parts"] == [{"functionCall": {"id": "a", "name": "f", "args": {"_raw": "[1"}}}]


def test_gemini_3_gets_a_signature_on_the_first_call_of_a_turn() -> None:
    calls = assistant(
        ToolCall(id="a", name="f", signature="theirs", origin="anthropic"), ToolCall(id="b", name="f")
    )
    first, second = contents(USER, calls, model="gemini-3-pro-preview")[1]["parts"]
    assert (
        first["thoughtSignature"] == "skip_thought_signature_validator" and "thoughtSignature" not in second
    )
    own = assistant(ToolCall(id="a", name="f", signature="ours", origin="gemini"))
    assert contents(USER, own, model="gemini-3-pro-preview")[1]["parts"][0]["thoughtSignature"] == "ours"
    assert "thoughtSignature" not in contents(USER, calls)[1]["parts"][0]


@pytest.mark.parametrize(("model", "is_nested"), [("gemini-3-flash", True), (MODEL, False)])
def test_result_images_are_nested_from_gemini_3_on(model: str, is_nested: bool) -> None:
    result = ToolResult(call_id="a", content=(Text(text="see"), Image(media_type="image/png", data="iVBO")))
    parts = contents(USER, assistant(ToolCall(id="a", name="f")), tool_results(result), model=model)[2][
        "parts"
    ]
    image = {"inlineData": {"mimeType": "image/png", "data": "iVBO"}}
    assert parts[0]["functionResponse"].get("parts") == ([image] if is_nested else None)
    assert parts[1:] == ([] if is_nested else [image])


def test_foreign_thinking_is_dropped_and_own_thinking_round_trips() -> None:
    turn = assistant(
        Thinking(text="mine", origin="gemini"),
        Thinking(text="theirs", signature="s", origin="anthropic"),
        Thinking(signature="c2ln", origin="gemini"),
        Text(text="So"),
    )
    assert contents(USER, turn)[1]["parts"] == [
        {"text": "mine", "thought": True},
        {"text": "So", "thoughtSignature": "c2ln"},
    ]


@pytest.mark.parametrize(
    ("model", "reasoning", "config"),
    [
        (MODEL, Reasoning(effort="low", visible=True), {"includeThoughts": True, "thinkingBudget": 1024}),
        (MODEL, Reasoning(effort="none"), {"thinkingBudget": 0}),
        (MODEL, Reasoning(budget=60_000), {"thinkingBudget": 24_576}),
        (MODEL, Reasoning(), {"thinkingBudget": -1}),
        ("gemini-2.5-pro", Reasoning(effort="none"), {"thinkingBudget": 128}),
        ("gemini-3-flash", Reasoning(effort="minimal"), {"thinkingLevel": "minimal"}),
        ("gemini-3-pro-preview", Reasoning(effort="xhigh"), {"thinkingLevel": "high"}),
        ("gemini-3-pro-preview", Reasoning(budget=2048), {"thinkingBudget": 2048}),
    ],
)
def test_effort_becomes_a_budget_or_a_level(model: str, reasoning: Reasoning, config: dict[str, Any]) -> None:
    assert rendered(neutral_request(model=model, reasoning=reasoning))["generationConfig"] == {
        "thinkingConfig": config
    }


def test_unsupported_settings_are_reported_as_dropped() -> None:
    request = neutral_request(
        stop=tuple("abcdef"),
        user="u",
        parallel_tool_calls=False,
        seed=1,
        top_p=0.5,
        tools=(replace(WEATHER, strict=True),),
        unmapped_settings={"logit_bias": {}},
    )
    destination = Destination("gemini", "gemini", request.model)
    result = render_adapted(request, destination, Quirks(unsupported=frozenset(("seed",))))
    assert sorted(result.dropped) == ["logit_bias", "parallel_tool_calls", "seed", "stop", "strict", "user"]
    assert result.body["generationConfig"] == {"stopSequences": list("abcde"), "topP": 0.5}


def test_tools_and_response_formats_are_sent_as_json_schema() -> None:
    schema = {"type": "object", "additionalProperties": False}
    choice = ToolChoice(mode="required", names=("weather",))
    body = rendered(
        neutral_request(tools=(WEATHER,), tool_choice=choice, response_format=ResponseFormat(schema=schema))
    )
    assert body["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"] == WEATHER.schema
    assert body["toolConfig"] == {
        "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}
    }
    assert body["generationConfig"] == {"responseMimeType": "application/json", "responseJsonSchema": schema}


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": (Message(role="user", parts=(File(file_id="file-1", origin="openai_chat"),)),)},
    ],
)
def test_unsupported_content_is_rejected(fields: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedFeature):
        rendered(neutral_request(**fields))


@given(st.lists(CONTENT | JSON, max_size=3), JSON)
def test_any_request_is_rendered_or_rejected(turns: Any, settings: Any) -> None:
    with suppress(InvalidRequest):
        json.dumps(
            rendered(
                gemini.parse_request(
                    parse_object(json.dumps({"contents": turns, "generationConfig": settings}).encode()),
                    MODEL,
                )
            )
        )
