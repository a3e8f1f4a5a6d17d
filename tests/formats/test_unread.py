"""Fields that are relayed unread: which of them nobody may send, and which a hard budget cannot bear."""

import json
from typing import Any

import pytest

from proxy.formats.anthropic.relay import AnthropicCall, CountTokensCall
from proxy.formats.bounds import STORED_TOKENS
from proxy.formats.codec import Quirks
from proxy.formats.completions import CompletionsCall
from proxy.formats.neutral import BadRequest
from proxy.formats.openai_chat.relay import ChatCall
from proxy.formats.openai_embeddings import EmbeddingsCall
from proxy.formats.openai_responses.relay import ResponsesCall

MESSAGES = [{"role": "user", "content": "Hi"}]
ASKED: dict[type, dict[str, Any]] = {
    ChatCall: {"messages": MESSAGES},
    ResponsesCall: {"input": "Hi"},
    CompletionsCall: {"prompt": "Hi"},
    EmbeddingsCall: {"input": "Hi"},
    AnthropicCall: {"messages": MESSAGES, "max_tokens": 9},
    CountTokensCall: {"messages": MESSAGES},
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
ADVISER = {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5"}
SEARCH = {"type": "openrouter:web_search"}


def read(kind: type, **fields: Any) -> Any:
    return kind(json.dumps({"model": "cheap", **ASKED[kind], **fields}).encode())


@pytest.mark.parametrize("kind", ASKED)
@pytest.mark.parametrize("field", FORBIDDEN)
def test_what_another_model_or_a_later_answer_is_asked_with_is_refused(kind: type, field: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        read(kind, **{field: FORBIDDEN[field]})
    assert refusal.value.param == field and f"The field {field} " in str(refusal.value)


@pytest.mark.parametrize("nothing", [None, False, [], {}, ""])
def test_a_field_that_asks_for_nothing_passes(nothing: Any) -> None:
    for field in (*FORBIDDEN, "plugins", "prediction"):
        call = read(ChatCall, **{field: nothing})
        assert json.loads(call.upstream_body("cheap", None, Quirks())) == json.loads(call.body)
        assert (call.call.unbounded, call.call.of_other_models) == ((), ())


@pytest.mark.parametrize("written", ["Models", "MODELS", "model\u017f"])
def test_servers_that_do_not_heed_how_a_name_is_written_are_not_told_another_model(written: str) -> None:
    """Go's encoding/json reads each of these as `models`."""
    with pytest.raises(BadRequest) as refusal:
        read(ChatCall, **{written: ["dear"]})
    assert refusal.value.param == written


@pytest.mark.parametrize(("kind", "field", "value"), [(ChatCall, "Model", "dear"), (AnthropicCall, "Max_tokens", 60_000)])
def test_a_field_that_is_read_is_not_given_a_second_time_in_another_spelling(kind: type, field: str, value: Any) -> None:
    with pytest.raises(BadRequest) as refusal:
        read(kind, **{field: value})
    assert refusal.value.param == field


@pytest.mark.parametrize(
    ("kind", "fields", "unbounded"),
    [
        (ChatCall, {"prediction": {"type": "content", "content": "x"}}, "prediction"),
        (ChatCall, {"provider": {"order": ["dear"]}}, "provider"),
        (ChatCall, {"speed": "fast"}, "speed"),
        (ChatCall, {"best_of": 5}, "best_of"),
        (ChatCall, {"search_parameters": {"mode": "on"}}, "search_parameters"),
        (ResponsesCall, {"prompt": {"id": "pmpt_1"}}, "prompt"),
        (ResponsesCall, {"context_management": [{"type": "compaction", "compact_threshold": 1000}]}, "context_management"),
        (AnthropicCall, {"context_management": {"edits": [{"type": "compact_20260112"}]}}, "context_management"),
        (AnthropicCall, {"compaction": {"type": "summarize"}}, "compaction"),
        (CompletionsCall, {"provider": {"order": ["dear"]}}, "provider"),
        (EmbeddingsCall, {"provider": {"order": ["dear"]}}, "provider"),
    ],
)
def test_fields_whose_cost_has_no_bound_are_told(kind: type, fields: dict[str, Any], unbounded: str) -> None:
    call = read(kind, **fields).call
    assert (call.unbounded, call.of_other_models) == ((unbounded,), ())


@pytest.mark.parametrize(
    ("kind", "fields", "field"),
    [
        (ChatCall, {"plugins": [{"id": "web"}]}, "plugins"),
        (AnthropicCall, {"plugins": [{"id": "web"}]}, "plugins"),
        (ChatCall, {"compound_custom": {"models": {"answering_model": "dear"}}}, "compound_custom"),
        (ChatCall, {"providerOptions": {"gateway": {"models": ["dear"]}}}, "providerOptions"),
        (ChatCall, {"tools": [SEARCH]}, "tools"),
        (AnthropicCall, {"tools": [ADVISER]}, "tools"),
        (AnthropicCall, {"tools": [SEARCH]}, "tools"),
        (ResponsesCall, {"tools": [{"type": "image_generation", "svg": {"model": "dear"}}]}, "tools"),
    ],
)
def test_fields_by_which_other_models_may_answer_are_told(kind: type, fields: dict[str, Any], field: str) -> None:
    call = read(kind, **fields).call
    assert (call.unbounded, call.of_other_models) == ((), (field,))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (ChatCall, {"tools": [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "c"}}]}),
        (ChatCall, {"tools": [{"function": {"name": "f"}}], "store": True, "reasoning": {"effort": "low"}}),
        (ResponsesCall, {"tools": [{"type": "image_generation", "model": "gpt-image-2"}], "previous_response_id": "resp_1"}),
        (AnthropicCall, {"tools": [{"type": "web_search_20260209", "name": "web_search"}, {"name": "own", "input_schema": {}}]}),
        (AnthropicCall, {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}, "speed": "fast"}),
    ],
)
def test_what_is_priced_or_free_is_not(kind: type, fields: dict[str, Any]) -> None:
    call = read(kind, **fields).call
    assert (call.unbounded, call.of_other_models) == ((), ())


def test_a_conversation_that_the_provider_keeps_is_part_of_the_input() -> None:
    begun = read(AnthropicCall, thread={"type": "create"}).call.input_bound
    assert begun < 1000
    assert read(AnthropicCall, thread={"type": "continue", "previous_message_id": "msg_1"}).call.input_bound > STORED_TOKENS


def test_embeddings_count_what_they_do_not_read() -> None:
    assert read(EmbeddingsCall, messages=[{"content": "x" * 500}]).call.input_bound > 500


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "m", "messages": [{"role": "user", "content": [{"type": "input_\\u0061udio", "input_\\u0061udio": {"data": "x"}}]}]}',
        b'{"model": "m", "messages": [{"role": "user"}], "context_management": [{"type": "c\\u006fmpaction"}]}',
    ],
    ids=["sound", "compaction"],
)
def test_a_word_is_found_whose_letters_are_escaped(body: bytes) -> None:
    call = ChatCall(body).call
    assert "input_audio" in call.tool_limits and (b"context" not in body or call.unbounded == ("context_management",))
