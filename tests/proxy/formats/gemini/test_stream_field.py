"""The field `stream` in a body of Gemini's format asks for a stream, and is never sent to a provider."""

import json
from typing import Any

import httpx
import pytest

from projects.models import Project
from tests.support.api_calls import connect, respond_with_text
from tests.support.live_gateway import only_record
from tests.support.upstream_server import LocalUpstream

BODY = {"contents": [{"role": "user", "parts": [{"text": "Hello!"}]}], "stream": True}
CONVERTED, PASSED = "/gemini/v1/models/gpt-4o-mini", "/gemini/v1beta/models/other/gemini-2.5-flash"


@pytest.fixture
def call(gateway: httpx.Client, upstream: LocalUpstream, demo_project: Project) -> Any:
    """Return a function that posts a body to an operation of a model."""
    connect(demo_project, "gemini", upstream)

    def post(path: str, **fields: Any) -> httpx.Response:
        upstream.handler = respond_with_text("gemini" if path.startswith(PASSED) else "openai_chat", "Hi")
        return gateway.post(path, json={**BODY, **fields})

    return post


@pytest.mark.parametrize("model", [CONVERTED, PASSED])
def test_a_true_field_streams_events(call: Any, upstream: LocalUpstream, model: str) -> None:
    response = call(f"{model}:generateContent")
    assert response.headers["content-type"] == "text/event-stream"
    assert "x-gateway-dropped" not in response.headers
    events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]
    assert "".join(part["text"] for event in events for part in parts_of(event)).strip() == "Hi"
    assert only_record().streamed
    if model == PASSED:
        sent = upstream.requests[0]
        assert sent.path.endswith(":streamGenerateContent") and "stream" not in json.loads(sent.body)


@pytest.mark.parametrize("value", [False, None])
def test_a_false_field_does_not_stream(call: Any, upstream: LocalUpstream, value: bool | None) -> None:
    response = call(f"{PASSED}:generateContent", stream=value)
    assert parts_of(response.json()) and "stream" not in json.loads(upstream.requests[0].body)


def test_the_url_decides_if_it_asks_for_a_stream(call: Any) -> None:
    assert call(f"{PASSED}:streamGenerateContent", stream=False).text.startswith("[")


def test_a_wrong_value_is_an_error(call: Any) -> None:
    response = call(f"{PASSED}:generateContent", stream="yes")
    assert response.status_code == 400 and "stream" in response.json()["error"]["message"]


def parts_of(event: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for candidate in event["candidates"] for part in candidate["content"].get("parts", [])]
