"""OpenAI Responses: what a client says and what a provider answers, through the neutral types and back."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response as SdkResponse
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from proxy.formats import openai_responses as responses
from proxy.formats.codec import Quirks
from proxy.formats.completions import CompletionsCall
from proxy.formats.neutral import (
    BadAnswer,
    BadRequest,
    Choice,
    Event,
    Failed,
    Failure,
    File,
    Finished,
    FinishReason,
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

SDK_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
SDK_RESPONSE: TypeAdapter[Any] = TypeAdapter(SdkResponse)
USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 120,
}
NEUTRAL_USAGE = Usage(input=50, cache_read=40, cache_write_5m=10, output=20, reasoning=5)
REASONING = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": "gAAA"}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Grüße 🎉", "annotations": [], "logprobs": []}],
}
CALL = {"id": "fc_1", "type": "function_call", "status": "completed", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'}
SEARCH = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "x"}}
OUTPUT: list[dict[str, Any]] = [SEARCH, REASONING, MESSAGE, CALL]
APPLY_PATCH = Tool(name="apply_patch", custom=True)


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, ensure_ascii=False)}\n\n".encode()


def answer(status: str = "completed", **fields: Any) -> dict[str, Any]:
    return {"id": "resp_1", "model": "gpt-x", "status": status, "output": OUTPUT, "usage": USAGE, **fields}


CREATED = event("response.created", response={"id": "resp_1", "model": "gpt-x", "output": [], "usage": None})
COMPLETED = event("response.completed", response=answer())
DONE = [event("response.output_item.done", output_index=at, item=item) for at, item in enumerate(OUTPUT)]
STREAM = b"".join(
    [
        CREATED,
        event("keepalive", sequence_number=1),
        b": a comment\n\ndata: junk\n\n",
        DONE[0],
        event("response.output_item.added", output_index=1, item={**REASONING, "summary": [], "encrypted_content": "early"}),
        event("response.reasoning_summary_text.delta", item_id="rs_1", output_index=1, summary_index=0, delta="Hm"),
        event("response.reasoning_summary_text.delta", item_id="rs_1", output_index=1, summary_index=0, delta="."),
        DONE[1],
        event("response.output_item.added", output_index=2, item={**MESSAGE, "content": []}),
        event("response.output_text.delta", item_id="msg_1", output_index=2, content_index=0, delta="Grüße ", logprobs=[]),
        event("response.output_text.delta", item_id="msg_1", output_index=2, content_index=0, delta="🎉", logprobs=[]),
        DONE[2],
        event("response.output_item.added", output_index=3, item={**CALL, "arguments": ""}),
        event("response.function_call_arguments.delta", item_id="fc_1", output_index=3, delta='{"a":'),
        event("response.function_call_arguments.delta", item_id="fc_1", output_index=3, delta="1}"),
        DONE[3],
        COMPLETED,
    ]
)


def decode(stream: bytes, cuts: list[int] | None = None) -> list[Event]:
    decoder, events, start = responses.StreamDecoder(), [], 0
    for cut in [*sorted(cut % len(stream) for cut in cuts or []), len(stream)]:
        events += decoder.feed(stream[start:cut])
        start = cut
    return events + decoder.finish()


def parts_of(events: list[Event]) -> list[tuple[str, str, str | None]]:
    """What the parts come to, whatever pieces they came in."""
    parts: list[tuple[str, str, str | None]] = []
    for seen in events:
        match seen:
            case PartStarted():
                parts.append((type(seen.part).__name__, "", None))
            case PartDelta():
                parts[-1] = (parts[-1][0], parts[-1][1] + seen.text, parts[-1][2])
            case PartSigned():
                parts[-1] = (*parts[-1][:2], seen.signature)
            case _:
                pass
    return parts


def request(**fields: Any) -> Request:
    return responses.parse_request(json.dumps({"model": "gpt-x", "input": "Hi", **fields}).encode())


def render(neutral: Request, quirks: Quirks | None = None) -> dict[str, Any]:
    return responses.render_request(neutral, quirks or Quirks()).body


def encode(events: list[Event], asked: Request | None = None) -> list[dict[str, Any]]:
    """The events that a client gets, each checked against the SDK's types, with numbers that count up."""
    encoder = responses.StreamEncoder(asked or request())
    stream = b"".join(map(encoder.encode, events)) + encoder.finish()
    sent = []
    for number, block in enumerate(stream.decode().split("\n\n")[:-1]):
        name, data = block.split("\n")
        fields = json.loads(data.removeprefix("data: "))
        assert name == f"event: {fields['type']}" and fields["sequence_number"] == number
        SDK_EVENT.validate_python(fields)
        sent.append(fields)
    return sent


