"""Conversations of Anthropic requests, parsed and rendered."""

import json

import pytest
from msgspec.structs import replace

from proxy.formats import anthropic
from proxy.formats.constraints.constraint import Destination
from proxy.formats.json_body import guard_recursion, parse_object
from proxy.formats.neutral import (
    Choice,
    File,
    Image,
    InvalidRequest,
    Opaque,
    Part,
    Reasoning,
    Response,
    ServerTool,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    UnsupportedFeature,
)
from tests.proxy.formats.anthropic.samples import (
    NEWER_MODEL,
    OLDER_MODEL,
    PNG,
    REQUEST,
    WEATHER,
    contents,
    render,
    turn,
    wire_request,
)
from tests.support.adapted_requests import render_adapted


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


def test_history_without_signed_thinking_disables_thinking() -> None:
    history = (
        *REQUEST.messages,
        turn("assistant", ToolCall(id="c", name="weather")),
        turn("user", ToolResult(call_id="c")),
    )
    rendered = render(replace(REQUEST, messages=history, tools=(WEATHER,), reasoning=Reasoning(effort="low")))
    assert "thinking" not in rendered.body
    assert rendered.dropped == ["reasoning"]


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
