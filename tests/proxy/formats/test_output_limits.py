"""A budget's output limit replaces the client's limit in its field, so that no other limit applies."""

import json
from typing import Any

import pytest

from proxy.formats.anthropic.passthrough import MessagesRequest
from proxy.formats.gemini.passthrough import GenerateContentRequest
from proxy.formats.neutral import InvalidRequest
from proxy.formats.openai_chat.completions import CreateCompletionRequest
from proxy.formats.openai_chat.passthrough import ChatRequest
from proxy.formats.openai_responses.passthrough import ResponsesRequest
from proxy.formats.quirks import Quirks

GRANTED = 7
MESSAGES = [{"role": "user", "content": "Hi"}]
CONTENTS = [{"parts": [{"text": "Hi"}]}]
OWN_LIMITS: list[tuple[type, str, dict[str, Any], dict[str, Any]]] = [
    (ChatRequest, "gpt-4o-mini", {"messages": MESSAGES}, {"max_tokens": 900}),
    (ChatRequest, "gpt-4o-mini", {"messages": MESSAGES}, {"max_completion_tokens": 900}),
    (ChatRequest, "o3-mini", {"messages": MESSAGES}, {"max_tokens": 900}),
    (ChatRequest, "gpt-4o-mini", {"messages": MESSAGES}, {"max_tokens": 900, "max_completion_tokens": 800}),
    (ResponsesRequest, "gpt-4o-mini", {"input": "Hi"}, {"max_output_tokens": 900}),
    (CreateCompletionRequest, "gpt-3.5-turbo-instruct", {"prompt": "Hi"}, {"max_tokens": 900}),
    (MessagesRequest, "claude-3-5-haiku-latest", {"messages": MESSAGES}, {"max_tokens": 900}),
    (
        GenerateContentRequest,
        "gemini-2.0-flash",
        {"contents": CONTENTS},
        {"generationConfig": {"maxOutputTokens": 900, "topK": 3}},
    ),
    (
        GenerateContentRequest,
        "gemini-2.0-flash",
        {"contents": CONTENTS},
        {"generationConfig": {"max_output_tokens": 900}},
    ),
    (
        GenerateContentRequest,
        "gemini-2.0-flash",
        {"contents": CONTENTS},
        {"generation_config": {"max_output_tokens": 900}},
    ),
    (
        GenerateContentRequest,
        "gemini-2.0-flash",
        {"contents": CONTENTS},
        {"generation_config": {"maxOutputTokens": 900}},
    ),
]


@pytest.mark.parametrize(("call", "model", "fields", "limits"), OWN_LIMITS)
def test_client_limit_is_replaced(
    call: type, model: str, fields: dict[str, Any], limits: dict[str, Any]
) -> None:
    body = {**fields, **limits} if call is GenerateContentRequest else {"model": model, **fields, **limits}
    incoming = call(json.dumps(body).encode(), model)
    assert incoming.facts.max_output_tokens == 900
    sent = json.loads(incoming.upstream_body(model, GRANTED, Quirks()))
    assert limits_in(sent) and set(limits_in(sent)) == {GRANTED}
    assert sent.keys() == body.keys()


@pytest.mark.parametrize(("call", "model", "fields", "limits"), OWN_LIMITS)
def test_missing_limit_is_added_once(
    call: type, model: str, fields: dict[str, Any], limits: dict[str, Any]
) -> None:
    body = fields if call is GenerateContentRequest else {"model": model, **fields}
    incoming = call(json.dumps(body).encode(), model)
    assert incoming.facts.max_output_tokens is None
    assert limits_in(json.loads(incoming.upstream_body(model, GRANTED, Quirks()))) == [GRANTED]


def test_hidden_billed_completions_are_counted() -> None:
    fields = CreateCompletionRequest(b'{"model": "a", "prompt": ["x", "y"], "best_of": 5}')
    assert fields.facts.n == 10


def limits_in(value: Any) -> list[int]:
    """Return all numbers, at any depth, under a name that limits tokens."""
    if not isinstance(value, dict):
        return []
    own = [each for name, each in value.items() if name.lower().startswith("max") and isinstance(each, int)]
    return own + [each for inner in value.values() for each in limits_in(inner)]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"generationConfig": {"maxOutputTokens": 5, "max_output_tokens": 60_000}}, "maxOutputTokens"),
        ({"generation_config": {"candidateCount": 1, "candidate_count": 8}}, "candidateCount"),
        ({"generationConfig": {}, "generation_config": {"maxOutputTokens": 60_000}}, "generationConfig"),
        ({"systemInstruction": "a", "system_instruction": "b" * 3000}, "systemInstruction"),
        ({"cachedContent": "cachedContents/a", "cached_content": "cachedContents/b"}, "cachedContent"),
        ({"serviceTier": "standard", "service_tier": "priority"}, "serviceTier"),
    ],
)
def test_field_in_both_spellings_is_rejected(given: dict[str, Any], field: str) -> None:
    """The budget would reserve the value of one spelling, and the provider might obey the other."""
    with pytest.raises(InvalidRequest) as rejected:
        GenerateContentRequest(json.dumps({"contents": CONTENTS, **given}).encode(), "gemini-2.0-flash")
    assert rejected.value.param == field