def kinds(sent: list[dict[str, Any]]) -> list[str]:
    return [fields["type"].removeprefix("response.") for fields in sent]


def part_events(part: Any, *deltas: str) -> list[Event]:
    texts: list[Event] = [PartDelta(choice=0, index=0, text=text) for text in deltas]
    return [PartStarted(choice=0, index=0, part=part), *texts, PartEnded(choice=0, index=0)]


# Requests -----------------------------------------------------------------------------------------------------------------


def test_a_conversation_is_read_and_said_again() -> None:
    history = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "Hi"}, {"type": "input_image", "image_url": "data:image/png;base64,AA=="}],
        },
        {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "42"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Yes"}, {"type": "refusal", "refusal": "No"}]},
    ]
    parsed = request(input=history, instructions="You help.")
    assert parsed.system == (Text(text="You help."), Text(text="Be brief."))
    assert parsed.messages == (
        Message(role="user", parts=(Text(text="Hi"), Image(mime="image/png", data="AA=="))),
        Message(
            role="assistant",
            parts=(Thinking(signature="gAAA", origin="openai_responses"), ToolCall(id="c1", name="f", arguments="{}")),
        ),
        Message(role="user", parts=(ToolResult(call_id="c1", name="f", content=(Text(text="42"),)),)),
        Message(role="assistant", parts=(Text(text="Yes"), Refusal(text="No"))),
    )
    again = responses.parse_request(json.dumps(render(parsed)).encode())
    assert again.messages[1:] == parsed.messages[1:]
    assert render(parsed)["instructions"] == "You help.\n\nBe brief."


def test_results_find_their_calls_where_ids_are_repeated_or_missing() -> None:
    call, result = {"type": "function_call", "name": "f", "arguments": ""}, {"type": "function_call_output", "output": "x"}
    parsed = request(input=[call | {"call_id": "a"}, call | {"call_id": "a"}, call, *[result | {"call_id": "a"}] * 2, result])
    calls, results = parsed.messages
    assert [part.id for part in calls.parts if isinstance(part, ToolCall)] == ["a", "a_1", "call_1"]
    assert [part.call_id for part in results.parts if isinstance(part, ToolResult)] == ["a", "a_1", "call_1"]


def test_an_id_that_openai_would_refuse_is_made_fit_alike_for_call_and_result() -> None:
    parts = (ToolCall(id="a:" * 50, name="f"), ToolResult(call_id="a:" * 50, content=(Text(text="x"),)))
    messages = (Message(role="assistant", parts=parts[:1]), Message(role="user", parts=parts[1:]))
    call, result = render(Request(model="m", messages=messages))["input"]
    assert call["call_id"] == result["call_id"] and len(call["call_id"]) <= 64
    assert call["arguments"] == "{}"


def test_thoughts_of_another_provider_travel_with_the_client_and_not_to_openai() -> None:
    history = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": "anthropic#sig=="},
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


