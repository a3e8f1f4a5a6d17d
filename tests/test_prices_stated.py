"""What answers state beside their tokens, and what requests allow: service tiers, and calls of the providers' own tools."""

import json
from typing import Any

import pytest

from proxy.formats import anthropic, gemini, openai_chat, openai_responses
from proxy.formats.anthropic.relay import AnthropicCall
from proxy.formats.codec import Incoming
from proxy.formats.gemini.relay import GeminiCall
from proxy.formats.neutral import Usage
from proxy.formats.openai_chat.relay import ChatCall
from proxy.formats.openai_responses.relay import ResponsesCall

MESSAGES = [{"role": "user", "content": "Hi"}]


def chat(**fields: Any) -> ChatCall:
    return ChatCall(body(model="m", messages=MESSAGES, **fields))


def responses(**fields: Any) -> ResponsesCall:
    return ResponsesCall(body(model="m", input="Hi", **fields))


def claude(**fields: Any) -> AnthropicCall:
    return AnthropicCall(body(model="m", max_tokens=10, messages=MESSAGES, **fields))


def google(**fields: Any) -> GeminiCall:
    return GeminiCall(body(contents=[{"role": "user", "parts": [{"text": "Hi"}]}], **fields), "m")


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def events(*chunks: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)


def measured(call: Incoming, answer: dict[str, Any]) -> Usage:
    usage, _ = call.measure(json.dumps(answer).encode())
    assert usage is not None
    return usage


def metered(call: Incoming, stream: bytes) -> Usage:
    meter = call.meter()
    meter.feed(stream)
    meter.finish()
    assert meter.usage is not None
    return meter.usage


CHAT_USAGE = {"prompt_tokens": 5, "completion_tokens": 7}


def test_openai_chat_states_its_tier_beside_the_usage() -> None:
    answer = {"choices": [{"message": {"content": "x"}}], "usage": CHAT_USAGE, "service_tier": "flex"}
    assert measured(chat(), answer) == Usage(input=5, output=7, service_tier="flex")
    assert openai_chat.parse_response(json.dumps(answer).encode()).usage == Usage(input=5, output=7, service_tier="flex")
    last = {"choices": [], "usage": CHAT_USAGE, "service_tier": "priority"}
    assert metered(chat(stream=True), events(last)) == Usage(input=5, output=7, service_tier="priority")


def test_servers_of_openais_format_count_their_searches() -> None:
    counted = CHAT_USAGE | {"server_tool_use": {"web_search_requests": 2}}
    assert measured(chat(), {"choices": [], "usage": counted}).tool_calls == {"web_search": 2}
    assert measured(chat(), {"choices": [], "usage": CHAT_USAGE | {"num_search_queries": 3}}).tool_calls == {"web_search": 3}
    assert measured(chat(), {"choices": [], "usage": CHAT_USAGE | {"num_search_queries": -3}}).tool_calls == {}


def test_sound_inside_the_counts_is_told_apart() -> None:
    details = {"prompt_tokens_details": {"audio_tokens": 4}, "completion_tokens_details": {"audio_tokens": 6}}
    assert measured(chat(), {"choices": [], "usage": CHAT_USAGE | details}).tool_calls == {"input_audio": 4, "output_audio": 6}
    sound = [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}]}]
    heard = ChatCall(body(model="m", messages=sound)).call
    assert heard.tool_limits["input_audio"] == heard.input_bound


def test_google_tells_sound_and_pictures_apart_in_its_details() -> None:
    prompt, made = [{"modality": "TEXT", "tokenCount": 1}, {"modality": "AUDIO", "tokenCount": 4}], [{"modality": "IMAGE", "tokenCount": 7}]
    metadata = {"promptTokenCount": 5, "candidatesTokenCount": 7, "promptTokensDetails": prompt, "candidatesTokensDetails": made}
    answer = {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}], "usageMetadata": metadata}
    assert measured(google(), answer).tool_calls == metered(google(), events(answer)).tool_calls == {"input_audio": 4, "output_image": 7}


