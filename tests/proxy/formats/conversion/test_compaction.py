"""Compaction for clients of the Responses API by models of other vendors."""

import json
from typing import Any

import pytest

from proxy.formats.constraints.constraint import Destination
from proxy.formats.json_body import parse_object
from proxy.formats.neutral import Request
from proxy.formats.openai_responses.seals import without_seals
from proxy.formats.registry import CODECS
from tests.proxy.formats.golden.builders import (
    RESPONSES_TOOL,
    Body,
    anthropic_response,
    chat_response,
    gemini_response,
)
from tests.proxy.formats.golden.cells import encode_body
from tests.proxy.formats.golden.stream_readers import read_stream
from tests.proxy.formats.golden.stream_writers import stream_of
from tests.support.adapted_requests import render_adapted

RESPONSES: dict[str, Body] = {
    "openai_chat": chat_response({"content": "They met."}),
    "anthropic": anthropic_response(
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}, {"type": "text", "text": "They met."}
    ),
    "gemini": gemini_response({"text": "They met."}),
}
providers = pytest.mark.parametrize("provider", RESPONSES)
client = CODECS["openai_responses"]


def compaction(**fields: Any) -> Body:
    items = [{"role": "user", "content": "Hi"}, {"type": "compaction_trigger"}]
    return {"model": "m", "input": items, "tools": [RESPONSES_TOOL], **fields}


def parsed(body: Body) -> Request:
    request: Request = client.parse_request(parse_object(encode_body(body)), "m", False)
    return request


def item_of(provider: str) -> Body:
    """Return the one item that a client gets."""
    response = CODECS[provider].parse_response(encode_body(RESPONSES[provider]))
    (item,) = json.loads(client.render_response(response, parsed(compaction())))["output"]
    found: Body = item
    return found


@providers
def test_model_is_asked_for_a_summary_and_cannot_call_tools(provider: str) -> None:
    request = parsed(compaction())
    body = render_adapted(request, Destination("compatible", provider, "m")).body
    assert "Summarize this conversation" in json.dumps(body)
    assert request.tool_choice is not None and request.tool_choice.mode == "none"


@providers
def test_client_gets_one_item_that_it_sends_back(provider: str) -> None:
    item = item_of(provider)
    assert item["type"] == "compaction" and "They met." not in item["encrypted_content"]
    later = parsed({"model": "m", "input": [item, {"role": "user", "content": "And?"}]})
    for target in CODECS:
        body = json.dumps(render_adapted(later, Destination("compatible", target, "m")).body)
        assert "Summary of the conversation until here:\\n\\nThey met." in body and "Seal" not in body


@providers
def test_stream_ends_with_the_same_item(provider: str) -> None:
    decoder, encoder = CODECS[provider].parse_stream(), client.render_stream(parsed(compaction(stream=True)))
    events = [*decoder.feed(stream_of(provider, RESPONSES[provider])), *decoder.finish()]
    stream = b"".join(map(encoder.encode, events)) + encoder.finish()
    output = read_stream("openai_responses", stream)["output"]
    (streamed,) = [item for item in output if item["type"] != "reasoning"]
    assert streamed["encrypted_content"] == item_of(provider)["encrypted_content"]


def test_openai_gets_the_summary_of_another_vendor_as_a_message() -> None:
    body = {"model": "m", "input": [item_of("gemini"), {"role": "user", "content": "And?"}]}
    changed, _ = without_seals(encode_body(body), body, Destination("openai", "openai_responses", "m"))
    first = json.loads(changed)["input"][0]
    text = "Summary of the conversation until here:\n\nThey met."
    assert first == {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def test_response_without_a_text_does_not_erase_the_conversation() -> None:
    response = CODECS["anthropic"].parse_response(encode_body(anthropic_response()))
    assert json.loads(client.render_response(response, parsed(compaction())))["output"] == []