def test_signatures_come_back_from_the_client_as_they_went_out() -> None:
    parts = (
        Thinking(text="Hm.", signature="sig==", origin="anthropic"),
        Thinking(redacted="blob", origin="anthropic"),
        Thinking(text="Own.", signature="anthropic#nested", origin="openai_responses"),
        ToolCall(id="c", name="f", arguments="{}", signature="thought", origin="gemini"),
    )
    whole = Response(id="x", model="m", choices=(Choice(parts=parts, finish="tool_calls"),))
    output = json.loads(responses.render_response(whole, request()))["output"]
    assert request(input=output).messages[0].parts == parts
    streamed: list[Event] = [Started(id="x", model="m")]
    for part in parts:
        streamed += part_events(part)
    sent = encode([*streamed, Finished(choice=0, finish="tool_calls")])
    assert request(input=sent[-1]["response"]["output"]).messages[0].parts == parts


def test_settings_without_a_neutral_name_are_kept_under_the_clients_own() -> None:
    parsed = request(
        store=False,
        truncation="auto",
        text={"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
        reasoning={"effort": "low", "summary": "auto"},
        include=["reasoning.encrypted_content", "message.output_text.logprobs"],
        top_logprobs=3,
        metadata={"a": "b"},
    )
    assert parsed.extras == {"truncation": "auto", "text.verbosity": "low", "metadata": {"a": "b"}}
    assert parsed.reasoning == Reasoning(effort="low", visible=True) and parsed.logprobs == 3
    rendered = responses.render_request(parsed, Quirks(unsupported=frozenset({"reasoning"})))
    assert sorted(rendered.dropped) == ["metadata", "reasoning", "text.verbosity"]
    assert rendered.body["text"]["format"]["strict"] is True and rendered.body["store"] is False


def test_what_the_provider_would_have_to_remember_is_named() -> None:
    items = [{"type": "item_reference", "id": "msg_1"}, {"type": "compaction", "encrypted_content": "x"}]
    parsed = request(input=items, previous_response_id="resp_1", background=True)
    assert responses.stateful_fields(parsed) == ["previous_response_id", "background", "item_reference", "compaction"]
    assert render(parsed)["previous_response_id"] == "resp_1"
    assert responses.stateful_fields(request(background=False, store=True)) == []


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        ("none", ToolChoice(mode="none")),
        ({"type": "function", "name": "f"}, ToolChoice(mode="required", names=("f",))),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "g"}]},
            ToolChoice(mode="required", names=("f", "g")),
        ),
    ],
)
def test_tool_choices_are_read_and_said_again(given: Any, choice: ToolChoice) -> None:
    tools = [{"type": "function", "name": "f", "parameters": {}}, {"type": "custom", "name": "g"}]
    parsed = request(tools=tools, tool_choice=given)
    assert parsed.tool_choice == choice and render(parsed)["tool_choice"] == given


def test_tools_that_are_not_allowed_are_not_given() -> None:
    tools = [{"type": "function", "name": name, "parameters": {}} for name in "fg"]
    parsed = request(tools=tools, tool_choice={"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]})
    assert [tool.name for tool in parsed.tools if isinstance(tool, Tool)] == ["g"] and parsed.tool_choice == ToolChoice()


def test_a_custom_tools_grammar_is_told_in_words() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: X"}
    (tool,) = request(tools=[{"type": "custom", "name": "apply_patch", "description": "Patch.", "format": grammar}]).tools
    assert tool == Tool(name="apply_patch", description="Patch.\n\nThe input must follow this lark grammar:\nstart: X", custom=True)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": (ServerTool(origin="anthropic", what="web_search", value={}),)}, "tools"),
        ({"messages": (Message(role="user", parts=(File(mime="audio/wav", data="AA=="),)),)}, "messages"),
        ({"messages": (Message(role="user", parts=(File(file_id="f", origin="anthropic"),)),)}, "messages"),
        ({"messages": (Message(role="user", parts=(Opaque(origin="gemini", what="video", value={}),)),)}, "messages"),
        ({"choices": 2}, "n"),
    ],
)
def test_what_has_no_words_here_is_refused_by_its_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Inexpressible) as refusal:
        render(Request(**{"model": "m", "messages": (), **fields}))
    assert refusal.value.param == param


