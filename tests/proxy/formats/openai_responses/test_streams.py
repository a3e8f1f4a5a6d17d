"""OpenAI Responses: streams of providers and streams to clients."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.formats import openai_responses as responses
from proxy.formats.neutral import (
    ApiError,
    Choice,
    Event,
    Failed,
    Finished,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Refusal,
    Request,
    Response,
    Started,
    Text,
    ToolCall,
    UsageReported,
)
from tests.proxy.formats.openai_responses.builders import (
    APPLY_PATCH,
    COMPLETED,
    CREATED,
    DONE,
    NEUTRAL_USAGE,
    OUTPUT,
    STREAM,
    USAGE,
    decode,
    encode,
    event,
    event_types,
    part_events,
    parts_of,
)

# Streams from the provider ------------------------------------------------------------------------


def test_stream_equals_its_complete_response() -> None:
    events = decode(STREAM)
    assert events[0] == Started(id="resp_1", model="gpt-x")
    assert parts_of(events) == [
        ("Opaque", "", None),
        ("Thinking", "Hm.", "gAAA"),
        ("Text", "Grüße 🎉", None),
        ("ToolCall", '{"a":1}', None),
    ]
    assert events[-2:] == [UsageReported(usage=NEUTRAL_USAGE), Finished(choice=0, finish_reason="tool_calls")]


@given(st.lists(st.integers(0, 10_000), max_size=40), st.booleans())
def test_stream_gives_the_same_events_wherever_it_is_cut(cuts: list[int], crlf: bool) -> None:
    assert decode(STREAM.replace(b"\n", b"\r\n") if crlf else STREAM, cuts) == decode(STREAM)


@pytest.mark.parametrize(
    "stream",
    [
        CREATED + b"".join(DONE) + COMPLETED,
        CREATED + COMPLETED,
        COMPLETED,
        COMPLETED.strip(),
        STREAM + STREAM,
    ],
)
def test_missing_deltas_are_completed_from_the_final_items(stream: bytes) -> None:
    events = decode(stream)
    assert parts_of(events) == parts_of(decode(STREAM))
    assert (
        sum(isinstance(seen, Started) for seen in events)
        == sum(isinstance(seen, Finished) for seen in events)
        == 1
    )


def test_interleaved_calls_are_serialized() -> None:
    def added(at: int) -> bytes:
        return event(
            "response.output_item.added",
            output_index=at,
            item={"type": "function_call", "call_id": f"c{at}", "name": f"f{at}"},
        )

    def delta(at: int, text: str) -> bytes:
        return event("response.function_call_arguments.delta", output_index=at, delta=text)

    done = [
        event(
            "response.output_item.done",
            output_index=at,
            item={"type": "function_call", "call_id": f"c{at}", "name": f"f{at}"},
        )
        for at in (1, 0)
    ]
    events = decode(
        CREATED
        + added(0)
        + added(1)
        + delta(0, "{")
        + delta(1, "[")
        + delta(0, "}")
        + delta(1, "]")
        + b"".join(done)
    )
    assert parts_of(events) == [("ToolCall", "{}", None), ("ToolCall", "[]", None)]


def test_raw_reasoning_text_is_thinking() -> None:
    item = {
        "id": "r",
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "We need 4."}],
    }
    deltas = [
        event("response.reasoning_text.delta", item_id="r", output_index=0, content_index=0, delta=text)
        for text in ("We ", "need 4.")
    ]
    done = event("response.output_item.done", output_index=0, item=item)
    assert parts_of(decode(CREATED + b"".join(deltas) + done)) == [("Thinking", "We need 4.", None)]


@pytest.mark.parametrize(
    ("stream", "kind", "message"),
    [
        (STREAM[: len(STREAM) // 2], "network", "The provider's response ended before it was complete."),
        (b"", "network", "The provider's response ended before it was complete."),
        (b'{"error": {"message": "Overloaded", "code": "server_error"}}', "server_error", "Overloaded"),
        (
            CREATED + event("error", error={"code": "insufficient_quota", "message": "Spent"}),
            "rate_limit",
            "Spent",
        ),
        (CREATED + event("error", code="server_error", message="Flat"), "server_error", "Flat"),
        (
            CREATED
            + event(
                "response.failed",
                response={"status": "failed", "error": {"code": "server_error", "message": "Oh"}},
            ),
            "server_error",
            "Oh",
        ),
    ],
)
def test_failed_stream_is_reported(stream: bytes, kind: str, message: str) -> None:
    events = decode(stream + event("error", message="once more") if b"failed" in stream else stream)
    assert [(seen.error.kind, seen.error.message) for seen in events if isinstance(seen, Failed)] == [
        (kind, message)
    ]


@given(
    st.lists(
        st.sampled_from(
            [
                CREATED,
                *DONE,
                *STREAM.split(b"\n\n"),
                b"data: {\n\n",
                b"data: [DONE]\n\n",
                b'data: {"type": 1}\n\n',
            ]
        ),
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
            case UsageReported():
                pass


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_a_failed_stream(junk: bytes) -> None:
    assert any(isinstance(seen, Failed) for seen in decode(junk + b"\n\n"))


# Streams to the client ----------------------------------------------------------------------------


def test_stream_has_every_event_that_clients_expect() -> None:
    sent = encode(decode(STREAM))
    assert event_types(sent) == [
        *("created", "in_progress"),
        *("output_item.added", "output_item.done"),
        *(
            "output_item.added",
            "reasoning_summary_part.added",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.delta",
        ),
        *("reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.delta"),
        *("function_call_arguments.done", "output_item.done", "completed"),
    ]
    final = sent[-1]["response"]
    assert final["usage"] == USAGE and [item["type"] for item in final["output"]] == [
        item["type"] for item in OUTPUT
    ]
    assert {fields["response"]["id"] for fields in sent if "response" in fields} == {final["id"]}
    items = [fields["item"] for fields in sent if fields["type"] == "response.output_item.done"]
    assert items == final["output"]
    assert all(
        fields["item_id"] == items[fields["output_index"]]["id"] for fields in sent if "item_id" in fields
    )


def test_adjacent_texts_are_one_message() -> None:
    sent = encode(
        [
            Started(id="x", model="m"),
            *part_events(Text(), "a"),
            *part_events(Text()),
            *part_events(Refusal(), "b"),
            Finished(choice=0, finish_reason="length"),
        ]
    )
    (message,) = sent[-1]["response"]["output"]
    assert [part["type"] for part in message["content"]] == ["output_text", "refusal"]
    assert sent[-1]["type"] == "response.incomplete" and message["status"] == "incomplete"
    assert "refusal.done" in event_types(sent)


@pytest.mark.parametrize(
    ("call", "deltas"),
    [
        (ToolCall(id="c", name="apply_patch"), ('{"inp', 'ut": "*** Begin\\nüber"}')),
        (ToolCall(id="c", name="apply_patch", custom=True), ("*** Begin\n", "über")),
    ],
)
def test_custom_tool_gets_unwrapped_text(call: ToolCall, deltas: tuple[str, ...]) -> None:
    client_request = Request(model="m", messages=(), tools=(APPLY_PATCH,))
    sent = encode(
        [
            Started(id="x", model="m"),
            *part_events(call, *deltas),
            Finished(choice=0, finish_reason="tool_calls"),
        ],
        client_request,
    )
    (item,) = sent[-1]["response"]["output"]
    assert (item["type"], item["call_id"], item["input"]) == ("custom_tool_call", "c", "*** Begin\nüber")
    assert (
        "".join(
            fields["delta"] for fields in sent if fields["type"] == "response.custom_tool_call_input.delta"
        )
        == item["input"]
    )
    neutral_response = Response(
        id="x",
        model="m",
        choices=(
            Choice(
                parts=(ToolCall(id="c", name="apply_patch", custom=call.custom, arguments="".join(deltas)),)
            ),
        ),
    )
    assert (
        json.loads(responses.render_response(neutral_response, client_request))["output"][0]["input"]
        == item["input"]
    )


def test_call_without_arguments_has_an_empty_object() -> None:
    sent = encode(
        [
            Started(id="x", model="m"),
            *part_events(ToolCall(id="c", name="f")),
            Finished(choice=0, finish_reason="tool_calls"),
        ]
    )
    assert [fields["delta"] for fields in sent if fields["type"].endswith("arguments.delta")] == ["{}"]


@pytest.mark.parametrize(
    "end", [[Failed(error=ApiError(kind="rate_limit", code="x", message="Slow down", status=429))], []]
)
def test_stream_failure_is_rendered_as_openai_does(end: list[Event]) -> None:
    sent = encode(
        [
            Started(id="x", model="m"),
            PartStarted(choice=0, index=0, part=Text()),
            PartDelta(choice=0, index=0, text="a"),
            *end,
        ]
    )
    assert event_types(sent)[-2:] == ["error", "failed"] and sent[-1]["response"]["status"] == "failed"
