"""Priced properties of a request are billed even if its response omits or contradicts them."""

from typing import Any

import pytest

from proxy.formats.codec import ClientRequest
from proxy.formats.gemini.passthrough import GenerateContentRequest
from proxy.formats.metering.billable import UNREADABLE_TIER
from proxy.formats.neutral import Usage
from proxy.formats.registry import CODECS
from tests.proxy.formats.metering.test_reported_usage import (
    body,
    chat_request,
    events,
    gemini_request,
    measured_usage,
    messages_request,
    metered_usage,
    responses_request,
)

Json = dict[str, Any]

COUNTS = {"input_tokens": 5, "output_tokens": 7}
CODE_CALL = {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1", "code": "1"}
SEARCH_CALL = {"type": "web_search_call", "id": "ws_1", "action": {"type": "search"}}
IMAGE_CALL = {"type": "image_generation_call", "id": "ig_1", "status": "completed"}
SEARCH_BLOCK = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}


def messages_usage(request: ClientRequest, usage: Json, streams: bool, *blocks: Json) -> Usage:
    """Return the metered usage of a response of Anthropic with this usage and content."""
    if not streams:
        return measured_usage(request, {"content": list(blocks), "usage": COUNTS | usage})
    starts = [
        {"type": "content_block_start", "index": index, "content_block": block}
        for index, block in enumerate(blocks)
    ]
    first = {"type": "message_start", "message": {"usage": COUNTS | {"output_tokens": 1} | usage}}
    last = {"type": "message_delta", "delta": {}, "usage": COUNTS | usage}
    return metered_usage(request, events(first, *starts, last))


def responses_usage(request: ClientRequest, response: Json, streams: bool) -> Usage:
    """Return the metered usage of a response of OpenAI with these fields."""
    complete = {"id": "resp_1", "status": "completed", "usage": COUNTS, **response}
    if not streams:
        return measured_usage(request, complete)
    return metered_usage(request, events({"type": "response.completed", "response": complete}))


streamed = pytest.mark.parametrize("streams", [False, True])


# Anthropic ----------------------------------------------------------------------------------------


@streamed
@pytest.mark.parametrize(
    ("asked", "stated", "tier"),
    [
        ({"speed": "fast"}, {"service_tier": "standard"}, "fast"),
        ({"speed": "fast"}, {"service_tier": "standard", "speed": "standard"}, "standard"),
        ({"inference_geo": "us"}, {"service_tier": "standard"}, "standard_us"),
        ({"inference_geo": "us"}, {"service_tier": "standard", "inference_geo": None}, "standard_us"),
        ({"inference_geo": "us"}, {"inference_geo": "not_available"}, ""),
        ({"speed": "fast", "inference_geo": "us"}, {"inference_geo": "global"}, "fast"),
        ({"speed": "fast", "inference_geo": "us"}, {"service_tier": "priority"}, "fast_us"),
        ({"speed": "fast"}, {"inference_geo": "us"}, "fast_us"),
        ({}, {"speed": "us"}, f"{UNREADABLE_TIER}us"),
        ({}, {"service_tier": "us"}, f"{UNREADABLE_TIER}us"),
        ({}, {"inference_geo": {"region": "us"}}, f"standard_{UNREADABLE_TIER}"),
    ],
)
def test_speed_and_region_are_those_of_the_request_if_not_reported(
    asked: Json, stated: Json, tier: str, streams: bool
) -> None:
    assert messages_usage(messages_request(**asked), stated, streams).service_tier == tier