def test_settings_that_openai_lacks_are_dropped_by_name() -> None:
    asked = Request(model="m", messages=(), top_k=1, stop=("x",), seed=2, temperature=0.5, extras={"safetySettings": []})
    rendered = responses.render_request(asked, Quirks())
    assert sorted(rendered.dropped) == ["safetySettings", "seed", "stop", "top_k"] and rendered.body["temperature"] == 0.5


def test_json_mode_says_the_word_that_openai_wants_to_see() -> None:
    assert render(request(text={"format": {"type": "json_object"}}))["input"][-1]["content"] == "Answer in JSON."
    assert len(render(request(input="As json, please", text={"format": {"type": "json_object"}}))["input"]) == 1


# Answers ------------------------------------------------------------------------------------------------------------------


def test_a_whole_answer_is_read() -> None:
    parsed = responses.parse_response(json.dumps(answer()).encode())
    assert parsed.usage == NEUTRAL_USAGE
    assert parsed.choices[0].finish == "tool_calls"
    assert parsed.choices[0].parts == (
        Opaque(origin="openai_responses", what="web_search_call", value=SEARCH),
        Thinking(text="Hm.", signature="gAAA", origin="openai_responses"),
        Text(text="Grüße 🎉"),
        ToolCall(id="call_1", name="f", arguments='{"a":1}'),
    )


def test_a_whole_answer_fits_the_sdks_type_and_repeats_the_request() -> None:
    asked = request(
        instructions="Be brief.",
        temperature=0.5,
        metadata={"a": "b"},
        tools=[{"type": "function", "name": "f", "parameters": {"type": "object"}}, {"type": "custom", "name": "g"}],
        tool_choice={"type": "function", "name": "f"},
    )
    parts = (Text(text="x"), Refusal(text="no"), Image(mime="image/png", data="AA=="), ToolCall(id="c", name="f"))
    entry = {"token": "x", "logprob": -0.1, "bytes": None, "top_logprobs": [{"token": "x", "logprob": -0.1, "bytes": None}]}
    whole = Response(id="x", model="m-1", choices=(Choice(parts=parts, finish="length", logprobs=(entry,)),), usage=NEUTRAL_USAGE)
    body = json.loads(responses.render_response(whole, asked))
    SDK_RESPONSE.validate_python(body)
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert (body["model"], body["temperature"], body["instructions"], body["metadata"]) == ("m-1", 0.5, "Be brief.", {"a": "b"})
    assert body["usage"] == USAGE
    assert [item["type"] for item in body["output"]] == ["message", "image_generation_call", "function_call"]
    assert body["output"][-1]["arguments"] == "{}"


def test_what_another_providers_tools_did_is_no_call_for_the_client() -> None:
    parts = (Opaque(origin="anthropic", what="server_tool_use", value={"name": "f"}), Text(text="x"))
    whole = Response(id="x", model="m", choices=(Choice(parts=parts),))
    assert [item["type"] for item in json.loads(responses.render_response(whole, request()))["output"]] == ["message"]


@pytest.mark.parametrize(
    ("status", "details", "finish"),
    [
        ("completed", None, "tool_calls"),
        ("incomplete", {"reason": "max_output_tokens"}, "length"),
        ("incomplete", {"reason": "content_filter"}, "content_filter"),
        ("incomplete", None, "other"),
        ("cancelled", None, "other"),
    ],
)
def test_how_an_answer_ended(status: str, details: Any, finish: FinishReason) -> None:
    body = answer(status, incomplete_details=details)
    assert responses.parse_response(json.dumps(body).encode()).choices[0].finish == finish
    assert Finished(choice=0, finish=finish) in decode(CREATED + event(f"response.{status}", response=body))