OUTPUT = [
    {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": "x"}},
    {"type": "web_search_call", "id": "ws_2", "action": {"type": "open_page", "url": "https://example.org/"}},
    {"type": "file_search_call", "id": "fs_1"},
    {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1"},
    {"type": "code_interpreter_call", "id": "ci_2", "container_id": "cntr_1"},
    {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
]


@pytest.mark.parametrize(
    ("more", "calls"),
    [
        ({}, {"web_search": 1, "file_search": 1, "code_interpreter": 1}),
        ({"tool_usage": {"web_search": {"num_requests": 4}}}, {"web_search": 4, "file_search": 1, "code_interpreter": 1}),
        ({"tool_usage": {"web_search": {"num_requests": 0}}}, {"file_search": 1, "code_interpreter": 1}),
        (
            {"tools": [{"type": "web_search_preview"}, {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}}]},
            {"web_search_preview": 1, "file_search": 1, "code_interpreter_4g": 1},
        ),
    ],
)
def test_openai_responses_shows_its_tools_calls_in_the_output(more: dict[str, Any], calls: dict[str, int]) -> None:
    answer = {"output": OUTPUT, "usage": {"input_tokens": 5, "output_tokens": 7}, "service_tier": "default", **more}
    expected = Usage(input=5, output=7, service_tier="default", tool_calls=calls)
    assert measured(responses(), answer) == expected
    assert openai_responses.parse_response(json.dumps(answer).encode()).usage == expected
    assert metered(responses(stream=True), events({"type": "response.completed", "response": answer})) == expected


def test_anthropic_counts_its_searches_and_names_its_mode() -> None:
    usage = {"input_tokens": 5, "output_tokens": 7, "service_tier": "standard", "server_tool_use": {"web_search_requests": 2}}
    expected = Usage(input=5, output=7, service_tier="standard", tool_calls={"web_search": 2})
    assert measured(claude(), {"content": [], "usage": usage}) == expected
    assert measured(claude(), {"content": [], "usage": usage | {"speed": "fast"}}).service_tier == "fast"
    answer = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    assert anthropic.parse_response(json.dumps(answer).encode()).usage == expected


def test_anthropic_states_the_tier_first_and_the_searches_last() -> None:
    first = {"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1, "service_tier": "priority"}}}
    last = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 7, "server_tool_use": {"web_search_requests": 1}}}
    used = metered(claude(stream=True), events(first, last))
    assert used == Usage(input=5, output=7, service_tier="priority", tool_calls={"web_search": 1})


def test_google_is_billed_by_queries_that_are_neither_empty_nor_repeated() -> None:
    metadata = {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12, "serviceTier": "SERVICE_TIER_FLEX"}
    found = {"content": {"parts": [{"text": "x"}]}, "groundingMetadata": {"webSearchQueries": ["a", "", "b", "a"]}}
    expected = Usage(input=5, output=7, service_tier="flex", tool_calls={"web_search": 2})
    assert measured(google(), {"candidates": [found], "usageMetadata": metadata}) == expected
    more = {"content": {"parts": []}, "finishReason": "STOP", "groundingMetadata": {"webSearchQueries": ["b"]}}
    chunks = ({"candidates": [found]}, {"candidates": [more], "usageMetadata": metadata})
    assert metered(google(), events(*chunks)) == expected
    assert gemini.parse_response(body(candidates=[found], usageMetadata=metadata)).usage is not None


@pytest.mark.parametrize(
    ("call", "tier"),
    [
        (chat(), "auto"),
        (chat(service_tier="default"), "default"),
        (responses(), "auto"),
        (responses(service_tier="priority"), "priority"),
        (claude(), ""),
        (claude(speed="fast"), "fast"),
        (google(), ""),
        (google(serviceTier="SERVICE_TIER_PRIORITY"), "priority"),
        (google(service_tier="flex"), "flex"),
    ],
)
def test_a_request_asks_for_a_tier(call: Incoming, tier: str) -> None:
    assert call.call.service_tier == tier


@pytest.mark.parametrize(
    ("call", "limits"),
    [
        (chat(), {}),
        (chat(web_search_options={}), {"web_search": 1}),
        (responses(tools=[{"type": "function", "name": "f"}]), {}),
        (responses(tools=[{"type": "web_search"}, {"type": "file_search"}]), {"web_search": 10, "file_search": 10}),
        (responses(tools=[{"type": "web_search_preview_2025_03_11"}], max_tool_calls=2), {"web_search_preview": 2}),
        (claude(tools=[{"name": "f", "input_schema": {}}, {"type": "bash_20250124", "name": "bash"}]), {}),
        (claude(tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]), {"web_search": 3}),
        (claude(tools=[{"type": "web_fetch_20250910", "name": "web_fetch"}]), {"web_fetch": 10}),
        (google(tools=[{"functionDeclarations": []}]), {}),
        (google(tools=[{"google_search": {}}]), {"web_search": 10}),
    ],
)
def test_a_request_limits_the_calls_of_the_providers_tools(call: Incoming, limits: dict[str, int]) -> None:
    assert call.call.tool_limits == limits


def test_all_of_several_answers_are_in_the_usage() -> None:
    """A provider counts the tokens of all `n` answers in one usage; where it states none, each is counted."""
    two = [{"index": index, "message": {"content": "four"}} for index in range(2)]
    assert chat(n=2, max_tokens=10).call.output_limit == 20
    assert measured(chat(n=2), {"choices": two, "usage": CHAT_USAGE}).output == 7
    assert chat(n=2).measure(json.dumps({"choices": two}).encode()) == (None, 2)
