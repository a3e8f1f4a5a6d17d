"""Reported service tiers and calls of server tools, and the limits that requests set for them."""

import json
from typing import Any

import pytest

from proxy.formats import anthropic, gemini, openai_chat, openai_responses
from proxy.formats.anthropic.passthrough import MessagesRequest
from proxy.formats.codec import ClientRequest
from proxy.formats.gemini.embeddings import EmbedContentRequest, parse_embed_response
from proxy.formats.gemini.passthrough import GenerateContentRequest
from proxy.formats.neutral import Usage, UsageReported
from proxy.formats.openai_chat.completions import CreateCompletionRequest
from proxy.formats.openai_chat.passthrough import ChatRequest
from proxy.formats.openai_responses.passthrough import ResponsesRequest

MESSAGES = [{"role": "user", "content": "Hi"}]


def chat_request(**fields: Any) -> ChatRequest:
    return ChatRequest(body(**{"model": "m", "messages": MESSAGES, **fields}))


def responses_request(**fields: Any) -> ResponsesRequest:
    return ResponsesRequest(body(**{"model": "m", "input": "Hi", **fields}))


def messages_request(**fields: Any) -> MessagesRequest:
    return MessagesRequest(body(model="m", max_tokens=10, messages=MESSAGES, **fields))


def gemini_request(**fields: Any) -> GenerateContentRequest:
    return GenerateContentRequest(body(contents=[{"role": "user", "parts": [{"text": "Hi"}]}], **fields), "m")


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def events(*chunks: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)


def measured_usage(call: ClientRequest, response: dict[str, Any]) -> Usage:
    usage, _ = call.measure(json.dumps(response).encode())
    assert usage is not None
    return usage


def metered_usage(call: ClientRequest, stream: bytes) -> Usage:
    meter = call.meter()
    meter.feed(stream)
    meter.finish()
    assert meter.usage is not None
    return meter.usage


CHAT_USAGE = {"prompt_tokens": 5, "completion_tokens": 7}


def test_openai_chat_reports_its_tier_beside_the_usage() -> None:
    response = {"choices": [{"message": {"content": "x"}}], "usage": CHAT_USAGE, "service_tier": "flex"}
    assert measured_usage(chat_request(), response) == Usage(input=5, output=7, service_tier="flex")
    assert openai_chat.parse_response(json.dumps(response).encode()).usage == Usage(
        input=5, output=7, service_tier="flex"
    )
    last = {"choices": [], "usage": CHAT_USAGE, "service_tier": "priority"}
    assert metered_usage(chat_request(stream=True), events(last)) == Usage(
        input=5, output=7, service_tier="priority"
    )


def test_openai_compatible_servers_report_searches() -> None:
    counted = CHAT_USAGE | {"server_tool_use": {"web_search_requests": 2}}
    assert measured_usage(chat_request(), {"choices": [], "usage": counted}).billable_extras == {
        "web_search": 2
    }
    assert measured_usage(
        chat_request(), {"choices": [], "usage": CHAT_USAGE | {"num_search_queries": 3}}
    ).billable_extras == {"web_search": 3}
    assert (
        measured_usage(
            chat_request(), {"choices": [], "usage": CHAT_USAGE | {"num_search_queries": -3}}
        ).billable_extras
        == {}
    )


def test_audio_tokens_are_split_from_text() -> None:
    details = {"prompt_tokens_details": {"audio_tokens": 4}, "completion_tokens_details": {"audio_tokens": 6}}
    assert measured_usage(chat_request(), {"choices": [], "usage": CHAT_USAGE | details}).billable_extras == {
        "input_audio": 4,
        "output_audio": 6,
    }
    audio = [
        {
            "role": "user",
            "content": [{"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}],
        }
    ]
    facts = ChatRequest(body(model="m", messages=audio)).facts
    assert facts.max_billable_extras["input_audio"] == facts.max_input_tokens


def test_gemini_details_split_audio_and_images() -> None:
    prompt, made = (
        [{"modality": "TEXT", "tokenCount": 1}, {"modality": "AUDIO", "tokenCount": 4}],
        [{"modality": "IMAGE", "tokenCount": 7}],
    )
    metadata = {
        "promptTokenCount": 5,
        "candidatesTokenCount": 7,
        "promptTokensDetails": prompt,
        "candidatesTokensDetails": made,
    }
    response = {
        "candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}],
        "usageMetadata": metadata,
    }
    assert (
        measured_usage(gemini_request(), response).billable_extras
        == metered_usage(gemini_request(), events(response)).billable_extras
        == {"input_audio": 4, "output_image": 7}
    )


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
        (
            {"tool_usage": {"web_search": {"num_requests": 4}}},
            {"web_search": 4, "file_search": 1, "code_interpreter": 1},
        ),
        ({"tool_usage": {"web_search": {"num_requests": 0}}}, {"file_search": 1, "code_interpreter": 1}),
        (
            {
                "tools": [
                    {"type": "web_search_preview"},
                    {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}},
                ]
            },
            {"web_search_preview": 1, "file_search": 1, "code_interpreter_4g": 1},
        ),
    ],
)
def test_openai_responses_tool_calls_are_read_from_the_output(
    more: dict[str, Any], calls: dict[str, int]
) -> None:
    response = {
        "output": OUTPUT,
        "usage": {"input_tokens": 5, "output_tokens": 7},
        "service_tier": "default",
        **more,
    }
    expected = Usage(input=5, output=7, service_tier="default", billable_extras=calls)
    assert measured_usage(responses_request(), response) == expected
    assert openai_responses.parse_response(json.dumps(response).encode()).usage == expected
    assert (
        metered_usage(
            responses_request(stream=True), events({"type": "response.completed", "response": response})
        )
        == expected
    )


