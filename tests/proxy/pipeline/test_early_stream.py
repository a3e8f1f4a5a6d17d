"""Streams whose provider responds late: keep-alives, and then the response or an error event."""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from aiohttp import web

from keys.models import ApiKey
from projects.models import Project
from proxy.formats.neutral import PartDelta
from proxy.formats.registry import CODECS
from proxy.models import Credential
from tests.proxy.formats.scenarios import RESPONSES
from tests.proxy.pipeline.test_keepalive import CLIENT_REQUEST, EXPECTED_TEXT, KEEPALIVES, pieces
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.sdks import PROVIDERS
from tests.support.upstream_server import LocalUpstream

AFTER_S, PAUSE_S = 0.02, 0.15
MESSAGES = [{"role": "user", "content": "Hi"}]
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai_chat": (
        "/v1/chat/completions",
        {"messages": MESSAGES, "stream_options": {"include_usage": True}},
    ),
    "openai_responses": ("/v1/responses", {"input": "Hi"}),
    "anthropic": ("/v1/messages", {"messages": MESSAGES, "max_tokens": 50}),
    "gemini": (
        "/gemini/v1beta/models/other/m:streamGenerateContent?alt=sse",
        {"contents": [{"parts": [{"text": "Hi"}]}]},
    ),
}
GEMINI_ARRAY = "/gemini/v1beta/models/other/m:streamGenerateContent"
ERROR_EVENTS = {
    "openai_chat": ("error", "message"),
    "openai_responses": ("response", "error", "message"),
    "anthropic": ("error", "message"),
    "gemini": ("error", "message"),
}
formats = pytest.mark.parametrize("provider_format", list(PROVIDERS))


@pytest.fixture(autouse=True)
def short_wait(change_environment: Callable[..., None]) -> None:
    change_environment(
        gateway_keepalive_after_s=AFTER_S, ai_gateway_retry_attempts=1, ai_gateway_retry_delay_ms=0
    )


@pytest.fixture
def provider_format() -> str:
    return "openai_chat"


@pytest.fixture
def provider_key(demo_project: Project, upstream: LocalUpstream, provider_format: str) -> str:
    base = upstream.url if provider_format.startswith("openai") else upstream.url.removesuffix("/v1")
    credential = Credential(
        project=demo_project, slug="other", provider=PROVIDERS[provider_format], base_url=base
    )
    credential.set_secret("sk-provider-secret")
    credential.save()
    return ApiKey.objects.issue(demo_project, "sdk")[1]


def ask(
    gateway: LiveGateway, token: str, format: str, path: str = "", *, stream: bool = True, **fields: Any
) -> httpx.Response:
    url, body = REQUESTS[format]
    if format != "gemini":
        body = {**body, "model": "other/m", "stream": stream, **fields}
    headers = {"authorization": f"Bearer {token}", "x-request-id": "mine"}
    return httpx.post(gateway.url + (path or url), json=body, headers=headers, timeout=20)