@pytest.mark.parametrize("usage", [None, "many", {"input_tokens": -1}, {"input_tokens": 2**40}, {"input_tokens": 1, "output_tokens": 1e30}])
def test_absurd_usage_is_no_usage(usage: Any) -> None:
    assert responses.parse_response(json.dumps(answer(usage=usage)).encode()).usage is None


def test_reasoning_that_was_not_counted_as_output_is() -> None:
    usage = {"input_tokens": 1, "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 10}}
    assert responses.parse_response(json.dumps(answer(usage=usage)).encode()).usage == Usage(input=1, output=13, reasoning=10)


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"output": null}', b'{"error": {"message": "no"}}', b'{"status": "failed"}'])
def test_an_answer_that_is_none(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        responses.parse_response(body)


# Errors -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (401, b'{"error": {"message": "Bad key", "type": "invalid_request_error", "code": "invalid_api_key"}}', "auth", "Bad key"),
        (400, b'{"error": {"message": "No model", "code": "model_not_found"}}', "unknown_model", "No model"),
        (400, b'{"code": "invalid-argument", "error": "Flat"}', "invalid_request", "Flat"),
        (429, b'[{"error": {"message": "Listed", "code": 429}}]', "rate_limit", "Listed"),
        (502, b"<html><head><title>502 Bad Gateway</title></head></html>", "server_error", "502 Bad Gateway"),
        (504, b"upstream timed out", "timeout", "upstream timed out"),
        (503, b"", "server_error", "The provider answered with status 503."),
        (422, b'{"detail": [{"msg": "short"}]}', "invalid_request", '{"detail":[{"msg":"short"}]}'),
    ],
)
def test_errors_of_all_shapes(status: int, body: bytes, kind: str, message: str) -> None:
    failure = responses.parse_error(status, body)
    assert (failure.status, failure.kind, failure.message) == (status, kind, message) and failure.code


def test_an_error_in_the_dialect() -> None:
    failure = Failure(kind="rate_limit", code="insufficient_quota", message="Spent.", status=429)
    expected = {"message": "Spent.", "type": "rate_limit", "param": None, "code": "insufficient_quota", "request_id": "req_1"}
    assert json.loads(responses.render_error(failure, "req_1")) == {"error": expected}
    name, data, *_ = responses.error_event(failure, "req_1").decode().split("\n")
    fields = json.loads(data.removeprefix("data: "))
    SDK_EVENT.validate_python(fields)
    assert name == "event: error" and fields["error"] == expected and fields["message"] == "Spent."


# Streams from the provider ------------------------------------------------------------------------------------------------


def test_a_stream_is_read_as_its_whole_answer_is() -> None:
    events = decode(STREAM)
    assert events[0] == Started(id="resp_1", model="gpt-x")
    assert parts_of(events) == [
        ("Opaque", "", None),
        ("Thinking", "Hm.", "gAAA"),
        ("Text", "Grüße 🎉", None),
        ("ToolCall", '{"a":1}', None),
    ]
    assert events[-2:] == [UsageSeen(usage=NEUTRAL_USAGE), Finished(choice=0, finish="tool_calls")]


@given(st.lists(st.integers(0, 10_000), max_size=40), st.booleans())
def test_a_stream_cut_anywhere_gives_the_same_events(cuts: list[int], crlf: bool) -> None:
    assert decode(STREAM.replace(b"\n", b"\r\n") if crlf else STREAM, cuts) == decode(STREAM)


@pytest.mark.parametrize(
    "stream", [CREATED + b"".join(DONE) + COMPLETED, CREATED + COMPLETED, COMPLETED, COMPLETED.strip(), STREAM + STREAM]
)
def test_what_came_in_no_delta_is_made_up_from_the_whole_and_nothing_comes_twice(stream: bytes) -> None:
    events = decode(stream)
    assert parts_of(events) == parts_of(decode(STREAM))
    assert sum(isinstance(seen, Started) for seen in events) == sum(isinstance(seen, Finished) for seen in events) == 1


