"""Streams with a correct HTTP body that the provider ends before the response is complete.

The client gets an error event in its format, and the record contains the failure.
"""

import json
from typing import Any

import httpx
import pytest
from aiohttp import web

from billing.models import Outcome
from keys.models import ApiKey
from projects.models import Project
from proxy.formats.registry import CODECS
from proxy.models import Credential
from tests.proxy.formats.scenarios import RESPONSES, events
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.sdks import CLIENT_REQUEST, PROVIDERS
from tests.support.upstream_server import LocalUpstream

pytestmark = pytest.mark.databases

MESSAGES: list[dict[str, str]] = [{"role": "user", "content": "Hi"}]
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "openai_chat": ("/openai/v1/chat/completions", {"messages": MESSAGES}),
    "openai_responses": ("/openai/v1/responses", {"input": "Hi"}),
    "anthropic": ("/anthropic/v1/messages", {"messages": MESSAGES, "max_tokens": 50}),
    "gemini": (
        "/v1beta/models/other/m:streamGenerateContent?alt=sse",
        {"contents": [{"parts": [{"text": "Hi"}]}]},
    ),
}
SAME = [(name, name) for name in CODECS]
CONVERTED = [
    ("openai_chat", "anthropic"),
    ("openai_responses", "gemini"),
    ("anthropic", "openai_chat"),
    ("gemini", "anthropic"),
]
EVENTS_OF_HALF_AN_ANSWER = 3


def ending_after(upstream: LocalUpstream, provider: str, count: int, rest: bytes = b"") -> None:
    """Let the provider send the first `count` events of a response, and then end the body correctly."""

    async def answer(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        encoder = CODECS[provider].render_stream(CLIENT_REQUEST)
        for event in events(RESPONSES["text"])[:count]:
            await response.write(encoder.encode(event))
        await response.write(rest)
        await response.write_eof()
        return response

    upstream.handler = answer


def key_of(project: Project, provider: str, base: str) -> str:
    base = base if provider.startswith("openai") else base.removesuffix("/v1")
    credential = Credential(project=project, slug="other", provider=PROVIDERS[provider], base_url=base)
    credential.set_secret("sk-provider-secret")
    credential.save()
    return ApiKey.objects.issue(project, "app")[1]


def ask(gateway: LiveGateway, key: str, client: str) -> list[dict[str, Any]]:
    """Return the content of the events of a streamed response."""
    path, body = ASKED[client]
    streamed = body if client == "gemini" else {**body, "model": "other/m", "stream": True}
    headers = {"authorization": f"Bearer {key}", "x-request-id": "req_mine"}
    response = httpx.post(f"{gateway.url}{path}", json=streamed, headers=headers, timeout=20)
    assert response.status_code == 200 and "[DONE]" not in response.text
    return [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]


def error_of(client: str, events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the error in the last event, where a client of this format reads it."""
    if client == "openai_responses" and events[-1]["type"] == "response.failed":
        events = events[:-1]
    if client in ("anthropic", "openai_responses"):
        assert events[-1]["type"] == "error"
    error: dict[str, Any] = events[-1]["error"]
    return error


@pytest.mark.parametrize(("client", "provider"), SAME + CONVERTED)
@pytest.mark.parametrize("count", [0, EVENTS_OF_HALF_AN_ANSWER])
def test_the_client_gets_an_error_in_its_format_and_the_record_too(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    client: str,
    provider: str,
    count: int,
) -> None:
    key = key_of(demo_project, provider, upstream.url)
    ending_after(upstream, provider, count)
    events = ask(live_gateway, key, client)
    assert error_of(client, events)["message"] and "req_mine" in json.dumps(events[-2:])
    record = only_record()
    assert (record.outcome, record.status_code, record.error) == (
        Outcome.UPSTREAM_ERROR,
        502,
        "upstream_unreachable",
    )
    assert record.estimated and bool(record.output_tokens) == bool(count) and record.prompt_tokens > 0


@pytest.mark.parametrize(
    ("provider", "last"),
    [
        ("openai_chat", b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'),
        ("gemini", b'data: {"candidates":[{"index":0,"finishReason":"STOP"}]}\r\n\r\n'),
    ],
)
def test_a_finish_reason_completes_streams_without_a_final_event(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    provider: str,
    last: bytes,
) -> None:
    key = key_of(demo_project, provider, upstream.url)
    ending_after(upstream, provider, EVENTS_OF_HALF_AN_ANSWER, last)
    events = ask(live_gateway, key, provider)
    assert not any("error" in event for event in events)
    assert only_record().outcome == Outcome.OK
