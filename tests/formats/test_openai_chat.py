"""OpenAI Chat Completions and the servers that speak it, to and from the neutral hub."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from proxy.formats import openai_chat
from proxy.formats.body import read_safely
from proxy.formats.codec import Quirks
from proxy.formats.neutral import (
    BadAnswer,
    BadRequest,
    Choice,
    Event,
    Failed,
    Failure,
    File,
    Finished,
    Image,
    Inexpressible,
    Message,
    Opaque,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Reasoning,
    Refusal,
    Request,
    Response,
    ResponseFormat,
    ServerTool,
    Started,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
    UsageSeen,
)
from proxy.formats.openai_chat.history import WireMessage
from proxy.formats.openai_chat.request import WireRequest

ASKED = Request(model="m", messages=(Message(role="user", parts=(Text(text="hi"),)),), stream=True)
WEATHER = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": {"type": "object", "properties": {}}}}


def parse(**fields: Any) -> Request:
    return openai_chat.parse_request(json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}).encode())


def render(request: Request, **quirks: Any) -> dict[str, Any]:
    return openai_chat.render_request(request, Quirks(**quirks)).body


def call(call_id: str, name: str = "weather", arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def chunk(delta: Any, finish: str | None = None, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c1", "model": "m1", "choices": [choice], **fields}).encode() + b"\n\n"


def fragment(**fields: Any) -> dict[str, Any]:
    return {"tool_calls": [fields]}


def decode(stream: bytes, cuts: list[int] | None = None) -> list[Event]:
    decoder = openai_chat.StreamDecoder()
    edges = [0, *sorted({cut % (len(stream) or 1) for cut in cuts or ()}), len(stream)]
    return [event for start, end in pairwise(edges) for event in decoder.feed(stream[start:end])] + decoder.finish()


def encode(events: list[Event], request: Request = ASKED) -> list[Any]:
    encoder = openai_chat.StreamEncoder(request)
    stream = b"".join(map(encoder.encode, events)) + encoder.finish()
    lines = [line.removeprefix("data: ") for line in stream.decode().split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def parts_of(events: list[Event]) -> list[tuple[Any, str]]:
    """Each part with its text; fails where one opens before the other has ended."""
    parts: list[tuple[Any, str]] = []
    is_open = False
    for event in events:
        match event:
            case PartStarted():
                assert not is_open
                is_open = True
                parts.append((event.part, ""))
            case PartDelta():
                assert is_open
                parts[-1] = (parts[-1][0], parts[-1][1] + event.text)
            case PartEnded():
                is_open = False
            case _:
                pass
    return parts


def answer(message: Any, finish: str | None = "stop", **fields: Any) -> Choice:
    body = {"id": "c", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": finish}], **fields}
    return openai_chat.parse_response(json.dumps(body).encode()).choices[0]


# Requests -----------------------------------------------------------------------------------------------------------------


def test_a_conversation_comes_back_as_it_went() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}],
        },
        {"role": "assistant", "content": "Let me look.", "tool_calls": [call("a"), call("b", arguments='{"x": 1}')]},
        {"role": "tool", "tool_call_id": "a", "content": "sun"},
        {"role": "tool", "tool_call_id": "b", "content": "rain"},
        {"role": "system", "content": "Now in French."},
        {"role": "user", "content": "Well?"},
    ]
    body = render(
        parse(messages=messages, tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "weather"}}, max_tokens=5)
    )
    assert body["messages"] == messages
    assert body["tools"] == [WEATHER] and body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert body["max_tokens"] == 5


def test_settings_without_a_neutral_field_are_named_as_dropped() -> None:
    request = parse(logit_bias={"1": 2}, store=True, metadata=None, top_k=4, seed=7)
    assert openai_chat.render_request(request, Quirks(unsupported=frozenset({"seed"}))).dropped == ["top_k", "seed", "logit_bias", "store"]


def test_reasoning_models_are_spared_what_they_refuse() -> None:
    request = parse(max_tokens=9, temperature=0.5, top_p=1, stop="x", presence_penalty=1, logprobs=True, reasoning_effort="low")
    rendered = openai_chat.render_request(replace(request, model="o3-mini"), Quirks())
    assert rendered.dropped == ["temperature", "presence_penalty", "logprobs"] and rendered.body["stop"] == ["x"]
    assert openai_chat.render_request(replace(request, model="gpt-5"), Quirks()).dropped[0] == "stop"
    assert rendered.body["max_completion_tokens"] == 9 and "max_tokens" not in rendered.body
    assert rendered.body["reasoning_effort"] == "low" and rendered.body["top_p"] == 1
    assert openai_chat.render_request(replace(request, model="gpt-4o"), Quirks()).dropped == ["reasoning"]


@pytest.mark.parametrize(("budget", "effort"), [(-1, "medium"), (1024, "low"), (8192, "medium"), (8193, "high"), (0, "none")])
def test_a_budget_of_thoughts_becomes_an_effort(budget: int, effort: str) -> None:
    assert render(replace(parse(), reasoning=Reasoning(budget=budget)))["reasoning_effort"] == effort


def test_results_answer_their_calls_by_order_where_ids_are_missing_or_repeated() -> None:
    history = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [call("same", "a"), call("same", "b"), call("", "c")]},
        {"role": "tool", "tool_call_id": "same", "content": "1"},
        {"role": "tool", "tool_call_id": "same", "content": "2"},
        {"role": "tool", "content": "3"},
    ]
    _, said, results = parse(messages=history).messages
    ids = [part.id for part in said.parts if isinstance(part, ToolCall)]
    assert len(set(ids)) == 3 and all(ids)
    assert [(part.call_id, part.name) for part in results.parts if isinstance(part, ToolResult)] == list(zip(ids, "abc", strict=True))


def test_results_stand_right_after_their_calls_and_their_pictures_follow() -> None:
    picture = Image(mime="image/png", data="AAAA")
    results = (Text(text="look"), ToolResult(call_id="a", content=(Text(text="seen"), picture)))
    messages = (
        Message(role="assistant", parts=(ToolCall(id="a", name="f"),)),
        Message(role="system", parts=(Text(text="hurry"),)),
        Message(role="user", parts=results),
    )
    body = render(replace(ASKED, messages=messages))
    assert [message["role"] for message in body["messages"]] == ["assistant", "tool", "system", "user"]
    assert body["messages"][1]["content"] == "seen"
    assert [part["type"] for part in body["messages"][3]["content"]] == ["image_url", "text"]


def test_legacy_functions_are_tools() -> None:
    history = [
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "42"},
    ]
    request = parse(messages=history, functions=[{"name": "f", "parameters": {}}], function_call={"name": "f"})
    called, result = (message.parts[0] for message in request.messages)
    assert isinstance(called, ToolCall) and isinstance(result, ToolResult) and result.call_id == called.id
    assert request.tools == (Tool(name="f", schema={}),) and request.tool_choice == ToolChoice(mode="required", names=("f",))


def test_allowed_tools_are_a_choice_or_the_only_ones_there_are() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in "abc"]

    def choose(mode: str) -> Request:
        return parse(tools=tools, tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools[:2]}})

    assert [tool.name for tool in choose("auto").tools if isinstance(tool, Tool)] == ["a", "b"]
    required = choose("required")
    assert render(replace(required, model="gpt-5"))["tool_choice"]["type"] == "allowed_tools"
    elsewhere = render(required)
    assert len(elsewhere["tools"]) == 2 and elsewhere["tool_choice"] == "required"


def test_custom_tools_stay_custom_for_openai_alone() -> None:
    request = parse(tools=[{"type": "custom", "custom": {"name": "sum", "description": "adds"}}])
    assert render(replace(request, model="gpt-5"))["tools"] == [{"type": "custom", "custom": {"name": "sum", "description": "adds"}}]
    assert render(request)["tools"][0]["function"]["parameters"]["properties"] == {"input": {"type": "string"}}
    history = (Message(role="assistant", parts=(ToolCall(id="a", name="sum", arguments="4", custom=True),)),)
    assert render(replace(request, messages=history))["messages"][0]["tool_calls"] == [call("a", "sum", '{"input":"4"}')]


def test_what_the_format_has_no_words_for_is_refused() -> None:
    def refuses(**changes: Any) -> None:
        with pytest.raises(Inexpressible):
            render(replace(ASKED, **changes))

    refuses(tools=(ServerTool(origin="anthropic", what="web_search", value={}),))
    refuses(messages=(Message(role="user", parts=(Opaque(origin="gemini", what="a thing", value={}),)),))
    refuses(messages=(Message(role="user", parts=(File(url="https://x/y.pdf", mime="application/pdf"),)),))
    refuses(messages=(Message(role="assistant", parts=(Image(url="https://x/y.png"),)),))


def test_records_of_other_providers_own_tools_and_thoughts_are_left_out_of_the_history() -> None:
    parts = (
        Thinking(text="hm", signature="s", origin="anthropic"),
        Opaque(origin="anthropic", what="a search", value={}),
        Text(text="yes"),
    )
    assert render(replace(ASKED, messages=(Message(role="assistant", parts=parts),)))["messages"] == [
        {"role": "assistant", "content": "yes"}
    ]


def test_own_thoughts_go_back_exactly() -> None:
    detail = {"type": "reasoning.text", "text": "hm", "signature": "sig", "format": "anthropic-claude-v1", "index": 0}
    sealed = {"type": "reasoning.encrypted", "data": "gAAA", "id": "rs_1"}
    message = {"role": "assistant", "content": "yes", "reasoning": "hm", "reasoning_details": [detail, sealed]}
    (back,) = render(parse(messages=[message]))["messages"]
    assert back == {"role": "assistant", "content": "yes", "reasoning_content": "hm", "reasoning_details": [detail, sealed]}


def test_signatures_of_other_origins_survive_a_clients_tool_loop() -> None:
    thought = Thinking(text="hm", signature="sig==", origin="anthropic")
    called = ToolCall(id="a", name="f", arguments="{}", signature="proof", origin="gemini")
    body = openai_chat.render_response(Response(id="1", model="m", choices=(Choice(parts=(thought, called)),)), ASKED)
    message = json.loads(body)["choices"][0]["message"]
    assert message["reasoning_signature"] == "anthropic#sig=="
    assert message["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "proof"}}
    assert parse(messages=[message]).messages[0].parts == (thought, called)


def test_several_thoughts_of_another_origin_survive_it_too() -> None:
    parts = (Thinking(text="a", signature="1", origin="anthropic"), Thinking(redacted="xyz", origin="anthropic"), Text(text="b"))
    body = openai_chat.render_response(Response(id="1", model="m", choices=(Choice(parts=parts),)), ASKED)
    assert parse(messages=[json.loads(body)["choices"][0]["message"]]).messages[0].parts == parts


def test_cache_marks_reach_only_those_who_read_them() -> None:
    request = parse(
        messages=[{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}]
    )
    assert request.messages[0].parts == (Text(text="x", cache="1h"),)
    rendered = openai_chat.render_request(request, Quirks())
    assert rendered.dropped == ["cache"] and rendered.body["messages"][0]["content"] == "x"
    routed = render(replace(request, model="anthropic/claude-x"))
    assert routed["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}


@pytest.mark.parametrize(
    ("part", "file"),
    [
        ({"type": "input_audio", "input_audio": {"data": "AA", "format": "mp3"}}, File(mime="audio/mpeg", data="AA", origin="openai_chat")),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"}},
            File(mime="application/pdf", data="AA", name="a.pdf", origin="openai_chat"),
        ),
        ({"type": "file", "file": {"file_id": "file-1"}}, File(file_id="file-1", origin="openai_chat")),
        (
            {"type": "video_url", "video_url": {"url": "https://x/y.mp4"}},
            File(mime="video/mp4", url="https://x/y.mp4", origin="openai_chat"),
        ),
    ],
)
def test_files_come_back_as_they_went(part: dict[str, Any], file: File) -> None:
    request = parse(messages=[{"role": "user", "content": [part]}])
    assert request.messages[0].parts == (file,)
    assert render(request)["messages"][0]["content"] == [part]


def test_json_is_asked_for_in_a_way_that_no_server_refuses() -> None:
    request = replace(ASKED, response_format=ResponseFormat())
    assert render(request)["response_format"]["type"] == "json_schema"
    told = replace(request, system=(Text(text="Answer in JSON."),))
    assert render(told)["response_format"] == {"type": "json_object"}
    named = render(replace(ASKED, response_format=ResponseFormat(schema={"type": "object"}, name="my form")))
    assert named["response_format"]["json_schema"] == {"name": "my_form", "schema": {"type": "object"}}


# Answers ------------------------------------------------------------------------------------------------------------------


def test_an_answer_is_read_in_full() -> None:
    message = {"role": "assistant", "content": "Yes.", "reasoning_content": "hm", "tool_calls": [call("a"), call("a")]}
    choice = answer(message)
    thought, text, first, second = choice.parts
    assert (thought, text, choice.finish) == (Thinking(text="hm", origin="openai_chat"), Text(text="Yes."), "tool_calls")
    assert isinstance(first, ToolCall) and isinstance(second, ToolCall) and first.id == "a" != second.id


def test_odd_answers_have_a_faithful_reading() -> None:
    assert answer(None, "content_filter") == Choice(finish="content_filter")
    assert answer({"content": None, "refusal": "no"}).parts == (Refusal(text="no"),)
    assert answer({"content": [{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": "4"}]}, "eos") == Choice(
        parts=(Thinking(text="hm", origin="openai_chat"), Text(text="4"))
    )


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b"", b'{"choices": []}', b"[" * 10_000])
def test_what_is_no_answer_is_a_bad_answer(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        openai_chat.parse_response(body)


def test_an_error_with_status_200_is_a_bad_answer_with_its_message() -> None:
    with pytest.raises(BadAnswer, match="filtered"):
        openai_chat.parse_response(b'{"error": {"message": "filtered", "code": "content_filter"}}')


@pytest.mark.parametrize(
    ("wire", "usage"),
    [
        (
            {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 21, "completion_tokens_details": {"reasoning_tokens": 7}},
            (9, 12, 7),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14, "completion_tokens_details": {"reasoning_tokens": 7}}, (9, 5, 5)),
        ({"prompt_tokens": 9, "completion_tokens": 5, "reasoning_tokens": 2}, (9, 5, 2)),
    ],
)
def test_reasoning_is_part_of_the_output_wherever_it_is_counted(wire: dict[str, Any], usage: tuple[int, int, int]) -> None:
    response = openai_chat.parse_response(json.dumps({"choices": [{"message": {}}], "usage": wire}).encode())
    assert response.usage == Usage(input=usage[0], output=usage[1], reasoning=usage[2])


def test_usage_keeps_its_buckets_both_ways() -> None:
    usage = Usage(input=5, cache_read=3, cache_write_5m=2, output=7, reasoning=4)
    body = openai_chat.render_response(Response(id="1", model="m", choices=(Choice(),), usage=usage), ASKED)
    assert json.loads(body)["usage"]["prompt_tokens"] == 10
    assert openai_chat.parse_response(body).usage == usage


def test_an_answer_fits_the_official_types() -> None:
    parts = (
        Thinking(text="hm", signature="s", origin="anthropic"),
        Text(text="see", citations=({"type": "url_citation", "url": "https://x"},)),
        ToolCall(id="a", name="f"),
        Image(mime="image/png", data="AA"),
        Opaque(origin="anthropic", what="a search", value={}),
    )
    body = openai_chat.render_response(Response(id="msg_1", model="m", choices=(Choice(parts=parts, finish="tool_calls"),)), ASKED)
    completion = ChatCompletion.model_validate_json(body)
    message = completion.choices[0].message
    assert message.annotations is not None and message.annotations[0].url_citation.end_index == 3
    assert message.tool_calls is not None and message.tool_calls[0].type == "function" and message.tool_calls[0].function.arguments == "{}"


def test_a_custom_tool_gets_its_text_back_from_a_provider_that_knows_only_functions() -> None:
    asked = replace(ASKED, tools=(Tool(name="sum", custom=True),))
    called = ToolCall(id="a", name="sum", arguments='{"input": "4 + 4"}')
    body = json.loads(openai_chat.render_response(Response(id="1", model="m", choices=(Choice(parts=(called,)),)), asked))
    expected = {"id": "a", "type": "custom", "custom": {"name": "sum", "input": "4 + 4"}}
    assert body["choices"][0]["message"]["tool_calls"] == [expected]
    started = PartStarted(choice=0, index=0, part=replace(called, arguments=""))
    deltas = [PartDelta(choice=0, index=0, text=text) for text in ('{"input": ', '"4 + 4"}')]
    chunks = encode([Started(id="1", model="m"), started, *deltas, PartEnded(choice=0, index=0)], asked)
    inputs = [call["custom"].get("input") for chunk in chunks[1:-1] for call in chunk["choices"][0]["delta"]["tool_calls"]]
    assert "".join(inputs) == "4 + 4"


def test_free_text_for_a_tool_that_is_not_custom_to_the_client_becomes_an_argument() -> None:
    called = ToolCall(id="a", name="sum", arguments='4 + "4"', custom=True)
    wire = json.loads(openai_chat.render_response(Response(id="1", model="m", choices=(Choice(parts=(called,)),)), ASKED))
    arguments = wire["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    started = PartStarted(choice=0, index=0, part=replace(called, arguments=""))
    deltas = [PartDelta(choice=0, index=0, text=text) for text in ("4 +", ' "4"')]
    chunks = encode([Started(id="1", model="m"), started, *deltas, PartEnded(choice=0, index=0)])
    streamed = [call["function"]["arguments"] for chunk in chunks[1:-1] for call in chunk["choices"][0]["delta"]["tool_calls"]]
    assert json.loads(arguments) == json.loads("".join(streamed)) == {"input": '4 + "4"'}


# Errors -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "message"),
    [
        (429, b'{"error": {"message": "slow", "code": "tokens"}}', "rate_limit", "tokens", "slow"),
        (401, b'{"message": "Wrong API Key", "code": "wrong_api_key"}', "auth", "wrong_api_key", "Wrong API Key"),
        (401, b'{"detail": "Invalid API Key"}', "auth", "invalid_api_key", "Invalid API Key"),
        (400, b'{"error": "text"}', "invalid_request", "invalid_request_error", "text"),
        (422, b'{"detail": [{"loc": ["body", "x"], "msg": "bad"}]}', "invalid_request", "invalid_request_error", "body.x: bad"),
        (
            404,
            b'{"error": {"message": "The model x does not exist", "code": 404}}',
            "unknown_model",
            "model_not_found",
            "The model x does not exist",
        ),
        (502, b"<html><body>Bad gateway</body></html>", "server_error", "server_error", "The provider answered with the status 502."),
        (503, b"upstream connect error", "server_error", "service_unavailable", "upstream connect error"),
        (400, b'[{"error": {"message": "in a list"}}]', "invalid_request", "invalid_request_error", "in a list"),
        (500, b"", "server_error", "server_error", "The provider answered with the status 500."),
    ],
)
def test_errors_of_any_shape(status: int, body: bytes, kind: str, code: str, message: str) -> None:
    assert openai_chat.parse_error(status, body) == Failure(kind=kind, code=code, message=message, status=status)


# Streams ------------------------------------------------------------------------------------------------------------------


def test_a_stream_becomes_events() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    stream = (
        b'data: {"id": "", "choices": [], "prompt_filter_results": []}\n\n'
        + chunk({"role": "assistant", "content": ""})
        + b": comment\n\n"
        + chunk({"reasoning": "hm"})
        + chunk({"content": "Hel"})
        + chunk({"content": "lo"}, "stop")
        + chunk({}, "stop", usage=usage)
        + b"data: [DONE]\n\n"
    )
    assert decode(stream) == [
        Started(id="c1", model="m1"),
        PartStarted(choice=0, index=0, part=Thinking(origin="openai_chat")),
        PartDelta(choice=0, index=0, text="hm"),
        PartEnded(choice=0, index=0),
        PartStarted(choice=0, index=1, part=Text()),
        PartDelta(choice=0, index=1, text="Hel"),
        PartDelta(choice=0, index=1, text="lo"),
        PartEnded(choice=0, index=1),
        Finished(choice=0, finish="stop"),
        UsageSeen(usage=Usage(input=3, output=2)),
    ]


@pytest.mark.parametrize(
    "fragments",
    [
        [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}, {"index": 0, "id": "", "function": {"arguments": '{"x":1}'}}],
        [{"id": "a", "function": {"name": "f", "arguments": '{"x":'}}, {"function": {"arguments": "1}"}}],
        [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":'}},
            {"index": 0, "function": {"name": "f", "arguments": "1}"}},
        ],
        [{"index": 0, "id": "a", "function": {"name": "f", "arguments": {"x": 1}}}],
    ],
)
def test_a_call_in_the_shapes_that_servers_give_it(fragments: list[dict[str, Any]]) -> None:
    events = decode(b"".join(chunk(fragment(**item)) for item in fragments) + chunk({}, "stop"))
    assert parts_of(events) == [(ToolCall(id="a", name="f", origin="openai_chat"), '{"x":1}')]
    assert events[-1] == Finished(choice=0, finish="tool_calls")


def test_interleaved_calls_are_told_apart_and_given_out_one_at_a_time() -> None:
    stream = (
        chunk(fragment(index=0, id="a", function={"name": "f", "arguments": '{"x":'}))
        + chunk(fragment(index=1, id="b", function={"name": "g", "arguments": '{"y":'}))
        + chunk(fragment(index=0, function={"arguments": "1}"}))
        + chunk(fragment(index=1, function={"arguments": "2}"}), "tool_calls")
    )
    assert [(part.name, text) for part, text in parts_of(decode(stream))] == [("f", '{"x":1}'), ("g", '{"y":2}')]


def test_a_new_id_or_name_begins_a_new_call_where_the_index_says_nothing() -> None:
    stream = chunk(fragment(index=0, id="a", function={"name": "f", "arguments": "{}"})) + chunk(
        fragment(index=0, id="b", function={"name": "f", "arguments": "{}"})
    )
    assert [part.id for part, _ in parts_of(decode(stream + b"data: [DONE]\n\n"))] == ["a", "b"]


def test_parallel_calls_stream_as_they_come() -> None:
    decoder = openai_chat.StreamDecoder()
    decoder.feed(chunk(fragment(index=0, id="a", function={"name": "f", "arguments": "{}"})))
    events = decoder.feed(chunk(fragment(index=1, id="b", function={"name": "g", "arguments": '{"y'})))
    assert [type(event) for event in events] == [PartEnded, PartStarted, PartDelta]


def test_legacy_function_calls_stream_too() -> None:
    stream = chunk({"function_call": {"name": "f", "arguments": ""}}) + chunk({"function_call": {"arguments": "{}"}}, "function_call")
    ((part, text),) = parts_of(decode(stream))
    assert part.name == "f" and text == "{}" and part.id.startswith("call_")


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b'event: error\ndata: {"error": {"message": "too long"}}\n\n', "too long"),
        (chunk({"content": "x"}) + b'data: {"error": {"message": "too long"}, "choices": []}\n\ndata: [DONE]\n\n', "too long"),
        (b'{"error": {"message": "too long"}}', "too long"),
        (b"event: error\ndata: too long\n\n", "too long"),
        (chunk({"content": "x"}), "broke off"),
        (b"", "broke off"),
        (b"data: [DONE]\n\n", "broke off"),
        (b"<html>\n\n</html>", "not the JSON"),
    ],
)
def test_a_stream_that_fails_says_why(stream: bytes, message: str) -> None:
    failed = decode(stream)[-1]
    assert isinstance(failed, Failed) and message in failed.failure.message


def test_a_missing_end_marker_or_finish_is_forgiven() -> None:
    assert decode(chunk({"content": "x"}, "eos"))[-1] == Finished(choice=0, finish="stop")
    assert decode(chunk({"content": "x"}) + b"data: [DONE]\n\n")[-1] == Finished(choice=0, finish="stop")


@pytest.mark.parametrize("half", [rb"\ud83d", rb"\ude00", b"\xff"])
def test_half_a_character_spoils_no_more_than_itself(half: bytes) -> None:
    stream = chunk({"content": "a HALF b \U0001f600"}, "stop").replace(b"HALF", half)
    assert parts_of(decode(stream)) == [(Text(), "a \ufffd b \U0001f600")]


def test_a_whole_answer_in_place_of_a_stream_is_read_all_the_same() -> None:
    body = json.dumps({"id": "c", "model": "m", "choices": [{"message": {"content": "hi", "tool_calls": [call("a")]}}]}, indent=2)
    events = decode(body.encode())
    assert parts_of(events) == [(Text(), "hi"), (ToolCall(id="a", name="weather", origin="openai_chat"), "{}")]
    assert events[-1] == Finished(choice=0, finish="tool_calls")


def test_signed_calls_and_thoughts_keep_their_proof_in_a_stream() -> None:
    detail = {"type": "reasoning.text", "signature": "sig", "format": "x"}
    stream = chunk({"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]})
    stream += chunk({"reasoning_details": [detail]})
    stream += chunk(
        fragment(index=0, id="a", function={"name": "f", "arguments": "{}"}, extra_content={"google": {"thought_signature": "proof"}}),
        "stop",
    )
    events = decode(stream)
    signed = [event.signature for event in events if isinstance(event, PartSigned)]
    assert [json.loads(signed[0]), signed[1]] == [detail, "proof"]
    deltas = [choice["delta"] for chunk in encode(events)[:-1] for choice in chunk["choices"]]
    assert [detail] == [
        {name: value for name, value in entry.items() if name != "text"} for d in deltas for entry in d.get("reasoning_details", ())
    ]
    assert {"google": {"thought_signature": "proof"}} in [c.get("extra_content") for d in deltas for c in d.get("tool_calls", ())]


EVENTS: list[Event] = [
    Started(id="msg_1", model="claude"),
    PartStarted(choice=0, index=0, part=Thinking(origin="anthropic")),
    PartDelta(choice=0, index=0, text="hm"),
    PartSigned(choice=0, index=0, signature="sig"),
    PartEnded(choice=0, index=0),
    PartStarted(choice=0, index=1, part=Text()),
    PartDelta(choice=0, index=1, text="Hi"),
    PartEnded(choice=0, index=1),
    PartStarted(choice=0, index=2, part=ToolCall(id="a", name="f")),
    PartEnded(choice=0, index=2),
    PartStarted(choice=0, index=3, part=ToolCall(id="b", name="g")),
    PartDelta(choice=0, index=3, text='{"x":1}'),
    PartEnded(choice=0, index=3),
    UsageSeen(usage=Usage(input=3, output=4)),
    Finished(choice=0, finish="tool_calls"),
    Finished(choice=0, finish="stop"),
]


def test_a_stream_for_the_client_has_the_exact_grammar() -> None:
    *chunks, usage, done = encode(EVENTS)
    assert done == "[DONE]" and usage["choices"] == [] and usage["usage"]["total_tokens"] == 7
    assert {(chunk["id"], chunk["model"], chunk["created"]) for chunk in [*chunks, usage]} == {
        ("chatcmpl-msg_1", "claude", usage["created"])
    }
    for chunk in [*chunks, usage]:
        ChatCompletionChunk.model_validate(chunk)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas == [
        {"role": "assistant", "content": "", "refusal": None},
        {"reasoning_content": "hm"},
        {"reasoning_signature": "anthropic#sig"},
        {"content": "Hi"},
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
        {"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": '{"x":1}'}}]},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 8 + ["tool_calls"]


def test_usage_is_not_sent_to_a_client_that_did_not_ask() -> None:
    chunks = encode(EVENTS, replace(ASKED, wants_usage=False))
    assert not any("usage" in chunk for chunk in chunks[:-1])


def test_after_a_failure_there_is_no_end_marker() -> None:
    chunks = encode([EVENTS[0], Failed(failure=Failure(kind="network", code="x", message="broke off"))])
    assert chunks[-1]["error"]["message"] == "broke off"


MIXED = (
    chunk({"role": "assistant", "content": ""})
    + chunk({"reasoning_content": "Gr\u00fc\u00dfe"})
    + b": ping\r\n\r\n"
    + chunk({"content": "\U0001f600 ok"})
    + chunk(fragment(index=0, id="a", function={"name": "f", "arguments": '{"x'}))
    + chunk(fragment(index=0, function={"arguments": '":1}'}), "tool_calls")
    + b"data: not json\n\n"
    + chunk({}, usage={"prompt_tokens": 1, "completion_tokens": 2})
    + b"data: [DONE]\n\n"
)


@given(st.lists(st.integers(0, 10_000), max_size=40), st.booleans())
def test_a_stream_cut_anywhere_gives_the_same_events(cuts: list[int], crlf: bool) -> None:
    stream = MIXED.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") if crlf else MIXED
    assert decode(stream, cuts) == decode(MIXED)


# Anything at all ----------------------------------------------------------------------------------------------------------

NESTED = ("type", "text", "function", "id", "index", "delta", "message", "choices", "error", "arguments", "image_url", "url", "file")
names = st.sampled_from(
    [*WireRequest.__struct_fields__, *WireMessage.__struct_fields__, *NESTED, "parameters", "custom", "schema", "usage"]
)
words = st.sampled_from(
    ["text", "function", "tool", "assistant", "user", "system", "image_url", "custom", "", "a", "{", "data:a/b;base64,AA"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words
anything = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6), max_leaves=30)
message = st.fixed_dictionaries({"role": words}, optional=dict.fromkeys(("content", "tool_calls", "reasoning_details", "name"), anything))


@given(st.lists(message, min_size=1, max_size=4), st.dictionaries(names, anything))
def test_any_json_is_a_request_or_a_bad_request(messages: list[Any], fields: dict[str, Any]) -> None:
    body = json.dumps({**fields, "model": "m", "messages": messages}).encode()
    try:
        request = read_safely(openai_chat.parse_request, body)
        json.dumps(openai_chat.render_request(request, Quirks()).body)
    except BadRequest as refusal:
        assert str(refusal)


@given(anything)
def test_any_json_is_an_answer_or_a_bad_answer(value: Any) -> None:
    body = json.dumps({"choices": [value, {"message": value}]}).encode()
    for text in (json.dumps(value).encode(), body):
        assert openai_chat.parse_error(500, text).message
        try:
            response = openai_chat.parse_response(text)
        except BadAnswer as refusal:
            assert str(refusal)
        else:
            json.loads(openai_chat.render_response(response, ASKED))


@given(st.lists(anything, max_size=6), st.binary(max_size=60))
def test_any_stream_keeps_the_grammar_and_ends(values: list[Any], junk: bytes) -> None:
    stream = b"".join(b"data: " + json.dumps({"choices": [{"delta": value}]}).encode() + b"\n\n" for value in values) + junk
    for ending in (b"", b"\n\ndata: [DONE]\n\n"):
        events = decode(stream + ending)
        parts_of(events)
        assert isinstance(events[-1], Failed | Finished)
        encode(events)
