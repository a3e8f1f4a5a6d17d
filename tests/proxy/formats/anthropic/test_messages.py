"""Requests, responses and errors of Anthropic Messages, parsed and rendered."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from proxy.formats import anthropic
from proxy.formats.codec import RenderedRequest
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
    Part,
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
)
from proxy.formats.quirks import Quirks
from tests.support.adapted_requests import render_adapted

OLDER_MODEL, NEWER_MODEL = "claude-sonnet-4-5", "claude-opus-4-8"
WEATHER = Tool(name="weather", schema={"type": "object", "properties": {"city": {"type": "string"}}})
REQUEST = Request(model=OLDER_MODEL, messages=(Message(role="user", parts=(Text(text="Hi"),)),))
PNG = "iVBORw0KGgo="


def wire_request(**fields: Any) -> bytes:
    return json.dumps(
        {"model": OLDER_MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}], **fields}
    ).encode()


def render(request: Request, *unsupported: str) -> RenderedRequest:
    destination = Destination("anthropic", "anthropic", request.model)
    return render_adapted(request, destination, Quirks(unsupported=frozenset(unsupported)))


def turn(role: Any, *parts: Part) -> Message:
    return Message(role=role, parts=parts)


def contents(*messages: Message) -> list[Any]:
    return [
        (message["role"], message["content"])
        for message in render(replace(REQUEST, messages=messages)).body["messages"]
    ]


# Requests -----------------------------------------------------------------------------------------


def test_request_round_trips_through_neutral_types() -> None:
    body = {
        "model": OLDER_MODEL,
        "max_tokens": 100,
        "system": [
            {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
        ],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "sig"},
                    {"type": "redacted_thinking", "data": "secret"},
                    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Bern"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "cold", "is_error": True}
                ],
            },
        ],
        "tools": [
            {"name": "weather", "input_schema": WEATHER.schema, "cache_control": {"type": "ephemeral"}}
        ],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u1"},
        "temperature": 0.5,
        "stream": True,
    }
    assert render(anthropic.parse_request(parse_object(json.dumps(body).encode()))).body == body


def test_anthropic_only_settings_are_reported_as_dropped() -> None:
    request = anthropic.parse_request(parse_object(wire_request(service_tier="auto", container="c1")))
    assert request.unmapped_settings == {"service_tier": "auto", "container": "c1"}
    assert render(request).dropped == ["service_tier", "container"]


def test_roles_alternate_and_results_come_first() -> None:
    turns = contents(
        turn("user", Text(text="a")),
        turn("user", Text(text="b")),
        turn("assistant", ToolCall(id="c1", name="weather", arguments='{"city":"Bern"}')),
        turn("user", Text(text="and?")),
        turn("user", ToolResult(call_id="c1", content=(Text(text="cold"),))),
    )
    assert [role for role, _ in turns] == ["user", "assistant", "user"]
    assert [block["type"] for block in turns[2][1]] == ["tool_result", "text"]


def test_repeated_and_missing_ids_are_linked_in_order() -> None:
    turns = contents(
        turn("user", Text(text="a")),
        turn(
            "assistant",
            ToolCall(id="", name="one"),
            ToolCall(id="x", name="two"),
            ToolCall(id="x", name="three"),
        ),
        turn(
            "user",
            *(
                ToolResult(call_id=id, content=(Text(text=text),))
                for id, text in (("x", "2"), ("x", "3"), ("", "1"))
            ),
        ),
    )
    calls = {block["id"]: block["name"] for block in turns[1][1]}
    assert len(calls) == 3
    assert {calls[block["tool_use_id"]]: block["content"] for block in turns[2][1]} == {
        "one": "1",
        "two": "2",
        "three": "3",
    }


def test_unmatched_tool_calls_and_results_are_repaired() -> None:
    turns = contents(
        turn("user", ToolResult(call_id="gone", content=(Text(text="42"),))),
        turn("assistant", ToolCall(id="c1", name="weather")),
        turn("user", Text(text="never mind")),
    )
    assert turns[0][1] == [{"type": "text", "text": "42"}]
    assert turns[2][1][0]["tool_use_id"] == "c1"
    assert turns[2][1][0]["is_error"] is True


def test_invalid_tool_call_ids_are_rewritten() -> None:
    turns = contents(
        turn("user", Text(text="a")),
        turn("assistant", ToolCall(id="a|b.c", name="n")),
        turn("user", ToolResult(call_id="a|b.c")),
    )
    assert turns[1][1][0]["id"] == turns[2][1][0]["tool_use_id"]
    assert turns[1][1][0]["id"].startswith("a_b_c_")


def test_non_object_arguments_are_preserved() -> None:
    turns = contents(
        turn("user", Text(text="a")),
        turn("assistant", *(ToolCall(id=text, name="n", arguments=text) for text in ("", "[1", "[1]"))),
    )
    assert [block["input"] for block in turns[1][1]] == [{}, {"_raw": "[1"}, {"_raw": "[1]"}]


def test_conversation_starts_with_user_and_has_no_empty_text() -> None:
    turns = contents(turn("user", Text(text=" ")), turn("assistant", Text(text="Welcome. ")))
    assert [role for role, _ in turns] == ["user", "assistant"]
    assert turns[1][1] == [{"type": "text", "text": "Welcome."}]


def test_mid_conversation_system_messages_stay_if_supported() -> None:
    messages = (
        turn("user", Text(text="a")),
        turn("system", Text(text="Now in French.")),
        turn("assistant", Text(text="b")),
        turn("user", Text(text="c")),
    )
    older, newer = (
        render(replace(REQUEST, model=model, messages=messages)).body for model in (OLDER_MODEL, NEWER_MODEL)
    )
    assert (older["system"], [m["role"] for m in older["messages"]]) == (
        "Now in French.",
        ["user", "assistant", "user"],
    )
    assert [message["role"] for message in newer["messages"]] == ["user", "system", "assistant", "user"]


def test_foreign_thinking_and_server_tools_are_left_out() -> None:
    foreign = (
        Thinking(text="hm", signature="s", origin="gemini"),
        Opaque(origin="gemini", kind="executableCode", value={}),
    )
    assert contents(turn("user", Text(text="a")), turn("assistant", *foreign, Text(text="b")))[1][1] == [
        {"type": "text", "text": "b"}
    ]
    search = ServerTool(origin="gemini", kind="googleSearch", value={})
    rendered = render_adapted(
        replace(REQUEST, tools=(search,)), Destination("anthropic", "anthropic", OLDER_MODEL)
    )
    assert "tools" not in rendered.body and rendered.dropped == ["tools.googleSearch"]


@pytest.mark.parametrize(
    ("model", "kept"),
    [
        (OLDER_MODEL, ["signed", "redacted"]),
        ("glm-5", ["", "other", "signed", "redacted"]),
        ("kimi-k2.5", ["", "other", "signed"]),
    ],
)
def test_a_server_gets_the_thinking_that_it_accepts(model: str, kept: list[str]) -> None:
    other = "91cfbb94-554b-4136-8e21-fa02280d56ed"
    thinking = (
        Thinking(text="a", origin="anthropic"),
        Thinking(text="b", signature=other, origin="anthropic"),
        Thinking(text="c", signature="EqQB", origin="anthropic"),
        Thinking(redacted="EmwK", origin="anthropic"),
    )
    history = (
        turn("user", Text(text="Hi")),
        turn("assistant", *thinking, Text(text="b")),
        turn("user", Text(text="c")),
    )
    blocks = render(replace(REQUEST, model=model, messages=history)).body["messages"][1]["content"][:-1]
    names = {other: "other", "EqQB": "signed", "EmwK": "redacted"}
    assert [names.get(value := block.get("signature", block.get("data")), value) for block in blocks] == kept


@pytest.mark.parametrize(
    "part",
    [
        Image(media_type="image/tiff", data="SUkq"),
        Image(url="gs://bucket/a.png"),
        File(media_type="audio/wav", data="UklG"),
        File(file_id="file-1", origin="openai_responses"),
    ],
)
def test_unsupported_media_are_rejected(part: Part) -> None:
    with pytest.raises(UnsupportedFeature):
        contents(turn("user", part))


def test_a_text_file_at_a_url_is_rejected_with_what_to_do() -> None:
    part = File(url="https://example.com/a.txt", media_type="text/plain")
    with pytest.raises(UnsupportedFeature, match="only PDF files from URLs, not text/plain"):
        contents(turn("user", part))


def test_documents_are_parsed_by_source_type() -> None:
    parts = (
        File(media_type="application/pdf", data="JVBERi0=", name="a.pdf"),
        File(media_type="text/plain", data="SGVsbG8="),
        File(url="https://example.com/a.pdf"),
        Image(url=f"data:image/png;base64,{PNG}"),
    )
    sources = [block["source"] for block in contents(turn("user", *parts))[0][1]]
    assert [source["type"] for source in sources] == ["base64", "text", "url", "base64"]
    assert sources[1]["data"] == "Hello"


def test_foreign_signatures_round_trip_through_the_client() -> None:
    parts = (
        Thinking(text="hm", signature="sig", origin="openai_responses"),
        Thinking(redacted="enc", origin="openai_responses"),
        ToolCall(id="c1", name="weather", arguments="{}", signature="signed", origin="gemini"),
    )
    response = json.loads(
        anthropic.render_response(Response(id="r", model="m", choices=(Choice(parts=parts),)), REQUEST)
    )
    assert [block["type"] for block in response["content"]] == [
        "thinking",
        "redacted_thinking",
        "thinking",
        "tool_use",
    ]
    history = wire_request(
        messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": response["content"]}]
    )
    assert anthropic.parse_request(parse_object(history)).messages[1].parts == parts


def test_older_models_get_a_thinking_budget_below_max_tokens() -> None:
    def thinking(max_tokens: int | None, reasoning: Reasoning) -> tuple[int, int]:
        body = render(replace(REQUEST, max_tokens=max_tokens, reasoning=reasoning)).body
        return body["thinking"]["budget_tokens"], body["max_tokens"]

    assert thinking(None, Reasoning(effort="medium")) == (4096, 8192)
    assert thinking(20_000, Reasoning(budget=3000)) == (3000, 20_000)
    assert thinking(4000, Reasoning(effort="high")) == (2000, 4000)


def test_limit_below_every_budget_turns_thinking_off() -> None:
    rendered = render(replace(REQUEST, max_tokens=1024, reasoning=Reasoning(effort="low")))
    assert rendered.body["max_tokens"] == 1024 and "thinking" not in rendered.body
    assert rendered.dropped == ["reasoning"]


def test_newer_models_get_adaptive_thinking_with_effort() -> None:
    body = render(
        replace(REQUEST, model=NEWER_MODEL, reasoning=Reasoning(effort="minimal", visible=True))
    ).body
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert body["output_config"] == {"effort": "low"}
    assert render(replace(REQUEST, model=NEWER_MODEL, reasoning=Reasoning(effort="none"))).body[
        "thinking"
    ] == {"type": "disabled"}
    assert "thinking" not in render(replace(REQUEST, reasoning=Reasoning(effort="none"))).body


def test_settings_that_conflict_with_thinking_are_reported_as_dropped() -> None:
    choice = ToolChoice(mode="required", names=("weather",))
    rendered = render(
        replace(
            REQUEST,
            reasoning=Reasoning(),
            temperature=0.2,
            top_k=5,
            tools=(WEATHER,),
            tool_choice=choice,
        )
    )
    assert rendered.dropped == ["tool_choice", "temperature", "top_k"]
    assert rendered.body["tool_choice"] == {"type": "auto"}


def test_history_without_signed_thinking_disables_thinking() -> None:
    history = (
        *REQUEST.messages,
        turn("assistant", ToolCall(id="c", name="weather")),
        turn("user", ToolResult(call_id="c")),
    )
    rendered = render(replace(REQUEST, messages=history, tools=(WEATHER,), reasoning=Reasoning(effort="low")))
    assert "thinking" not in rendered.body
    assert rendered.dropped == ["reasoning"]


def test_sampling_is_limited_to_what_the_model_supports() -> None:
    warm = render(replace(REQUEST, temperature=1.7))
    assert (warm.body["temperature"], warm.dropped) == (1, ["temperature;changed=lowered"])
    assert render(replace(REQUEST, temperature=0.5, top_p=0.9)).dropped == ["top_p"]
    assert render(replace(REQUEST, model=NEWER_MODEL, temperature=0.5, top_p=0.9)).dropped == [
        "temperature",
        "top_p",
    ]
    many = render(replace(REQUEST, seed=1, n=2, stop=(" ",)), "user")
    assert many.dropped == ["n;changed=lowered", "stop", "seed"]
    assert render(replace(REQUEST, temperature=0.5), "temperature").dropped == ["temperature"]


def test_output_schema_copy_closes_every_object() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "array", "items": {"type": "object", "properties": {}}},
            "n": {"minimum": 1},
        },
    }
    body = render(replace(REQUEST, response_format=ResponseFormat(schema=schema))).body
    sent = body["output_config"]["format"]["schema"]
    assert sent["additionalProperties"] is sent["properties"]["a"]["items"]["additionalProperties"] is False
    assert sent["properties"]["n"] == {"description": "(minimum: 1)"}
    assert "additionalProperties" not in schema


def test_unsupported_json_mode_becomes_an_instruction() -> None:
    assert "JSON" in render(replace(REQUEST, response_format=ResponseFormat())).body["system"]
    old = render(
        replace(
            REQUEST,
            model="claude-3-haiku-20240307",
            response_format=ResponseFormat(schema={"type": "object"}),
        )
    )
    assert '{"type":"object"}' in old.body["system"]
    assert old.dropped == ["response_format"]


def test_tool_choice_subset_declares_only_those_tools() -> None:
    tools = (Tool(name="a"), Tool(name="b", schema={"properties": {}}), WEATHER)
    body = render(
        replace(
            REQUEST,
            tools=tools,
            tool_choice=ToolChoice(mode="required", names=("a", "b")),
            parallel_tool_calls=False,
        )
    ).body
    assert [(tool["name"], tool["input_schema"]["type"]) for tool in body["tools"]] == [
        ("a", "object"),
        ("b", "object"),
    ]
    assert body["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}


def test_tools_called_in_history_are_declared() -> None:
    history = (
        *REQUEST.messages,
        turn("assistant", ToolCall(id="c", name="weather")),
        turn("user", ToolResult(call_id="c")),
    )
    body = render(replace(REQUEST, messages=history)).body
    assert (body["tools"][0]["name"], body["tool_choice"]) == ("weather", {"type": "none"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        wire_request(messages=[]),
        wire_request(messages=[{"role": "robot"}]),
        wire_request(max_tokens=0),
        wire_request(messages=[{"role": "user", "content": [1]}]),
    ],
)
def test_undecodable_request_is_invalid(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        guard_recursion(anthropic.parse_request, parse_object(body))


# Responses and errors -----------------------------------------------------------------------------

USAGE = {
    "input_tokens": 3,
    "cache_read_input_tokens": 40,
    "cache_creation_input_tokens": 7,
    "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 5},
    "output_tokens": 9,
    "output_tokens_details": {"thinking_tokens": 4},
}
RESPONSE_USAGE = Usage(input=3, cache_read=40, cache_write_5m=2, cache_write_1h=5, output=9, reasoning=4)


def response_body(**fields: Any) -> bytes:
    body = {
        "id": "msg_1",
        "type": "message",
        "model": "m",
        "content": [],
        "stop_reason": "end_turn",
        "usage": USAGE,
        **fields,
    }
    return json.dumps(body).encode()


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


@pytest.mark.parametrize(
    ("model", "limit"),
    [
        ("claude-3-haiku-20240307", 4096),
        ("claude-3-5-haiku-latest", 8192),
        ("claude-sonnet-4-20250514", 32_000),
        ("house-model", 4096),
    ],
)
def test_missing_max_tokens_uses_the_model_default(model: str, limit: int) -> None:
    assert render(replace(REQUEST, model=model, max_tokens=None)).body["max_tokens"] == limit
