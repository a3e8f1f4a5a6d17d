"""Errors of providers, as clients get them: rejected keys, retry times, prompts that are too long."""

import json
from typing import Any

import httpx
import pytest
from aiohttp import web

from projects.models import Project
from tests.support.api_calls import ACCOUNTS, FORMATS, STREAMS, ask, connect
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import LocalUpstream

PAIRS = [
    (client, provider)
    for client in FORMATS
    for provider in FORMATS
    if (provider == "openai_responses") <= (client == provider)
    and (client, provider) != ("openai_responses", "openai_chat")
]
"""Formats of clients and providers.

A client of an OpenAI format always gets an account with the same format.
"""
SECRET = "sk-proj-0123456789abcdefghij"
REFUSED_KEYS: dict[str, tuple[int, dict[str, Any]]] = {
    "openai_chat": (
        401,
        {"error": {"message": f"Incorrect API key provided: {SECRET}.", "code": "invalid_api_key"}},
    ),
    "openai_responses": (401, {"error": {"message": f"Incorrect API key provided: {SECRET}."}}),
    "anthropic": (
        401,
        {
            "type": "error",
            "error": {"type": "authentication_error", "message": f"invalid x-api-key {SECRET}"},
        },
    ),
    "gemini": (
        400,
        {
            "error": {
                "code": 400,
                "message": f"API key not valid: {SECRET}.",
                "status": "INVALID_ARGUMENT",
                "details": [{"reason": "API_KEY_INVALID"}],
            }
        },
    ),
}
RATE_LIMITS: dict[str, dict[str, Any]] = {
    "openai_chat": {"error": {"message": "slow", "type": "requests", "code": "rate_limit_exceeded"}},
    "openai_responses": {"error": {"message": "slow", "type": "requests", "code": "rate_limit_exceeded"}},
    "anthropic": {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}},
    "gemini": {"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED"}},
}