def test_anthropic_reports_searches_and_service_tier() -> None:
    usage = {
        "input_tokens": 5,
        "output_tokens": 7,
        "service_tier": "standard",
        "server_tool_use": {"web_search_requests": 2},
    }
    expected = Usage(input=5, output=7, service_tier="standard", billable_extras={"web_search": 2})
    assert measured_usage(messages_request(), {"content": [], "usage": usage}) == expected
    assert (
        measured_usage(messages_request(), {"content": [], "usage": usage | {"speed": "fast"}}).service_tier
        == "fast"
    )
    response = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "usage": usage,
    }
    assert anthropic.parse_response(json.dumps(response).encode()).usage == expected


def test_anthropic_stream_reports_tier_first_and_searches_last() -> None:
    first = {
        "type": "message_start",
        "message": {"usage": {"input_tokens": 5, "output_tokens": 1, "service_tier": "priority"}},
    }
    last = {
        "type": "message_delta",
        "delta": {},
        "usage": {"output_tokens": 7, "server_tool_use": {"web_search_requests": 1}},
    }
    used = metered_usage(messages_request(stream=True), events(first, last))
    assert used == Usage(input=5, output=7, service_tier="priority", billable_extras={"web_search": 1})


def test_anthropic_stream_reports_the_region_at_its_start() -> None:
    usage = {"input_tokens": 5, "output_tokens": 1, "service_tier": "standard", "inference_geo": "us"}
    first = {"type": "message_start", "message": {"usage": usage}}
    last = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 7}}
    assert metered_usage(messages_request(stream=True), events(first, last)).service_tier == "standard_us"
    assert (
        measured_usage(messages_request(), {"content": [], "usage": usage | {"speed": "fast"}}).service_tier
        == "fast_us"
    )
    assert (
        measured_usage(
            messages_request(), {"content": [], "usage": usage | {"service_tier": "x" * 30}}
        ).service_tier
        == "x" * 17 + "_us"
    )
    for elsewhere in ("global", "not_available", None, ""):
        assert (
            measured_usage(
                messages_request(), {"content": [], "usage": usage | {"inference_geo": elsewhere}}
            ).service_tier
            == "standard"
        )


def test_anthropic_refusal_without_output_reports_none() -> None:
    first = {"type": "message_start", "message": {"usage": {"input_tokens": 20, "output_tokens": 1}}}
    last = {"type": "message_delta", "delta": {"stop_reason": "refusal"}, "usage": {"output_tokens": 0}}
    assert metered_usage(messages_request(stream=True), events(first, last)) == Usage(input=20, output=0)


def test_searches_of_an_interrupted_anthropic_stream_are_billed() -> None:
    first = {"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1}}}
    searched = {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "server_tool_use", "id": "s", "name": "web_search"},
    }
    fetched = {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "server_tool_use", "id": "f", "name": "web_fetch"},
    }
    assert metered_usage(
        messages_request(stream=True), events(first, searched, fetched, searched)
    ).billable_extras == {"web_search": 2}
    last = {
        "type": "message_delta",
        "delta": {},
        "usage": {"output_tokens": 7, "server_tool_use": {"web_search_requests": 1}},
    }
    assert metered_usage(
        messages_request(stream=True), events(first, searched, searched, last)
    ).billable_extras == {"web_search": 1}


MAPS_SOURCE = {"maps": {"uri": "https://maps.google.com/?cid=1", "title": "Café"}}
WEB_SOURCE = {"web": {"uri": "https://example.org/", "title": "Page"}}


