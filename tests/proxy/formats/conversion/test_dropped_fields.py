"""Every part of a request is converted, reported as dropped, or rejected. Nothing is lost silently."""

import json
from typing import Any

import pytest

from proxy.formats.codec import RenderedRequest
from proxy.formats.constraints.constraint import Destination
from proxy.formats.json_body import parse_object
from proxy.formats.neutral import UnsupportedFeature
from proxy.formats.registry import CODECS
from tests.proxy.formats.golden.builders import FORMATS
from tests.support.adapted_requests import render_adapted


def convert_request(client: str, provider: str, body: dict[str, Any]) -> RenderedRequest:
    request = CODECS[client].parse_request(parse_object(json.dumps(body).encode()), "m", False)
    return render_adapted(request, Destination("compatible", provider, "m"))


def user_request(content: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": content}], **fields}


@pytest.mark.parametrize("provider", [name for name in FORMATS if name != "anthropic"])
@pytest.mark.parametrize(
    "source",
    [
        {"type": "text", "media_type": "text/plain", "data": "Body."},
        {"type": "content", "content": [{"type": "text", "text": "Body."}]},
        {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
    ],
)
def test_document_context_is_kept_and_citations_setting_is_dropped(
    provider: str, source: dict[str, Any]
) -> None:
    document = {
        "type": "document",
        "source": source,
        "title": "T",
        "context": "From 2020.",
        "citations": {"enabled": True},
    }
    rendered = convert_request("anthropic", provider, user_request([document]))
    assert "From 2020." in json.dumps(rendered.body) and "citations" in rendered.dropped


@pytest.mark.parametrize("provider", [name for name in FORMATS if name != "anthropic"])
def test_search_results_become_text_in_other_formats(provider: str) -> None:
    result = {
        "type": "search_result",
        "source": "https://a.example",
        "title": "A",
        "content": [{"type": "text", "text": "Found."}],
    }
    rendered = json.dumps(convert_request("anthropic", provider, user_request([result])).body)
    assert "https://a.example" in rendered and "Found." in rendered


@pytest.mark.parametrize(
    ("client", "body", "named"),
    [
        (
            "anthropic",
            user_request(
                [{"type": "text", "text": "x"}],
                tools=[
                    {"name": "f", "input_schema": {}, "input_examples": [{"a": 1}], "defer_loading": True}
                ],
            ),
            ["tools.input_examples", "tools.defer_loading"],
        ),
        (
            "anthropic",
            user_request(
                [{"type": "text", "text": "x"}], output_config={"task_budget": {"type": "tokens", "total": 9}}
            ),
            ["output_config.task_budget"],
        ),
        (
            "openai_chat",
            {"model": "m", "messages": [{"role": "user", "name": "Ann", "content": "x"}]},
            ["messages.name"],
        ),
        (
            "gemini",
            {
                "contents": [{"role": "user", "parts": [{"text": "x", "partMetadata": {"a": 1}}]}],
                "toolConfig": {
                    "functionCallingConfig": {"mode": "AUTO", "streamFunctionCallArguments": True}
                },
            },
            ["streamFunctionCallArguments", "partMetadata"],
        ),
    ],
)
def test_unsupported_settings_are_reported_as_dropped(
    client: str, body: dict[str, Any], named: list[str]
) -> None:
    for provider in set(FORMATS) - {client}:
        assert set(named) <= set(convert_request(client, provider, body).dropped)


def test_nested_responses_settings_are_reported_as_dropped() -> None:
    tools = [
        {
            "type": "function",
            "name": "f",
            "parameters": {},
            "defer_loading": True,
            "allowed_callers": ["direct"],
        }
    ]
    file = {
        "type": "input_file",
        "filename": "a.pdf",
        "file_data": "data:application/pdf;base64,JVBERi0=",
        "detail": "high",
    }
    body = {"model": "m", "input": [{"role": "user", "content": [file]}], "tools": tools}
    for provider in ("openai_chat", "anthropic", "gemini"):
        dropped = convert_request("openai_responses", provider, body).dropped
        assert {"tools.defer_loading", "detail"} <= set(dropped) and "tools.allowed_callers" not in dropped


@pytest.mark.parametrize(
    ("client", "body"),
    [
        (
            "openai_chat",
            user_request(
                [{"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}}]
            ),
        ),
        (
            "openai_responses",
            {
                "model": "m",
                "input": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "input_text",
                                "text": "x",
                                "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"},
                            }
                        ],
                    }
                ],
            },
        ),
    ],
)
def test_openai_cache_breakpoint_is_supported_everywhere(client: str, body: dict[str, Any]) -> None:
    (message,) = convert_request(client, "anthropic", body).body["messages"]
    assert message["content"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert "cache" in convert_request(client, "gemini", body).dropped


@pytest.mark.parametrize("provider", ["openai_responses", "anthropic", "gemini"])
def test_stored_audio_response_is_rejected_by_other_formats(provider: str) -> None:
    audio_message = {"role": "assistant", "audio": {"id": "audio_1"}}
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}, audio_message, {"role": "user", "content": "y"}],
    }
    with pytest.raises(UnsupportedFeature):
        convert_request("openai_chat", provider, body)
    assert convert_request("openai_chat", "openai_chat", body).body["messages"][1]["audio"] == {
        "id": "audio_1"
    }


