"""Anthropic Messages, both ways."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from proxy.formats import anthropic
from proxy.formats.codec import Quirks, Rendered
from proxy.formats.neutral import (
    BadAnswer,
    BadRequest,
    Choice,
    Failure,
    File,
    Image,
    Inexpressible,
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
    Usage,
)

OLDER, NEWER = "claude-sonnet-4-5", "claude-opus-4-8"
WEATHER = Tool(name="weather", schema={"type": "object", "properties": {"city": {"type": "string"}}})
ASKED = Request(model=OLDER, messages=(Message(role="user", parts=(Text(text="Hi"),)),))
PNG = "iVBORw0KGgo="


def wire(**fields: Any) -> bytes:
    return json.dumps({"model": OLDER, "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}], **fields}).encode()


def render(request: Request, *unsupported: str) -> Rendered:
    return anthropic.render_request(request, Quirks(unsupported=frozenset(unsupported)))


def said(role: Any, *parts: Part) -> Message:
    return Message(role=role, parts=parts)


def contents(*messages: Message) -> list[Any]:
    return [(message["role"], message["content"]) for message in render(replace(ASKED, messages=messages)).body["messages"]]


# Requests -----------------------------------------------------------------------------------------------------------------


def test_a_request_keeps_what_it_says_through_the_hub() -> None:
    body = {
        "model": OLDER,
        "max_tokens": 100,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "messages": [
            {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "sig"},
                    {"type": "redacted_thinking", "data": "secret"},
                    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Bern"}},
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "cold", "is_error": True}]},
        ],
        "tools": [{"name": "weather", "input_schema": WEATHER.schema, "cache_control": {"type": "ephemeral"}}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u1"},
        "temperature": 0.5,
        "stream": True,
    }
    assert render(anthropic.parse_request(json.dumps(body).encode())).body == body


def test_settings_of_this_format_alone_are_named_as_dropped() -> None:
    request = anthropic.parse_request(wire(service_tier="auto", container="c1"))
    assert request.extras == {"service_tier": "auto", "container": "c1"}
    assert render(request).dropped == ["service_tier", "container"]


def test_roles_alternate_and_results_stand_first() -> None:
    turns = contents(
        said("user", Text(text="a")),
        said("user", Text(text="b")),
        said("assistant", ToolCall(id="c1", name="weather", arguments='{"city":"Bern"}')),
        said("user", Text(text="and?")),
        said("user", ToolResult(call_id="c1", content=(Text(text="cold"),))),
    )
    assert [role for role, _ in turns] == ["user", "assistant", "user"]
    assert [block["type"] for block in turns[2][1]] == ["tool_result", "text"]


def test_repeated_and_missing_ids_are_linked_in_order() -> None:
    turns = contents(
        said("user", Text(text="a")),
        said("assistant", ToolCall(id="", name="one"), ToolCall(id="x", name="two"), ToolCall(id="x", name="three")),
        said("user", *(ToolResult(call_id=id, content=(Text(text=text),)) for id, text in (("x", "2"), ("x", "3"), ("", "1")))),
    )
    calls = {block["id"]: block["name"] for block in turns[1][1]}
    assert len(calls) == 3
    assert {calls[block["tool_use_id"]]: block["content"] for block in turns[2][1]} == {"one": "1", "two": "2", "three": "3"}


def test_a_call_without_a_result_gets_one_and_a_result_without_a_call_becomes_text() -> None:
    turns = contents(
        said("user", ToolResult(call_id="gone", content=(Text(text="42"),))),
        said("assistant", ToolCall(id="c1", name="weather")),
        said("user", Text(text="never mind")),
    )
    assert turns[0][1] == [{"type": "text", "text": "42"}]
    assert turns[2][1][0]["tool_use_id"] == "c1"
    assert turns[2][1][0]["is_error"] is True


def test_ids_that_the_api_refuses_become_ones_that_it_takes() -> None:
    turns = contents(
        said("user", Text(text="a")), said("assistant", ToolCall(id="a|b.c", name="n")), said("user", ToolResult(call_id="a|b.c"))
    )
    assert turns[1][1][0]["id"] == turns[2][1][0]["tool_use_id"]
    assert turns[1][1][0]["id"].startswith("a_b_c_")


def test_arguments_that_are_no_object_are_kept() -> None:
    turns = contents(
        said("user", Text(text="a")), said("assistant", *(ToolCall(id=text, name="n", arguments=text) for text in ("", "[1", "[1]")))
    )
    assert [block["input"] for block in turns[1][1]] == [{}, {"_raw": "[1"}, {"_raw": "[1]"}]


def test_a_conversation_begins_with_the_user_and_holds_no_empty_text() -> None:
    turns = contents(said("user", Text(text=" ")), said("assistant", Text(text="Welcome. ")))
    assert [role for role, _ in turns] == ["user", "assistant"]
    assert turns[1][1] == [{"type": "text", "text": "Welcome."}]


def test_instructions_in_the_middle_stay_where_the_model_takes_them() -> None:
    messages = (said("user", Text(text="a")), said("system", Text(text="Now in French.")), said("assistant", Text(text="b")))
    older, newer = (render(replace(ASKED, model=model, messages=messages)).body for model in (OLDER, NEWER))
    assert (older["system"], [m["role"] for m in older["messages"]]) == ("Now in French.", ["user", "assistant"])
    assert [message["role"] for message in newer["messages"]] == ["user", "system", "assistant"]


def test_thoughts_of_others_are_left_out_and_their_server_tools_refused() -> None:
    foreign = (Thinking(text="hm", signature="s", origin="gemini"), Opaque(origin="gemini", what="executableCode", value={}))
    assert contents(said("user", Text(text="a")), said("assistant", *foreign, Text(text="b")))[1][1] == [{"type": "text", "text": "b"}]
    with pytest.raises(Inexpressible) as refused:
        render(replace(ASKED, tools=(ServerTool(origin="gemini", what="googleSearch", value={}),)))
    assert refused.value.param == "tools"


@pytest.mark.parametrize(
    "part",
    [
        Image(mime="image/tiff", data="SUkq"),
        Image(url="gs://bucket/a.png"),
        File(mime="audio/wav", data="UklG"),
        File(file_id="file-1", origin="openai_responses"),
    ],
)
def test_media_that_claude_cannot_read_are_refused(part: Part) -> None:
    with pytest.raises(Inexpressible):
        contents(said("user", part))


def test_documents_are_told_by_how_they_come() -> None:
    parts = (
        File(mime="application/pdf", data="JVBERi0=", name="a.pdf"),
        File(mime="text/plain", data="SGVsbG8="),
        File(url="https://example.com/a.pdf"),
        Image(url=f"data:image/png;base64,{PNG}"),
    )
    sources = [block["source"] for block in contents(said("user", *parts))[0][1]]
    assert [source["type"] for source in sources] == ["base64", "text", "url", "base64"]
    assert sources[1]["data"] == "Hello"


def test_signatures_of_another_provider_travel_through_the_client_and_back() -> None:
    parts = (
        Thinking(text="hm", signature="sig", origin="openai_responses"),
        Thinking(redacted="enc", origin="openai_responses"),
        ToolCall(id="c1", name="weather", arguments="{}", signature="proof", origin="gemini"),
    )
    answer = json.loads(anthropic.render_response(Response(id="r", model="m", choices=(Choice(parts=parts),)), ASKED))
    assert [block["type"] for block in answer["content"]] == ["thinking", "redacted_thinking", "thinking", "tool_use"]
    history = wire(messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer["content"]}])
    assert anthropic.parse_request(history).messages[1].parts == parts


def test_an_older_model_thinks_within_a_budget_below_the_limit() -> None:
    def thinking(max_tokens: int | None, reasoning: Reasoning) -> tuple[int, int]:
        body = render(replace(ASKED, max_tokens=max_tokens, reasoning=reasoning)).body
        return body["thinking"]["budget_tokens"], body["max_tokens"]

    assert thinking(None, Reasoning(effort="medium")) == (4096, 8192)
    assert thinking(20_000, Reasoning(budget=3000)) == (3000, 20_000)
    assert thinking(4000, Reasoning(effort="high")) == (2000, 4000)
    assert thinking(100, Reasoning(effort="low")) == (1024, 1124)


def test_a_newer_model_thinks_by_effort() -> None:
    body = render(replace(ASKED, model=NEWER, reasoning=Reasoning(effort="minimal", visible=True))).body
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert body["output_config"] == {"effort": "low"}
    assert render(replace(ASKED, model=NEWER, reasoning=Reasoning(effort="none"))).body["thinking"] == {"type": "disabled"}
    assert "thinking" not in render(replace(ASKED, reasoning=Reasoning(effort="none"))).body


def test_what_excludes_thinking_is_dropped_by_name() -> None:
    choice = ToolChoice(mode="required", names=("weather",))
    rendered = render(replace(ASKED, reasoning=Reasoning(), temperature=0.2, top_k=5, tools=(WEATHER,), tool_choice=choice))
    assert rendered.dropped == ["tool_choice", "temperature", "top_k"]
    assert rendered.body["tool_choice"] == {"type": "auto"}


def test_a_tool_loop_without_signed_thoughts_goes_on_without_thinking() -> None:
    loop = (*ASKED.messages, said("assistant", ToolCall(id="c", name="weather")), said("user", ToolResult(call_id="c")))
    rendered = render(replace(ASKED, messages=loop, tools=(WEATHER,), reasoning=Reasoning(effort="low")))
    assert "thinking" not in rendered.body
    assert rendered.dropped == ["reasoning"]


def test_sampling_is_held_to_what_the_model_takes() -> None:
    assert render(replace(ASKED, temperature=1.7)).body["temperature"] == 1
    assert render(replace(ASKED, temperature=0.5, top_p=0.9)).dropped == ["top_p"]
    assert render(replace(ASKED, model=NEWER, temperature=0.5, top_p=0.9)).dropped == ["temperature", "top_p"]
    assert render(replace(ASKED, seed=1, choices=2, stop=(" ",)), "user").dropped == ["stop", "seed", "choices"]
    assert render(replace(ASKED, temperature=0.5), "temperature").dropped == ["temperature"]


def test_every_object_of_an_answer_schema_is_closed_in_a_copy() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object", "properties": {}}}, "n": {"minimum": 1}}}
    body = render(replace(ASKED, response_format=ResponseFormat(schema=schema))).body
    sent = body["output_config"]["format"]["schema"]
    assert sent["additionalProperties"] is sent["properties"]["a"]["items"]["additionalProperties"] is False
    assert sent["properties"]["n"] == {"description": "(minimum: 1)"}
    assert "additionalProperties" not in schema


def test_json_without_a_schema_or_on_an_old_model_is_asked_for_in_words() -> None:
    assert "JSON" in render(replace(ASKED, response_format=ResponseFormat())).body["system"]
    old = render(replace(ASKED, model="claude-3-haiku-20240307", response_format=ResponseFormat(schema={"type": "object"})))
    assert '{"type":"object"}' in old.body["system"]
    assert old.dropped == ["response_format"]


def test_tools_are_objects_and_a_choice_among_some_declares_only_those() -> None:
    tools = (Tool(name="a"), Tool(name="b", schema={"properties": {}}), WEATHER)
    body = render(replace(ASKED, tools=tools, tool_choice=ToolChoice(mode="required", names=("a", "b")), parallel_tool_calls=False)).body
    assert [(tool["name"], tool["input_schema"]["type"]) for tool in body["tools"]] == [("a", "object"), ("b", "object")]
    assert body["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}


def test_tools_of_the_history_are_declared_where_none_are() -> None:
    loop = (*ASKED.messages, said("assistant", ToolCall(id="c", name="weather")), said("user", ToolResult(call_id="c")))
    body = render(replace(ASKED, messages=loop)).body
    assert (body["tools"][0]["name"], body["tool_choice"]) == ("weather", {"type": "none"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        wire(messages=[]),
        wire(messages=[{"role": "robot"}]),
        wire(max_tokens=0),
        wire(messages=[{"role": "user", "content": [1]}]),
    ],
)
def test_an_unreadable_request_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest):
        anthropic.parse_request(body)


# Answers and errors -------------------------------------------------------------------------------------------------------

USAGE = {
    "input_tokens": 3,
    "cache_read_input_tokens": 40,
    "cache_creation_input_tokens": 7,
    "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 5},
    "output_tokens": 9,
    "output_tokens_details": {"thinking_tokens": 4},
}
COUNTED = Usage(input=3, cache_read=40, cache_write_5m=2, cache_write_1h=5, output=9, reasoning=4)


def answer(**fields: Any) -> bytes:
    body = {"id": "msg_1", "type": "message", "model": "m", "content": [], "stop_reason": "end_turn", "usage": USAGE, **fields}
    return json.dumps(body).encode()


def test_an_answer_keeps_what_it_says_through_the_hub() -> None:
    content = [{"type": "text", "text": "It is "}, {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Bern"}}]
    response = anthropic.parse_response(answer(content=content))
    assert response.usage == COUNTED
    assert response.choices[0].finish == "tool_calls"
    again = json.loads(anthropic.render_response(response, ASKED))
    assert (again["content"], again["stop_reason"]) == (content, "tool_use")
    assert {name: again["usage"][name] for name in USAGE} == USAGE


@pytest.mark.parametrize(
    ("reason", "finish"), [("refusal", "content_filter"), ("pause_turn", "pause"), ("max_tokens", "length"), ("new_reason", "other")]
)
def test_stop_reasons_are_told_by_the_neutral_word(reason: str, finish: str) -> None:
    assert anthropic.parse_response(answer(stop_reason=reason)).choices[0].finish == finish


def test_rounds_that_the_totals_leave_out_are_counted() -> None:
    rounds = [{"type": "compaction", "input_tokens": 1000, "output_tokens": 50}, {"type": "message", "input_tokens": 3, "output_tokens": 9}]
    response = anthropic.parse_response(answer(usage={"input_tokens": 3, "output_tokens": 9, "iterations": rounds}))
    assert response.usage == Usage(input=1003, output=59)


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": -1}, {"input_tokens": 2**31}, {"input_tokens": "many"}, 5])
def test_absurd_usage_is_none(usage: Any) -> None:
    assert anthropic.parse_response(answer(usage=usage)).usage is None


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"content": [1]}', b'{"type":"error","error":{"message":"no"}}'])
def test_an_unreadable_answer_is_a_bad_answer(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        anthropic.parse_response(body)


def test_a_picture_in_an_answer_is_not_lost() -> None:
    response = Response(id="r", model="m", choices=(Choice(parts=(Image(mime="image/png", data=PNG), Refusal(text="No."))),))
    blocks = json.loads(anthropic.render_response(response, ASKED))["content"]
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
def test_any_error_is_read(status: int, body: bytes, kind: str, message: str) -> None:
    failure = anthropic.parse_error(status, body)
    assert (failure.kind, failure.message, failure.status) == (kind, message, status)


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
def test_errors_have_the_vendors_types(kind: str, status: int, type: str) -> None:
    body = json.loads(anthropic.render_error(Failure(kind=kind, code="c", message="m", status=status), "req_1"))
    assert body == {"type": "error", "error": {"type": type, "message": "m"}, "request_id": "req_1"}


@pytest.mark.parametrize(
    ("model", "limit"),
    [("claude-3-haiku-20240307", 4096), ("claude-3-5-haiku-latest", 8192), ("claude-sonnet-4-20250514", 32_000), ("house-model", 4096)],
)
def test_clients_that_set_no_limit_get_what_the_model_takes(model: str, limit: int) -> None:
    assert render(replace(ASKED, model=model, max_tokens=None)).body["max_tokens"] == limit