def test_calls_that_come_interleaved_are_told_one_after_the_other() -> None:
    def added(at: int) -> bytes:
        return event("response.output_item.added", output_index=at, item={"type": "function_call", "call_id": f"c{at}", "name": f"f{at}"})

    def delta(at: int, text: str) -> bytes:
        return event("response.function_call_arguments.delta", output_index=at, delta=text)

    done = [
        event("response.output_item.done", output_index=at, item={"type": "function_call", "call_id": f"c{at}", "name": f"f{at}"})
        for at in (1, 0)
    ]
    events = decode(CREATED + added(0) + added(1) + delta(0, "{") + delta(1, "[") + delta(0, "}") + delta(1, "]") + b"".join(done))
    assert parts_of(events) == [("ToolCall", "{}", None), ("ToolCall", "[]", None)]


def test_raw_thoughts_of_open_models_are_thoughts() -> None:
    item = {"id": "r", "type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "We need 4."}]}
    deltas = [
        event("response.reasoning_text.delta", item_id="r", output_index=0, content_index=0, delta=text) for text in ("We ", "need 4.")
    ]
    done = event("response.output_item.done", output_index=0, item=item)
    assert parts_of(decode(CREATED + b"".join(deltas) + done)) == [("Thinking", "We need 4.", None)]


@pytest.mark.parametrize(
    ("stream", "kind", "message"),
    [
        (STREAM[: len(STREAM) // 2], "network", "The provider's answer broke off."),
        (b"", "network", "The provider's answer broke off."),
        (b'{"error": {"message": "Overloaded", "code": "server_error"}}', "server_error", "Overloaded"),
        (CREATED + event("error", error={"code": "insufficient_quota", "message": "Spent"}), "rate_limit", "Spent"),
        (CREATED + event("error", code="server_error", message="Flat"), "server_error", "Flat"),
        (
            CREATED + event("response.failed", response={"status": "failed", "error": {"code": "server_error", "message": "Oh"}}),
            "server_error",
            "Oh",
        ),
    ],
)
def test_a_stream_that_fails(stream: bytes, kind: str, message: str) -> None:
    events = decode(stream + event("error", message="once more") if b"failed" in stream else stream)
    assert [(seen.failure.kind, seen.failure.message) for seen in events if isinstance(seen, Failed)] == [(kind, message)]


@given(
    st.lists(
        st.sampled_from([CREATED, *DONE, *STREAM.split(b"\n\n"), b"data: {\n\n", b"data: [DONE]\n\n", b'data: {"type": 1}\n\n']),
        max_size=12,
    )
)
def test_events_in_any_order_keep_the_neutral_grammar(blocks: list[bytes]) -> None:
    is_open, count, started = False, 0, False
    for seen in decode(b"\n\n".join(blocks) or b"\n"):
        match seen:
            case Started():
                assert not started
                started = True
            case PartStarted():
                assert started and not is_open and seen.index == count
                is_open, count = True, count + 1
            case PartDelta() | PartSigned():
                assert is_open and seen.index == count - 1
            case PartEnded():
                assert is_open
                is_open = False
            case Finished() | Failed():
                assert not is_open
            case UsageSeen():
                pass


@given(st.binary(max_size=300))
def test_any_bytes_are_a_stream_that_failed(junk: bytes) -> None:
    assert any(isinstance(seen, Failed) for seen in decode(junk + b"\n\n"))


# Streams to the client ----------------------------------------------------------------------------------------------------


def test_a_stream_has_every_event_that_clients_wait_for() -> None:
    sent = encode(decode(STREAM))
    assert kinds(sent) == [
        *("created", "in_progress"),
        *("output_item.added", "output_item.done"),
        *("output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta", "reasoning_summary_text.delta"),
        *("reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.delta"),
        *("function_call_arguments.done", "output_item.done", "completed"),
    ]
    final = sent[-1]["response"]
    assert final["usage"] == USAGE and [item["type"] for item in final["output"]] == [item["type"] for item in OUTPUT]
    assert {fields["response"]["id"] for fields in sent if "response" in fields} == {final["id"]}
    items = [fields["item"] for fields in sent if fields["type"] == "response.output_item.done"]
    assert items == final["output"]
    assert all(fields["item_id"] == items[fields["output_index"]]["id"] for fields in sent if "item_id" in fields)


def test_texts_that_follow_on_one_another_are_one_message() -> None:
    sent = encode(
        [
            Started(id="x", model="m"),
            *part_events(Text(), "a"),
            *part_events(Text()),
            *part_events(Refusal(), "b"),
            Finished(choice=0, finish="length"),
        ]
    )
    (message,) = sent[-1]["response"]["output"]
    assert [part["type"] for part in message["content"]] == ["output_text", "refusal"]
    assert sent[-1]["type"] == "response.incomplete" and message["status"] == "incomplete"
    assert "refusal.done" in kinds(sent)


@pytest.mark.parametrize(
    ("call", "deltas"),
    [
        (ToolCall(id="c", name="apply_patch"), ('{"inp', 'ut": "*** Begin\\nüber"}')),
        (ToolCall(id="c", name="apply_patch", custom=True), ("*** Begin\n", "über")),
    ],
)
def test_a_custom_tool_gets_its_text_without_the_json_around_it(call: ToolCall, deltas: tuple[str, ...]) -> None:
    asked = Request(model="m", messages=(), tools=(APPLY_PATCH,))
    sent = encode([Started(id="x", model="m"), *part_events(call, *deltas), Finished(choice=0, finish="tool_calls")], asked)
    (item,) = sent[-1]["response"]["output"]
    assert (item["type"], item["call_id"], item["input"]) == ("custom_tool_call", "c", "*** Begin\nüber")
    assert "".join(fields["delta"] for fields in sent if fields["type"] == "response.custom_tool_call_input.delta") == item["input"]
    whole = Response(
        id="x", model="m", choices=(Choice(parts=(ToolCall(id="c", name="apply_patch", custom=call.custom, arguments="".join(deltas)),)),)
    )
    assert json.loads(responses.render_response(whole, asked))["output"][0]["input"] == item["input"]


def test_a_call_without_arguments_is_an_empty_object() -> None:
    sent = encode([Started(id="x", model="m"), *part_events(ToolCall(id="c", name="f")), Finished(choice=0, finish="tool_calls")])
    assert [fields["delta"] for fields in sent if fields["type"].endswith("arguments.delta")] == ["{}"]


@pytest.mark.parametrize("end", [[Failed(failure=Failure(kind="rate_limit", code="x", message="Slow down", status=429))], []])
def test_a_failure_in_the_stream_is_told_as_openai_does(end: list[Event]) -> None:
    sent = encode([Started(id="x", model="m"), PartStarted(choice=0, index=0, part=Text()), PartDelta(choice=0, index=0, text="a"), *end])
    assert kinds(sent)[-2:] == ["error", "failed"] and sent[-1]["response"]["status"] == "failed"


# Relaying -----------------------------------------------------------------------------------------------------------------


def test_a_request_goes_on_byte_for_byte_but_for_model_and_limit() -> None:
    body = b'{ "model":"a", "input" : "Hi", "new_field": [1.0] , "max_output_tokens": 9}'
    call = responses.ResponsesCall(body)
    assert (call.call.output_limit, call.call.input_bound, call.path("x")) == (9, 2 + 4 + 3 + len(b"new_field[1.0]"), "/responses")
    assert call.upstream_body("a", None, "max_tokens") == body
    assert call.upstream_body("b", 5, "max_tokens") == b'{"model":"b","input":"Hi","new_field":[1.0],"max_output_tokens":5}'.replace(
        b'"Hi"', b'"Hi"'
    )


def test_a_conversation_that_the_provider_keeps_may_be_long() -> None:
    assert responses.ResponsesCall(b'{"model": "a", "input": "x", "previous_response_id": "r"}').call.input_bound > 1_000_000


@given(st.lists(st.integers(0, 10_000), max_size=40), st.booleans())
def test_the_meter_reads_usage_and_text_and_passes_every_byte(cuts: list[int], crlf: bool) -> None:
    stream = STREAM.replace(b"\n", b"\r\n") if crlf else STREAM
    meter, start, passed = responses.ResponsesCall(b'{"model": "a", "input": "x"}').meter(), 0, b""
    for cut in [*sorted(cut % len(stream) for cut in cuts), len(stream)]:
        passed += meter.feed(stream[start:cut])
        start = cut
    assert passed + meter.finish() == stream
    assert (meter.usage, meter.output_seen) == (NEUTRAL_USAGE, 6)


def test_without_usage_the_output_is_counted() -> None:
    call = responses.ResponsesCall(b'{"model": "a", "input": "x"}')
    assert call.measure(json.dumps(answer(usage=None)).encode()) == (None, 3)
    assert call.measure(json.dumps(answer()).encode()) == (NEUTRAL_USAGE, 0)
    assert call.measure(b"<html>") == (None, 1)


def test_text_completions_are_relayed_and_metered() -> None:
    call = CompletionsCall(b'{"model": "a", "prompt": ["ab", "c"], "n": 2, "best_of": 3, "max_tokens": 10, "stream": true}')
    assert (call.call.output_limit, call.call.choices, call.call.input_bound) == (60, 4, 3 + 2 * 4 + 3)
    assert json.loads(call.upstream_body("a", None, "x"))["stream_options"] == {"include_usage": True}
    text, usage = b'data: {"choices":[{"text":"hello"}]}\n\n', b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
    meter = call.meter()
    assert meter.feed(text + usage) == text
    assert (meter.usage, meter.output_seen) == (Usage(input=3, output=1), 1)


# Anything at all ----------------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
items = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(
            [item["type"] for item in OUTPUT] + ["function_call_output", "custom_tool_call", "input_image", "output_text"]
        )
        | json_values,
        **dict.fromkeys(
            ("role", "content", "call_id", "name", "arguments", "output", "summary", "encrypted_content", "text", "id"), json_values
        ),
    },
)
fields = {"input": json_values | st.lists(items), "tools": st.lists(items) | json_values} | dict.fromkeys(
    ("model", "instructions", "tool_choice", "text", "reasoning", "include", "top_logprobs", "max_output_tokens", "metadata"), json_values
)


@given(st.fixed_dictionaries({}, optional=fields))
def test_any_request_is_read_or_refused(value: dict[str, Any]) -> None:
    body = json.dumps(value).encode()
    for parse in (responses.ResponsesCall, CompletionsCall):
        try:
            parse(body)
        except BadRequest as refusal:
            assert str(refusal)
    try:
        parsed = responses.parse_request(body)
        json.dumps(render(parsed))
    except BadRequest as refusal:
        assert str(refusal)


@given(st.lists(items | json_values), json_values)
def test_any_answer_is_read_and_a_stream_says_the_same(output: list[Any], usage: Any) -> None:
    body = json.dumps(answer(output=output, usage=usage, error=None)).encode()
    try:
        whole = responses.parse_response(body)
    except BadAnswer:
        return
    responses.render_response(whole, request())
    events = decode(event("response.completed", response=json.loads(body)))
    encoder = responses.StreamEncoder(request())
    assert b"".join(map(encoder.encode, events)) + encoder.finish()
    assert [type(part).__name__ for part in whole.choices[0].parts] == [kind for kind, *_ in parts_of(events)]


@given(st.binary(max_size=200), st.integers(400, 599))
def test_any_error_is_a_failure(body: bytes, status: int) -> None:
    failure = responses.parse_error(status, body)
    assert failure.status == status and failure.message and failure.code
