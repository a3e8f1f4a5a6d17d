"""Requests, responses and errors of generateContent, parsed and rendered."""

import base64
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
    ApiError,
    Choice,
    File,
    Image,
    InvalidRequest,
    InvalidUpstreamResponse,
    Message,
    Opaque,
    Reasoning,
    Refusal,
    Request,
    Response,
    ResponseFormat,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    UnsupportedFeature,
    Usage,
    WebSearch,
)
from proxy.formats.quirks import Quirks
from proxy.formats.seals import seal
from tests.support.adapted_requests import render_adapted

MODEL = "gemini-2.5-flash"
USER = Message(role="user", parts=(Text(text="Hi"),))
WEATHER = Tool(name="weather", schema={"type": "object", "properties": {"city": {"type": "string"}}})


def neutral_request(*messages: Message, **fields: Any) -> Request:
    return Request(**{"model": MODEL, "messages": messages or (USER,)} | fields)


def parsed(**body: Any) -> Request:
    return gemini.parse_request(
        parse_object(json.dumps({"contents": [{"parts": [{"text": "Hi"}]}]} | body).encode()), MODEL
    )


def rendered(request: Request, quirks: Quirks | None = None) -> dict[str, Any]:
    return gemini.render_request(request, quirks or Quirks()).body


def contents(*messages: Message, model: str = MODEL) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rendered(neutral_request(*messages, model=model))["contents"]
    return found


def assistant(*parts: Any) -> Message:
    return Message(role="assistant", parts=parts)


def tool_results(*parts: Any) -> Message:
    return Message(role="user", parts=parts)


def response_body(*parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    candidate = {"content": {"parts": list(parts), "role": "model"}, "finishReason": "STOP"} | fields
    return {"candidates": [candidate], "responseId": "r1", "modelVersion": MODEL}


def choice_of(body: dict[str, Any]) -> Choice:
    return gemini.parse_response(json.dumps(body).encode()).choices[0]


# Requests of clients ------------------------------------------------------------------------------


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


# Requests to Google -------------------------------------------------------------------------------


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


# Responses ----------------------------------------------------------------------------------------


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


# Errors -------------------------------------------------------------------------------------------


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


# Arbitrary input ----------------------------------------------------------------------------------

JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PART: Any = st.dictionaries(
    st.sampled_from(
        [
            "text",
            "thought",
            "thoughtSignature",
            "functionCall",
            "functionResponse",
            "inlineData",
            "fileData",
            "other",
        ]
    ),
    JSON
    | st.dictionaries(
        st.sampled_from(["name", "id", "args", "response", "parts", "partialArgs", "willContinue"]),
        JSON,
        max_size=4,
    ),
    max_size=3,
)
CONTENT: Any = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "model", None]), "parts": st.lists(PART, max_size=3)}
)


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