@pytest.mark.parametrize("provider", ["openai_chat", "openai_responses", "gemini"])
def test_compaction_summary_becomes_text_in_other_formats(provider: str) -> None:
    turns = [
        {"role": "assistant", "content": [{"type": "compaction", "content": "They met."}]},
        {"role": "user", "content": "And?"},
    ]
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}, *turns]}
    assert "They met." in json.dumps(convert_request("anthropic", provider, body).body)


@pytest.mark.parametrize("provider", [name for name in FORMATS if name != "openai_responses"])
@pytest.mark.parametrize("kind", ["item_reference", "compaction", "context_compaction"])
def test_responses_items_that_openai_stores_are_rejected_by_other_formats(provider: str, kind: str) -> None:
    item = {"type": kind, "id": "i", "encrypted_content": "y"}
    body = {"model": "m", "input": [item, {"role": "user", "content": "x"}]}
    with pytest.raises(UnsupportedFeature, match=kind):
        convert_request("openai_responses", provider, body)
    assert item in convert_request("openai_responses", "openai_responses", body).body["input"]


@pytest.mark.parametrize("provider", [name for name in FORMATS if name != "openai_responses"])
def test_unknown_last_item_is_dropped_unless_nothing_follows_the_response(provider: str) -> None:
    question, answer = {"role": "user", "content": "Question?"}, {"role": "assistant", "content": "Yes."}
    unknown: dict[str, Any] = {"type": "item_of_tomorrow", "id": "i"}
    rendered = convert_request("openai_responses", provider, {"model": "m", "input": [question, unknown]})
    assert "messages.item_of_tomorrow" in rendered.dropped
    assert "Question?" in json.dumps(rendered.body) and "tomorrow" not in json.dumps(rendered.body)
    unknown = {"role": "user", "content": [{"type": "part_of_tomorrow"}]}
    with pytest.raises(UnsupportedFeature, match="part_of_tomorrow"):
        convert_request("openai_responses", provider, {"model": "m", "input": [question, answer, unknown]})


@pytest.mark.parametrize(("provider", "named"), [("openai_responses", True), ("anthropic", False)])
def test_file_name_is_kept_or_reported_as_dropped(provider: str, named: bool) -> None:
    document = {
        "type": "document",
        "source": {"type": "url", "url": "https://a.example/x.pdf"},
        "title": "Report",
    }
    rendered = convert_request("anthropic", provider, user_request([document]))
    assert ("filename" in rendered.dropped) == named and ("Report" in json.dumps(rendered.body)) != named


@pytest.mark.parametrize(
    ("thinking", "shown"),
    [
        ({"type": "enabled", "budget_tokens": 2000}, True),
        ({"type": "adaptive"}, True),
        ({"type": "adaptive", "display": "omitted"}, False),
        ({"type": "disabled"}, False),
    ],
)
def test_anthropic_clients_see_thinking_by_default(thinking: dict[str, Any], shown: bool) -> None:
    config = convert_request(
        "anthropic", "gemini", user_request([{"type": "text", "text": "x"}], thinking=thinking)
    ).body["generationConfig"]
    assert bool(config["thinkingConfig"].get("includeThoughts")) == shown


def test_system_instruction_must_be_text() -> None:
    body = {
        "contents": [{"parts": [{"text": "x"}]}],
        "systemInstruction": {"parts": [{"inlineData": {"mimeType": "image/png", "data": "aQ=="}}]},
    }
    with pytest.raises(UnsupportedFeature):
        convert_request("gemini", "openai_chat", body)


def test_image_detail_is_reported_as_dropped() -> None:
    image_part = {"type": "image_url", "image_url": {"url": "https://a.example/x.png", "detail": "low"}}
    assert "detail" in convert_request("openai_chat", "anthropic", user_request([image_part])).dropped