@streamed
@pytest.mark.parametrize(
    ("ttl", "stated", "written"),
    [
        ("1h", {}, (0, 4)),
        ("5m", {}, (4, 0)),
        ("1h", {"cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 0}}, (4, 0)),
        ("5m", {"cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 3}}, (1, 3)),
    ],
)
def test_cache_writes_have_the_requested_hour_if_not_reported(
    ttl: str, stated: Json, written: tuple[int, int], streams: bool
) -> None:
    cached = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral", "ttl": ttl}}
    usage = messages_usage(
        messages_request(system=[cached]), {"cache_creation_input_tokens": 4, **stated}, streams
    )
    assert (usage.cache_write_5m, usage.cache_write_1h) == written


@streamed
@pytest.mark.parametrize(
    ("reported", "searches", "estimated"),
    [
        ({}, {"web_search": 2}, True),
        ({"server_tool_use": None}, {"web_search": 2}, True),
        ({"server_tool_use": {"web_search_requests": 0}}, {}, False),
        ({"server_tool_use": {"web_search_requests": 1}}, {"web_search": 1}, False),
    ],
)
def test_searches_that_a_response_shows_but_does_not_report_are_billed(
    reported: Json, searches: dict[str, int], estimated: bool, streams: bool
) -> None:
    usage = messages_usage(messages_request(), reported, streams, SEARCH_BLOCK, SEARCH_BLOCK)
    assert (usage.billable_extras, usage.estimated) == (searches, estimated)


# OpenAI -------------------------------------------------------------------------------------------


def container(memory: str | None) -> Json:
    return {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": memory}}


@streamed
@pytest.mark.parametrize(
    ("asked", "repeated", "kind"),
    [
        ([container("16g")], None, "code_interpreter_16g"),
        ([container("16g")], [], "code_interpreter_16g"),
        ([container("4g"), container("64g"), container(None)], None, "code_interpreter_64g"),
        ([container("4g")], [container("16g")], "code_interpreter_16g"),
        ([container("16g")], [{"type": "code_interpreter"}], "code_interpreter_16g"),
        ([], [container("4g")], "code_interpreter_4g"),
        ([container(None)], None, "code_interpreter"),
    ],
)
def test_containers_have_the_most_memory_that_the_request_allows(
    asked: list[Json], repeated: list[Json] | None, kind: str, streams: bool
) -> None:
    response = {"output": [CODE_CALL]} | ({} if repeated is None else {"tools": repeated})
    usage = responses_usage(responses_request(tools=asked), response, streams)
    assert usage.billable_extras == {kind: 1}


@streamed
@pytest.mark.parametrize(
    ("tools", "kind"),
    [
        (["web_search"], "web_search"),
        (["web_search_preview"], "web_search_preview"),
        (["web_search", "web_search_preview_2025_03_11"], "web_search_preview"),
        ([], "web_search"),
    ],
)
def test_a_search_costs_as_much_as_the_most_expensive_offered_tool(
    tools: list[str], kind: str, streams: bool
) -> None:
    request = responses_request(tools=[{"type": type} for type in tools])
    assert responses_usage(request, {"output": [SEARCH_CALL]}, streams).billable_extras == {kind: 1}


@streamed
def test_images_have_the_settings_of_the_request_if_not_repeated(streams: bool) -> None:
    tool = {"type": "image_generation", "model": "gpt-image-1", "quality": "low", "partial_images": 2}
    usage = responses_usage(responses_request(tools=[tool]), {"output": [IMAGE_CALL]}, streams)
    tokens = usage.billable_extras["gpt-image-1: estimated_image_output"]
    repeated = [{"type": "image_generation", "size": "auto", "quality": "high", "model": None}]
    response = {"output": [IMAGE_CALL], "tools": repeated}
    usage = responses_usage(responses_request(tools=[tool]), response, streams)
    assert usage.billable_extras["gpt-image-1: estimated_image_output"] > tokens > 200


def test_calls_that_only_the_events_of_a_stream_show_are_billed() -> None:
    done = {"type": "response.output_item.done", "item": SEARCH_CALL}
    complete = {"id": "resp_1", "status": "completed", "output": [], "usage": COUNTS}
    completed = {"type": "response.completed", "response": complete}
    usage = metered_usage(responses_request(stream=True), events(done, completed))
    assert (usage.billable_extras, usage.estimated) == ({"web_search": 1}, True)


@streamed
@pytest.mark.parametrize("format", ["openai_chat", "openai_responses"])
@pytest.mark.parametrize(
    ("asked", "details", "written"),
    [
        ({"prompt_cache_options": {"ttl": "12h"}}, {}, (0, 4)),
        ({"prompt_cache_options": {"ttl": "30m"}}, {}, (4, 0)),
        ({}, {}, (4, 0)),
        (
            {"prompt_cache_options": {"ttl": "12h"}},
            {"cache_write_tokens_details": {"ttl_30m_tokens": 4, "ttl_12h_tokens": 0}},
            (4, 0),
        ),
    ],
)
def test_cache_writes_have_the_requested_12_hours_if_not_reported(
    format: str, asked: Json, details: Json, written: tuple[int, int], streams: bool
) -> None:
    details = {"cache_write_tokens": 4, **details}
    if format == "openai_responses":
        response = {"usage": COUNTS | {"input_tokens_details": details}, "output": []}
        usage = responses_usage(responses_request(**asked), response, streams)
    else:
        counts = {"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": details}
        chunk = {"choices": [], "usage": counts}
        request = chat_request(**asked)
        usage = metered_usage(request, events(chunk)) if streams else measured_usage(request, chunk)
    assert (usage.cache_write_5m, usage.cache_write_12h) == written


@pytest.mark.parametrize(
    ("reasoning", "total", "output"),
    [(4, 16, 11), (4, 12, 7), (4, None, 7), (9, 12, 7), (9, 21, 16), (9, None, 16), (0, 12, 7)],
)
def test_reasoning_that_the_output_does_not_include_is_billed(
    reasoning: int, total: int | None, output: int
) -> None:
    details = {"reasoning_tokens": reasoning}
    usage = COUNTS | {"total_tokens": total, "output_tokens_details": details}
    chat = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": total}
    chat_usage = {**chat, "completion_tokens_details": details}
    assert measured_usage(responses_request(), {"output": [], "usage": usage}).output == output
    assert measured_usage(chat_request(), {"choices": [], "usage": chat_usage}).output == output


# All formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "tier"),
    [
        ("us", f"{UNREADABLE_TIER}us"),
        ("priority_us", f"{UNREADABLE_TIER}priority_us"),
        ("GLOBAL", f"{UNREADABLE_TIER}global"),
        ("batch", f"{UNREADABLE_TIER}batch"),
        (["priority"], UNREADABLE_TIER),
        ("priority", "priority"),
        ("auto", ""),
        (None, ""),
    ],
)
@pytest.mark.parametrize(
    ("call", "response"),
    [
        (chat_request(), {"usage": {"prompt_tokens": 5, "completion_tokens": 7}}),
        (responses_request(), {"output": [], "usage": COUNTS}),
        (gemini_request(), {"usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 7}}),
    ],
)
def test_the_name_of_a_region_is_not_a_tier(
    call: ClientRequest, response: Json, stated: Any, tier: str
) -> None:
    if "usageMetadata" in response:
        response = {"usageMetadata": response["usageMetadata"] | {"serviceTier": stated}}
    assert measured_usage(call, response | {"service_tier": stated}).service_tier == tier


@pytest.mark.parametrize(
    ("format", "call", "response", "billed"),
    [
        (
            "openai_chat",
            chat_request(),
            {"service_tier": "priority", "choices": []},
            Usage(service_tier="priority"),
        ),
        (
            "openai_responses",
            responses_request(tools=[container("4g")]),
            {"service_tier": "fast", "output": [CODE_CALL, SEARCH_CALL]},
            Usage(service_tier="fast", billable_extras={"code_interpreter_4g": 1, "web_search": 1}),
        ),
        (
            "anthropic",
            messages_request(speed="fast"),
            {"content": [SEARCH_BLOCK], "usage": {"inference_geo": "us"}},
            Usage(service_tier="fast_us", billable_extras={"web_search": 1}, estimated=True),
        ),
        (
            "gemini",
            gemini_request(),
            {"candidates": [{"groundingMetadata": {"webSearchQueries": ["x"]}}]},
            Usage(billable_extras={"web_search": 1}),
        ),
    ],
)
def test_tier_and_tools_are_billed_without_reported_usage(
    format: str, call: ClientRequest, response: Json, billed: Usage
) -> None:
    assert CODECS[format].billed_items(body(**response), call.facts.usage_defaults) == billed
    assert CODECS[format].billed_items(b"<html>", call.facts.usage_defaults).billable_extras == {}


# Audio, images and video --------------------------------------------------------------------------

AUDIO_MESSAGE = {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA"}}]}
AUDIO_HISTORY = [{"role": "assistant", "audio": {"id": "audio_1"}}, {"role": "user", "content": "Hi"}]
VOICE = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}


def chat_usage(request: ClientRequest, usage: Json, streams: bool) -> Usage:
    """Return the metered usage of a chat completion with this usage."""
    response = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7} | usage}
    return metered_usage(request, events(response)) if streams else measured_usage(request, response)


@streamed
@pytest.mark.parametrize(
    ("asked", "stated", "extras"),
    [
        ({"messages": [AUDIO_MESSAGE]}, {}, {"input_audio": 5}),
        ({"messages": AUDIO_HISTORY}, {"prompt_tokens_details": {"cached_tokens": 1}}, {"input_audio": 5}),
        ({"messages": [AUDIO_MESSAGE]}, {"prompt_tokens_details": {"audio_tokens": 2}}, {"input_audio": 2}),
        ({"messages": [AUDIO_MESSAGE]}, {"prompt_tokens_details": {"audio_tokens": 0}}, {}),
        (VOICE, {}, {"output_audio": 7}),
        (VOICE, {"completion_tokens_details": {"reasoning_tokens": 0}}, {"output_audio": 7}),
        (VOICE, {"completion_tokens_details": {"audio_tokens": 3}}, {"output_audio": 3}),
        ({"messages": [{"role": "user", "content": "What is audio?"}]}, {}, {}),
        ({"modalities": ["text"]}, {}, {}),
    ],
)
def test_chat_tokens_with_audio_count_as_audio_if_not_reported(
    asked: Json, stated: Json, extras: dict[str, int], streams: bool
) -> None:
    assert chat_usage(chat_request(**asked), stated, streams).billable_extras == extras


def gemini_parts(**part: Json) -> list[Json]:
    return [{"role": "user", "parts": [{"text": "Hi"}, part]}]


AUDIO_DATA = {"mimeType": "audio/wav", "data": "AA"}
PROMPT_DETAILS = {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": 3}]}
OUTPUT_DETAILS = {"candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 6}]}


@streamed
@pytest.mark.parametrize(
    ("asked", "stated", "extras"),
    [
        ({"contents": gemini_parts(inlineData=AUDIO_DATA)}, {}, {"input_audio": 5}),
        ({"contents": gemini_parts(inline_data={"mime_type": "video/mp4"})}, {}, {"input_video": 5}),
        ({"contents": gemini_parts(fileData={"fileUri": "files/1"})}, {}, {"input_audio": 5}),
        ({"contents": gemini_parts(inlineData=AUDIO_DATA)}, PROMPT_DETAILS, {}),
        ({"contents": gemini_parts(inlineData={"mimeType": "image/png", "data": "AA"})}, {}, {}),
        ({"cachedContent": "cachedContents/1"}, {}, {"input_audio": 5}),
        ({"generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}}, {}, {"output_image": 7}),
        ({"generation_config": {"response_modalities": ["AUDIO"]}}, {}, {"output_audio": 7}),
        ({"generationConfig": {"responseModalities": ["AUDIO"]}}, OUTPUT_DETAILS, {"output_audio": 6}),
        ({"generationConfig": {"responseModalities": ["TEXT"]}}, {}, {}),
    ],
)
def test_gemini_tokens_with_media_count_as_media_if_not_reported(
    asked: Json, stated: Json, extras: dict[str, int], streams: bool
) -> None:
    request = GenerateContentRequest(body(**{"contents": gemini_parts(), **asked}), "m")
    metadata = {"promptTokenCount": 5, "candidatesTokenCount": 7, **stated}
    response = {"candidates": [{"finishReason": "STOP"}], "usageMetadata": metadata}
    usage = metered_usage(request, events(response)) if streams else measured_usage(request, response)
    assert usage.billable_extras == extras
