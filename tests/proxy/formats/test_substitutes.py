"""A request for one model is changed for another one only in what that model rejects."""

import json
from typing import Any

import pytest

from proxy.operations import CHAT_COMPLETIONS, GENERATE_CONTENT, MESSAGES, RESPONSES, BodyOperation
from proxy.pipeline.conversion import plan_request
from proxy.routing.targets import Target
from tests.proxy.routing.routes.conftest import account

SAID = [{"role": "user", "content": "Hi"}]


def sent(
    operation: BodyOperation[Any], provider: str, successor: str, body: dict[str, Any], **url: Any
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the body that is sent to a model that the client did not name, and the dropped fields."""
    client_request = operation.parse(json.dumps(body).encode(), **url)
    target = Target(account(provider), successor, None, is_substitute=True)
    upstream = plan_request(operation, client_request, target).render_upstream(None)
    return json.loads(upstream.body), upstream.dropped


def test_a_chat_request_keeps_unknown_fields_and_loses_sampling() -> None:
    body = {
        "model": "gpt-4o-mini",
        "messages": SAID,
        "temperature": 0.7,
        "max_tokens": 50,
        "seed": 1,
        "new_field": {"a": 1},
    }
    fields, dropped = sent(CHAT_COMPLETIONS, "openai", "gpt-6-luna", body)
    assert fields == {
        "model": "gpt-6-luna",
        "messages": SAID,
        "max_completion_tokens": 50,
        "seed": 1,
        "new_field": {"a": 1},
    }
    assert dropped == ("temperature",)


def test_other_formats_lose_only_what_is_rejected() -> None:
    body: dict[str, Any] = {"model": "gpt-4o", "input": "Hi", "top_p": 0.5, "previous_response_id": "resp_1"}
    fields, dropped = sent(RESPONSES, "openai", "gpt-6-luna", body)
    assert (fields["previous_response_id"], "top_p" in fields, dropped) == ("resp_1", False, ("top_p",))
    body = {"model": "claude-3-opus-20240229", "messages": SAID, "max_tokens": 9, "temperature": 0.2}
    fields, dropped = sent(MESSAGES, "anthropic", "claude-opus-4-8", body)
    assert fields == {"model": "claude-opus-4-8", "messages": SAID, "max_tokens": 9}
    assert dropped == ("temperature",)


def test_a_body_with_unknown_features_is_passed_on_unchanged() -> None:
    body = {"model": "gpt-4o", "input": [{"type": "message", "role": "user", "content": 7}], "top_p": 0.5}
    fields, dropped = sent(RESPONSES, "openai", "gpt-6-luna", body)
    assert (fields, dropped) == ({**body, "model": "gpt-6-luna"}, ())


@pytest.mark.parametrize("temperature", [0.2, 1])
def test_a_body_that_fits_is_not_changed(temperature: float) -> None:
    config = {"temperature": temperature, "maxOutputTokens": 9}
    body = {"contents": [{"parts": [{"text": "Hi"}]}], "generationConfig": config}
    fields, dropped = sent(GENERATE_CONTENT, "gemini", "gemini-3.8-flash", body, model="gemini-1.5-pro")
    assert (fields, dropped) == (body, ())