@pytest.mark.parametrize(
    ("grounding", "calls"),
    [
        ({"groundingChunks": [MAPS_SOURCE]}, {"google_maps": 1}),
        ({"groundingChunks": [MAPS_SOURCE, MAPS_SOURCE], "webSearchQueries": ["a", "b"]}, {"google_maps": 2}),
        (
            {"groundingChunks": [MAPS_SOURCE, WEB_SOURCE], "webSearchQueries": ["a", "b", "c"]},
            {"google_maps": 1, "web_search": 2},
        ),
        ({"groundingChunks": [WEB_SOURCE], "webSearchQueries": ["a"]}, {"web_search": 1}),
        ({"webSearchQueries": ["a"], "imageSearchQueries": ["a", ""]}, {"web_search": 2}),
        ({"groundingChunks": "none", "webSearchQueries": {"a": 1}}, {}),
        ("none", {}),
    ],
)
def test_gemini_grounding_kind_follows_its_sources(grounding: Any, calls: dict[str, int]) -> None:
    metadata = {"promptTokenCount": 5, "candidatesTokenCount": 7}
    response = {
        "candidates": [{"content": {"parts": [{"text": "x"}]}, "groundingMetadata": grounding}],
        "usageMetadata": metadata,
    }
    assert (
        measured_usage(gemini_request(), response).billable_extras
        == metered_usage(gemini_request(), events(response)).billable_extras
        == calls
    )
    found = gemini.parse_response(body(**response)).usage
    assert found is not None and found.billable_extras == calls


def test_grounding_of_several_chunks_belongs_to_one_response() -> None:
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 7}
    first = {"candidates": [{"groundingMetadata": {"webSearchQueries": ["a"]}}], "usageMetadata": usage}
    last = {
        "candidates": [
            {"groundingMetadata": {"webSearchQueries": ["a", "b"], "groundingChunks": [MAPS_SOURCE]}}
        ],
        "usageMetadata": usage,
    }
    assert metered_usage(gemini_request(), events(first, last)).billable_extras == {"google_maps": 2}


def test_gemini_cached_audio_is_split() -> None:
    metadata = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 60,
        "toolUsePromptTokenCount": 9,
        "candidatesTokenCount": 7,
        "promptTokensDetails": [
            {"modality": "AUDIO", "tokenCount": 70},
            {"modality": "TEXT", "tokenCount": 30},
        ],
        "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 60}],
        "toolUsePromptTokensDetails": [{"modality": "IMAGE", "tokenCount": 4}],
    }
    expected = {"input_audio": 10, "cached_audio": 60, "input_image": 4}
    response = {"candidates": [{"content": {"parts": [{"text": "x"}]}}], "usageMetadata": metadata}
    assert measured_usage(gemini_request(), response).billable_extras == expected


def test_audio_embeddings_are_reserved_and_billed_as_audio() -> None:
    audio = {"parts": [{"inlineData": {"mimeType": "audio/wav", "data": "aGk="}}]}
    call = EmbedContentRequest(body(content=audio), "gemini-embedding-2")
    assert call.facts.max_billable_extras["input_audio"] == call.facts.max_input_tokens
    assert EmbedContentRequest(body(content={"parts": [{"text": "Hi"}]}), "m").facts.max_billable_extras == {}
    metadata = {"promptTokenCount": 32, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 32}]}
    response = {"embedding": {"values": [0.1]}, "usageMetadata": metadata}
    assert measured_usage(call, response).billable_extras == {"input_audio": 32}
    _, usage = parse_embed_response(body(**response))
    assert usage is not None and usage.billable_extras == {"input_audio": 32}


def test_non_text_tokens_are_billed_in_converted_requests() -> None:
    metadata = {
        "promptTokenCount": 5,
        "candidatesTokenCount": 7,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 6}],
    }
    response = {
        "candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}],
        "usageMetadata": metadata,
    }
    complete = gemini.parse_response(body(**response)).usage
    decoder = gemini.parse_stream()
    streamed = [
        event.usage
        for event in [*decoder.feed(events(response)), *decoder.finish()]
        if isinstance(event, UsageReported)
    ]
    assert complete is not None and complete.billable_extras == streamed[-1].billable_extras == {
        "output_image": 6
    }