def respond_after(pause_s: float, *responses: Any) -> Any:
    """Return a handler that sends the next response of the list, after a pause, for each call."""
    left = list(responses)

    async def answer(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        sent = left.pop(0) if len(left) > 1 else left[0]
        await asyncio.sleep(pause_s)
        if isinstance(sent, tuple):
            status, text = sent
            return web.Response(status=status, text=text, content_type="application/json")
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for piece in sent:
            await response.write(piece)
        return response

    return answer


def failed(format: str) -> tuple[int, str]:
    error = {"message": "The model is overloaded.", "type": "x", "code": 503, "status": "UNAVAILABLE"}
    return 503, json.dumps({"error": error, **({"type": "error"} if format == "anthropic" else {})})


def last_event(text: str) -> dict[str, Any]:
    data = [line for line in text.splitlines() if line.startswith("data: {")][-1]
    event: dict[str, Any] = json.loads(data.removeprefix("data: "))
    return event


@formats
def test_keepalives_precede_a_late_stream(
    live_gateway: LiveGateway, upstream: LocalUpstream, provider_key: str, provider_format: str
) -> None:
    stream = pieces(provider_format)
    upstream.handler = respond_after(PAUSE_S, stream)
    response = ask(live_gateway, provider_key, provider_format)
    assert response.status_code == 200
    assert response.content == KEEPALIVES[provider_format] + b"".join(stream)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-request-id"] == "mine"
    unknown = ("x-gateway-provider", "x-gateway-model", "x-gateway-attempts")
    assert not any(name in response.headers for name in unknown)
    record = only_record()
    assert (record.outcome, record.status_code, record.provider) == ("ok", 200, "other")


@formats
def test_a_late_error_is_an_event(
    live_gateway: LiveGateway, upstream: LocalUpstream, provider_key: str, provider_format: str
) -> None:
    upstream.handler = respond_after(PAUSE_S, failed(provider_format))
    response = ask(live_gateway, provider_key, provider_format)
    assert response.status_code == 200 and response.content.startswith(KEEPALIVES[provider_format])
    value: Any = last_event(response.text)
    for name in ERROR_EVENTS[provider_format]:
        value = value[name]
    assert "The model is overloaded." in value
    record = only_record()
    assert (record.outcome, record.status_code) == ("upstream_error", 503)
    assert len(upstream.requests) == 2


@formats
def test_an_early_error_keeps_its_status(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    provider_key: str,
    provider_format: str,
    change_environment: Callable[..., None],
) -> None:
    change_environment(gateway_keepalive_after_s=10)
    upstream.handler = respond_after(0, failed(provider_format))
    response = ask(live_gateway, provider_key, provider_format)
    assert (response.status_code, response.text) == failed(provider_format)
    assert response.headers["x-gateway-attempts"] == "2"


@formats
def test_a_server_that_does_not_stream_gets_its_response_converted(
    live_gateway: LiveGateway, upstream: LocalUpstream, provider_key: str, provider_format: str
) -> None:
    body = CODECS[provider_format].render_response(RESPONSES["text"], CLIENT_REQUEST).decode()
    upstream.handler = respond_after(PAUSE_S, (200, body))
    response = ask(live_gateway, provider_key, provider_format)
    assert response.headers["content-type"].startswith("text/event-stream")
    decoder = CODECS[provider_format].parse_stream()
    events = [*decoder.feed(response.content), *decoder.finish()]
    assert "".join(event.text for event in events if isinstance(event, PartDelta)) == EXPECTED_TEXT
    assert only_record().outcome == "ok"


@pytest.mark.parametrize(
    ("late", "expected"),
    [
        (failed("openai_chat"), "overloaded"),
        ((200, '{"object": "text_completion", "choices": []}'), "[DONE]"),
    ],
)
def test_a_late_text_completion_is_sent_as_events(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    provider_key: str,
    provider_format: str,
    late: tuple[int, str],
    expected: str,
) -> None:
    upstream.handler = respond_after(PAUSE_S, late)
    response = ask(live_gateway, provider_key, provider_format, "/v1/completions", prompt="Hi")
    assert response.status_code == 200 and response.text.startswith(": keep-alive\n\ndata: {")
    assert expected in response.text.splitlines()[-2]
    assert only_record().status_code == late[0]


def test_keepalives_continue_over_a_retry(
    live_gateway: LiveGateway, upstream: LocalUpstream, provider_key: str, provider_format: str
) -> None:
    stream = pieces(provider_format)
    upstream.handler = respond_after(PAUSE_S, failed(provider_format), stream)
    response = ask(live_gateway, provider_key, provider_format)
    assert response.content == KEEPALIVES[provider_format] + b"".join(stream)
    assert len(upstream.requests) == 2
    assert only_record().outcome == "ok"


@pytest.mark.parametrize("provider_format", ["gemini"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_late_json_array_is_valid(
    live_gateway: LiveGateway, upstream: LocalUpstream, provider_key: str, provider_format: str, fails: bool
) -> None:
    upstream.handler = respond_after(PAUSE_S, failed("gemini") if fails else pieces("gemini"))
    response = ask(live_gateway, provider_key, provider_format, GEMINI_ARRAY)
    assert response.text.startswith("\r\n") and ("error" in response.json()[-1]) == fails


def test_a_client_that_does_not_stream_gets_nothing_early(
    live_gateway: LiveGateway, upstream: LocalUpstream, provider_key: str, provider_format: str
) -> None:
    upstream.handler = respond_after(PAUSE_S, failed(provider_format))
    response = ask(live_gateway, provider_key, provider_format, stream=False)
    assert (response.status_code, response.text) == failed(provider_format)


def test_a_request_that_waits_for_an_identical_one_gets_keepalives(
    live_gateway: LiveGateway, upstream: LocalUpstream, provider_key: str, provider_format: str
) -> None:
    stream = pieces(provider_format)
    upstream.handler = respond_after(PAUSE_S, stream)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask, live_gateway, provider_key, provider_format, cache=True) for _ in range(2)]
        responses = [each.result() for each in asked]
    expected = KEEPALIVES[provider_format] + b"".join(stream)
    assert [response.content for response in responses] == [expected] * 2
    assert len(upstream.requests) == 1


def test_a_disconnect_after_an_early_start_closes_the_call(
    live_gateway: LiveGateway, upstream: LocalUpstream, provider_key: str
) -> None:
    upstream.handler = respond_after(30, [b""])
    url, body = REQUESTS["openai_chat"]
    request = {"model": "other/m", "stream": True, **body}
    headers = {"authorization": f"Bearer {provider_key}"}
    with httpx.stream("POST", live_gateway.url + url, json=request, headers=headers, timeout=20) as response:
        assert next(response.iter_raw()) == KEEPALIVES["openai_chat"]
    assert upstream.requests[-1].closed.wait(2)
    assert only_record().outcome == "client_closed"
