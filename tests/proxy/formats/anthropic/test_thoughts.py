"""Thinking of other vendors in responses and streams to clients of the Messages API."""

import json
from typing import Any

import pytest

from proxy.formats import anthropic
from proxy.formats.anthropic import StreamEncoder
from proxy.formats.neutral import (
    Choice,
    Event,
    Finished,
    Part,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Response,
    Started,
    Text,
    Thinking,
    ToolCall,
)
from proxy.formats.seals import unseal
from tests.proxy.formats.anthropic.samples import REQUEST
from tests.proxy.formats.golden.stream_readers import events_of, read_stream

UNSIGNED = Thinking(text="Hm.", origin="openai_chat")
SIGNED = Thinking(text="Hm.", signature="gAAA", origin="openai_responses")
TRAILING = Thinking(signature="CpYB", origin="gemini")
CALL = ToolCall(id="a", name="f", arguments="{}", signature="CpYB", origin="gemini")


def complete(*parts: Part) -> list[dict[str, Any]]:
    response = Response(id="r", model="m", choices=(Choice(parts=parts),))
    blocks: list[dict[str, Any]] = json.loads(anthropic.render_response(response, REQUEST))["content"]
    return blocks


def stream(*parts: Part) -> bytes:
    encoder = StreamEncoder(REQUEST)
    events: list[Event] = [Started(id="r", model="m")]
    for index, part in enumerate(parts):
        events += part_events(index, part)
    events.append(Finished(choice=0, finish_reason="stop"))
    return b"".join(map(encoder.encode, events)) + encoder.finish()


def part_events(index: int, part: Part) -> list[Event]:
    match part:
        case Thinking():
            start: Part = Thinking(origin=part.origin)
            text, signature = part.text, part.signature
        case ToolCall():
            start = ToolCall(id=part.id, name=part.name, origin=part.origin)
            text, signature = part.arguments, part.signature
        case Text():
            start, text, signature = Text(), part.text, None
        case _:
            raise AssertionError(part)
    signed = [PartSigned(choice=0, index=index, signature=signature)] if signature else []
    started = PartStarted(choice=0, index=index, part=start)
    texts = [PartDelta(choice=0, index=index, text=text)] if text else []
    return [started, *signed, *texts, PartEnded(choice=0, index=index)]


def streamed(*parts: Part) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = read_stream("anthropic", stream(*parts))["content"]
    return blocks


both_ways = pytest.mark.parametrize("rendered", [complete, streamed])


@pytest.mark.parametrize("thinking", [UNSIGNED, SIGNED])
def test_a_thought_begins_without_a_signature_and_ends_with_it(thinking: Thinking) -> None:
    events = [event for event in events_of(stream(thinking, Text(text="Hi"))) if event.get("index") == 0]
    assert events[0]["content_block"] == {"type": "thinking", "thinking": "", "signature": ""}
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert [delta["type"] for delta in deltas] == ["thinking_delta", "signature_delta"]
    assert unseal(deltas[1]["signature"]) == (Thinking(signature=thinking.signature, origin=thinking.origin),)


@pytest.mark.parametrize("parts", [(CALL,), (TRAILING, Text(text="Hi"))])
def test_a_thought_of_a_signature_alone_sends_it_once(parts: tuple[Part, ...]) -> None:
    start, delta, _ = (event for event in events_of(stream(*parts)) if event.get("index") == 0)
    assert start["content_block"] == {"type": "thinking", "thinking": "", "signature": ""}
    assert delta["delta"]["type"] == "signature_delta"
    assert unseal(delta["delta"]["signature"]) == (Thinking(signature="CpYB", origin="gemini"),)


@both_ways
def test_thinking_without_a_signature_has_one_for_the_client(rendered: Any) -> None:
    block, _ = rendered(UNSIGNED, Text(text="Hi"))
    assert block["thinking"] == "Hm." and unseal(block["signature"]) == (Thinking(origin="openai_chat"),)


@both_ways
def test_a_signature_after_the_text_is_no_block(rendered: Any) -> None:
    assert [block["type"] for block in rendered(Text(text="Hi"), TRAILING)] == ["text"]
    assert [block["type"] for block in rendered(TRAILING, Text(text="Hi"))] == ["thinking", "text"]


@both_ways
def test_the_signature_of_a_call_is_a_thought_before_it(rendered: Any) -> None:
    thought, call = rendered(CALL)
    assert (thought["type"], thought["thinking"], call["type"]) == ("thinking", "", "tool_use")
    assert unseal(thought["signature"]) == (Thinking(signature="CpYB", origin="gemini"),)