def test_google_bills_distinct_queries_only() -> None:
    metadata = {
        "promptTokenCount": 5,
        "candidatesTokenCount": 7,
        "totalTokenCount": 12,
        "serviceTier": "SERVICE_TIER_FLEX",
    }
    found = {
        "content": {"parts": [{"text": "x"}]},
        "groundingMetadata": {"webSearchQueries": ["a", "", "b", "a"]},
    }
    expected = Usage(input=5, output=7, service_tier="flex", billable_extras={"web_search": 2})
    assert measured_usage(gemini_request(), {"candidates": [found], "usageMetadata": metadata}) == expected
    more = {
        "content": {"parts": []},
        "finishReason": "STOP",
        "groundingMetadata": {"webSearchQueries": ["b"]},
    }
    chunks = ({"candidates": [found]}, {"candidates": [more], "usageMetadata": metadata})
    assert metered_usage(gemini_request(), events(*chunks)) == expected
    assert gemini.parse_response(body(candidates=[found], usageMetadata=metadata)).usage is not None


@pytest.mark.parametrize(
    ("call", "tier"),
    [
        (chat_request(), "auto"),
        (chat_request(service_tier="default"), "default"),
        (responses_request(), "auto"),
        (responses_request(service_tier="priority"), "priority"),
        (messages_request(), "auto"),
        (messages_request(inference_geo="us"), "auto"),
        (messages_request(inference_geo="global"), "auto_global"),
        (messages_request(inference_geo="global", speed="fast"), "fast_global"),
        (messages_request(speed="fast"), "fast"),
        (gemini_request(), "auto"),
        (gemini_request(serviceTier="SERVICE_TIER_PRIORITY"), "priority"),
        (gemini_request(service_tier="flex"), "flex"),
    ],
)
def test_requested_service_tier_is_read(call: ClientRequest, tier: str) -> None:
    assert call.facts.service_tier == tier


@pytest.mark.parametrize(
    ("call", "limits"),
    [
        (chat_request(), {}),
        (chat_request(web_search_options={}), {"web_search": 1}),
        (responses_request(tools=[{"type": "function", "name": "f"}]), {}),
        (
            responses_request(tools=[{"type": "web_search"}, {"type": "file_search"}]),
            {"web_search": 10, "file_search": 10},
        ),
        (
            responses_request(tools=[{"type": "web_search_preview_2025_03_11"}], max_tool_calls=2),
            {"web_search_preview": 2},
        ),
        (
            messages_request(
                tools=[{"name": "f", "input_schema": {}}, {"type": "bash_20250124", "name": "bash"}]
            ),
            {},
        ),
        (
            messages_request(tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]),
            {"web_search": 3},
        ),
        (messages_request(tools=[{"type": "web_fetch_20250910", "name": "web_fetch"}]), {"web_fetch": 10}),
        (gemini_request(tools=[{"functionDeclarations": []}]), {}),
        (gemini_request(tools=[{"google_search": {}}]), {"web_search": 10}),
        (gemini_request(tools=[{"googleMaps": {}}]), {"google_maps": 10}),
        (
            gemini_request(tools=[{"google_maps": {}, "googleSearch": {}}]),
            {"google_maps": 10, "web_search": 10},
        ),
        (
            responses_request(tools=[{"type": "shell"}, {"type": "shell", "environment": {"type": "local"}}]),
            {},
        ),
        (
            responses_request(
                tools=[{"type": "shell", "environment": {"type": "container_auto", "memory_limit": "4g"}}]
            ),
            {"shell_4g": 10},
        ),
    ],
)
def test_requested_tool_call_limit_is_read(call: ClientRequest, limits: dict[str, int]) -> None:
    assert call.facts.max_billable_extras == limits


@pytest.mark.parametrize(
    ("call", "output"),
    [
        (chat_request(n=3, max_completion_tokens=10), 30),
        (gemini_request(generationConfig={"candidateCount": 3, "maxOutputTokens": 10}), 30),
        (CreateCompletionRequest(body(model="m", prompt=["Hi", "Ho"], n=2, best_of=4, max_tokens=10)), 80),
        (CreateCompletionRequest(body(model="m", prompt="Hi", n=3, max_tokens=10)), 30),
        (responses_request(max_output_tokens=10), 10),
    ],
)
def test_reservation_counts_each_choice_and_the_prompt_once(call: ClientRequest, output: int) -> None:
    assert call.facts.max_output_tokens == output == 10 * call.facts.n
    assert call.facts.max_input_tokens < 40


def test_usage_covers_all_choices() -> None:
    """A provider reports the tokens of all choices together.

    If the provider reports none, the gateway counts the tokens of all choices.
    """
    two = [{"index": index, "message": {"content": "four"}} for index in range(2)]
    assert chat_request(n=2, max_tokens=10).facts.max_output_tokens == 20
    assert measured_usage(chat_request(n=2), {"choices": two, "usage": CHAT_USAGE}).output == 7
    assert chat_request(n=2).measure(json.dumps({"choices": two}).encode()) == (None, 2)