def fail_with(status: int, body: dict[str, Any], **headers: str) -> Any:
    async def respond(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(body, status=status, headers=headers)

    return respond


@pytest.fixture
def call(live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, token: str) -> Any:
    """Return a function that sends a request in one format to a provider of another format."""

    def send(client: str, provider: str, *, stream: bool = False) -> httpx.Response:
        connect(demo_project, provider, upstream)
        return ask(live_gateway, token, client, stream=stream, limit=9, provider_format=provider)

    return send


@pytest.mark.parametrize("status", [None, 403])
@pytest.mark.parametrize(("client", "provider"), PAIRS)
def test_refusal_of_the_providers_key_is_not_one_of_the_callers_key(
    call: Any, upstream: LocalUpstream, client: str, provider: str, status: int | None
) -> None:
    own_status, body = REFUSED_KEYS[provider]
    upstream.handler = fail_with(status or own_status, body)
    response = call(client, provider)
    assert response.status_code == 502
    assert response.headers["x-should-retry"] == "false"
    assert SECRET not in response.text
    message = response.json()["error"]["message"]
    assert ACCOUNTS[provider] in message and "Your gateway API key was accepted" in message
    kinds = {"openai_chat": "code", "openai_responses": "code", "anthropic": "type", "gemini": "status"}
    expected = {"anthropic": "api_error", "gemini": "UNAVAILABLE"}.get(client, "provider_auth_error")
    assert response.json()["error"][kinds[client]] == expected
    record = only_record()
    assert (record.status_code, record.error, record.cost_nano) == (502, "provider_auth_error", 0)


@pytest.mark.parametrize(("client", "provider"), PAIRS)
def test_refusal_of_the_providers_key_in_a_stream_is_not_one_either(
    call: Any, upstream: LocalUpstream, client: str, provider: str
) -> None:
    _, body = REFUSED_KEYS[provider]
    if provider.startswith("openai"):
        body = {"error": body["error"] | {"code": "invalid_api_key"}}

    async def refuse(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"event: error\ndata: " + json.dumps(body).encode() + b"\n\n")
        return response

    upstream.handler = refuse
    response = call(client, provider, stream=True)
    assert SECRET not in response.text and "Your gateway API key was accepted" in response.text
    assert "authentication_error" not in response.text and "invalid_api_key" not in response.text
    assert only_record().error == "provider_auth_error"


@pytest.mark.parametrize("same_chunk", [True, False])
@pytest.mark.parametrize("format", FORMATS)
def test_refusal_of_the_providers_key_within_a_stream_is_not_one_either(
    call: Any, upstream: LocalUpstream, format: str, same_chunk: bool
) -> None:
    _, body = REFUSED_KEYS[format]
    if format.startswith("openai"):
        body = {"error": body["error"] | {"code": "invalid_api_key"}}
    refusal = b"event: error\ndata: " + json.dumps(body).encode() + b"\n\n"
    stream = STREAMS[format]("Hello", None, 1)
    pieces = stream[: 1 + next(index for index, piece in enumerate(stream) if b"Hello" in piece)]

    async def refuse(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for piece in [*pieces[:-1], pieces[-1] + refusal] if same_chunk else [*pieces, refusal]:
            await response.write(piece)
        return response

    upstream.handler = refuse
    response = call(format, format, stream=True)
    assert "Hello" in response.text and "Your gateway API key was accepted" in response.text
    assert SECRET not in response.text
    record = only_record()
    assert (record.status_code, record.error) == (502, "provider_auth_error")
    assert record.tokens.output > 0


@pytest.mark.parametrize(("client", "provider"), PAIRS)
def test_headers_that_say_when_to_retry_reach_the_client(
    call: Any, upstream: LocalUpstream, client: str, provider: str
) -> None:
    sent = {"retry-after": "17", "retry-after-ms": "16500", "x-should-retry": "false"}
    upstream.handler = fail_with(429, RATE_LIMITS[provider], **sent)
    response = call(client, provider)
    assert response.status_code == 429
    assert {name: response.headers[name] for name in sent} == sent


@pytest.mark.parametrize("delay", ["16.2s", {"seconds": "16", "nanos": 200_000_000}])
@pytest.mark.parametrize("client", FORMATS)
def test_retry_delay_of_gemini_becomes_a_header(
    call: Any, upstream: LocalUpstream, client: str, delay: Any
) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]
    upstream.handler = fail_with(429, {"error": RATE_LIMITS["gemini"]["error"] | {"details": details}})
    response = call(client, "gemini")
    assert (response.headers["retry-after"], response.headers["retry-after-ms"]) == ("17", "16200")


def test_fraction_of_a_second_is_rounded_up(call: Any, upstream: LocalUpstream) -> None:
    upstream.handler = fail_with(429, RATE_LIMITS["openai_chat"], **{"retry-after": "0.4"})
    response = call("openai_chat", "openai_chat")
    assert (response.headers["retry-after"], response.headers["retry-after-ms"]) == ("1", "400")


def test_date_of_a_retry_stays(call: Any, upstream: LocalUpstream) -> None:
    date = "Mon, 30 Nov 2026 10:00:00 GMT"
    upstream.handler = fail_with(429, RATE_LIMITS["openai_chat"], **{"retry-after": date})
    assert call("anthropic", "openai_chat").headers["retry-after"] == date


def test_gemini_clients_find_the_delay_in_the_body(call: Any, upstream: LocalUpstream) -> None:
    upstream.handler = fail_with(429, RATE_LIMITS["openai_chat"], **{"retry-after": "17"})
    details = call("gemini", "openai_chat").json()["error"]["details"]
    assert [detail["retryDelay"] for detail in details if "retryDelay" in detail] == ["17s"]


@pytest.mark.parametrize("client", FORMATS)
def test_overload_keeps_its_status(call: Any, upstream: LocalUpstream, client: str) -> None:
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    upstream.handler = fail_with(529, overloaded, **{"retry-after": "3"})
    response = call(client, "anthropic")
    assert (response.status_code, response.headers["retry-after"]) == (529, "3")
    if client == "anthropic":
        assert response.json() == overloaded


@pytest.mark.parametrize("status", [503, 529])
def test_overload_of_any_provider_is_one_for_anthropic_clients(
    call: Any, upstream: LocalUpstream, status: int
) -> None:
    upstream.handler = fail_with(status, {"error": {"message": "The engine is overloaded."}})
    response = call("anthropic", "openai_chat")
    assert (response.status_code, response.json()["error"]["type"]) == (status, "overloaded_error")


def test_streamed_responses_fail_as_openai_fails_them(call: Any, upstream: LocalUpstream) -> None:
    too_long = {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long"}}
    upstream.handler = fail_with(400, too_long)
    response = call("openai_responses", "anthropic", stream=True)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream")
    failed = json.loads(response.text.partition("event: response.failed\ndata: ")[2].split("\n")[0])
    assert failed["response"]["error"]["code"] == "context_length_exceeded"
    assert only_record().status_code == 400


def test_compatible_servers_words_become_those_of_the_format(call: Any, upstream: LocalUpstream) -> None:
    """Claude Code recognizes only Anthropic's text, but other servers of its format may send other texts."""
    message = "This model's maximum context length is 128000 tokens. However, you requested 130000 tokens."
    upstream.handler = fail_with(
        400, {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    )
    error = call("anthropic", "anthropic").json()["error"]
    assert error["message"] == "prompt is too long: 130000 tokens > 128000 maximum"


def test_keys_in_an_error_that_passes_unchanged_are_removed(call: Any, upstream: LocalUpstream) -> None:
    upstream.handler = fail_with(400, {"error": {"message": f"Bad header {SECRET}", "extra": 1}})
    response = call("openai_chat", "openai_chat")
    assert response.json() == {"error": {"message": "Bad header sk-…", "extra": 1}}


def test_refused_content_is_no_refused_key(call: Any, upstream: LocalUpstream) -> None:
    flagged = {"error": {"code": 403, "message": "Flagged", "metadata": {"reasons": ["violence"]}}}
    upstream.handler = fail_with(403, flagged)
    assert call("anthropic", "openai_chat").status_code == 403
