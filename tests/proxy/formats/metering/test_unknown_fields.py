"""Unknown fields: those that are rejected, and those that a hard budget does not allow."""

import json
from typing import Any

import pytest

from proxy.formats.anthropic.count_tokens import CountTokensRequest
from proxy.formats.anthropic.passthrough import MessagesRequest
from proxy.formats.metering.token_bounds import REFERENCED_CONTENT_TOKENS
from proxy.formats.neutral import InvalidRequest
from proxy.formats.openai_chat.completions import CreateCompletionRequest
from proxy.formats.openai_chat.embeddings import CreateEmbeddingRequest
from proxy.formats.openai_chat.passthrough import ChatRequest
from proxy.formats.openai_responses.passthrough import ResponsesRequest
from proxy.formats.quirks import Quirks

MESSAGES = [{"role": "user", "content": "Hi"}]
REQUESTS: dict[type, dict[str, Any]] = {
    ChatRequest: {"messages": MESSAGES},
    ResponsesRequest: {"input": "Hi"},
    CreateCompletionRequest: {"prompt": "Hi"},
    CreateEmbeddingRequest: {"input": "Hi"},
    MessagesRequest: {"messages": MESSAGES, "max_tokens": 9},
    CountTokensRequest: {"messages": MESSAGES},
}
FORBIDDEN: dict[str, Any] = {
    "background": True,
    "deferred": True,
    "models": ["dear"],
    "route": "fallback",
    "preset": "pro-search",
    "fallbacks": [{"model": "dear"}],
    "fallback_models": ["dear"],
}
REJECTED = [
    (kind, field)
    for kind in REQUESTS
    for field in FORBIDDEN
    if (kind, field) != (ResponsesRequest, "background")
]
ADVISOR_TOOL = {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5"}
SEARCH = {"type": "openrouter:web_search"}


def parse_facts(kind: type, **fields: Any) -> Any:
    return kind(json.dumps({"model": "cheap", **REQUESTS[kind], **fields}).encode())


@pytest.mark.parametrize(("kind", "field"), REJECTED)
def test_model_override_and_async_fields_are_rejected(kind: type, field: str) -> None:
    with pytest.raises(InvalidRequest) as rejected:
        parse_facts(kind, **{field: FORBIDDEN[field]})
    assert rejected.value.param == field and f"The field {field} " in str(rejected.value)


@pytest.mark.parametrize("value", [True, "true", 1, {"x": 1}])
def test_a_response_in_the_background_is_recognized(value: Any) -> None:
    assert parse_facts(ResponsesRequest, background=value).facts.is_background
    with pytest.raises(InvalidRequest):
        parse_facts(ResponsesRequest, Background=value)


@pytest.mark.parametrize("nothing", [None, False, [], {}, ""])
def test_field_with_a_no_op_value_passes(nothing: Any) -> None:
    for field in (*FORBIDDEN, "plugins", "prediction"):
        call = parse_facts(ChatRequest, **{field: nothing})
        assert json.loads(call.upstream_body("cheap", None, Quirks())) == json.loads(call.body)
        assert (call.facts.unbounded_cost_fields, call.facts.other_model_fields) == ((), ())


@pytest.mark.parametrize("written", ["Models", "MODELS", "model\u017f"])
def test_field_names_are_matched_case_insensitively(written: str) -> None:
    """Go's encoding/json reads each of these as `models`."""
    with pytest.raises(InvalidRequest) as rejected:
        parse_facts(ChatRequest, **{written: ["dear"]})
    assert rejected.value.param == written


@pytest.mark.parametrize(
    ("kind", "field", "value"), [(ChatRequest, "Model", "dear"), (MessagesRequest, "Max_tokens", 60_000)]
)
def test_known_field_in_another_case_is_rejected(kind: type, field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as rejected:
        parse_facts(kind, **{field: value})
    assert rejected.value.param == field


@pytest.mark.parametrize(
    ("kind", "fields", "unbounded"),
    [
        (ChatRequest, {"prediction": {"type": "content", "content": "x"}}, "prediction"),
        (ChatRequest, {"provider": {"order": ["dear"]}}, "provider"),
        (ChatRequest, {"speed": "fast"}, "speed"),
        (ChatRequest, {"best_of": 5}, "best_of"),
        (ChatRequest, {"search_parameters": {"mode": "on"}}, "search_parameters"),
        (ResponsesRequest, {"prompt": {"id": "pmpt_1"}}, "prompt"),
        (
            ResponsesRequest,
            {"context_management": [{"type": "compaction", "compact_threshold": 1000}]},
            "context_management",
        ),
        (
            MessagesRequest,
            {"context_management": {"edits": [{"type": "compact_20260112"}]}},
            "context_management",
        ),
        (MessagesRequest, {"compaction": {"type": "summarize"}}, "compaction"),
        (CreateCompletionRequest, {"provider": {"order": ["dear"]}}, "provider"),
        (CreateEmbeddingRequest, {"provider": {"order": ["dear"]}}, "provider"),
    ],
)
def test_unbounded_cost_fields_are_reported(kind: type, fields: dict[str, Any], unbounded: str) -> None:
    call = parse_facts(kind, **fields).facts
    assert (call.unbounded_cost_fields, call.other_model_fields) == ((unbounded,), ())


@pytest.mark.parametrize(
    ("kind", "fields", "field"),
    [
        (ChatRequest, {"plugins": [{"id": "web"}]}, "plugins"),
        (MessagesRequest, {"plugins": [{"id": "web"}]}, "plugins"),
        (ChatRequest, {"compound_custom": {"models": {"answering_model": "dear"}}}, "compound_custom"),
        (ChatRequest, {"providerOptions": {"gateway": {"models": ["dear"]}}}, "providerOptions"),
        (ChatRequest, {"tools": [SEARCH]}, "tools"),
        (MessagesRequest, {"tools": [ADVISOR_TOOL]}, "tools"),
        (MessagesRequest, {"tools": [SEARCH]}, "tools"),
        (ResponsesRequest, {"tools": [{"type": "image_generation", "svg": {"model": "dear"}}]}, "tools"),
    ],
)
def test_other_model_fields_are_reported(kind: type, fields: dict[str, Any], field: str) -> None:
    call = parse_facts(kind, **fields).facts
    assert (call.unbounded_cost_fields, call.other_model_fields) == ((), (field,))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (
            ChatRequest,
            {
                "tools": [
                    {"type": "function", "function": {"name": "f"}},
                    {"type": "custom", "custom": {"name": "c"}},
                ]
            },
        ),
        (
            ChatRequest,
            {"tools": [{"function": {"name": "f"}}], "store": True, "reasoning": {"effort": "low"}},
        ),
        (
            ResponsesRequest,
            {
                "tools": [{"type": "image_generation", "model": "gpt-image-2"}],
                "previous_response_id": "resp_1",
            },
        ),
        (
            MessagesRequest,
            {
                "tools": [
                    {"type": "web_search_20260209", "name": "web_search"},
                    {"name": "own", "input_schema": {}},
                ]
            },
        ),
        (
            MessagesRequest,
            {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}, "speed": "fast"},
        ),
    ],
)
def test_priced_and_free_fields_are_not_reported(kind: type, fields: dict[str, Any]) -> None:
    call = parse_facts(kind, **fields).facts
    assert (call.unbounded_cost_fields, call.other_model_fields) == ((), ())


def test_stored_conversation_counts_as_input() -> None:
    created = parse_facts(MessagesRequest, thread={"type": "create"}).facts.max_input_tokens
    assert created < 1000
    assert (
        parse_facts(
            MessagesRequest, thread={"type": "continue", "previous_message_id": "msg_1"}
        ).facts.max_input_tokens
        > REFERENCED_CONTENT_TOKENS
    )


def test_embeddings_count_unknown_fields() -> None:
    assert parse_facts(CreateEmbeddingRequest, messages=[{"content": "x" * 500}]).facts.max_input_tokens > 500


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "m", "messages": [{"role": "user", "content": ['
        b'{"type": "input_\\u0061udio", "input_\\u0061udio": {"data": "x"}}]}]}',
        b'{"model": "m", "messages": [{"role": "user"}],'
        b' "context_management": [{"type": "c\\u006fmpaction"}]}',
    ],
    ids=["sound", "compaction"],
)
def test_escaped_letters_are_found(body: bytes) -> None:
    call = ChatRequest(body).facts
    assert "input_audio" in call.max_billable_extras and (
        b"context" not in body or call.unbounded_cost_fields == ("context_management",)
    )
