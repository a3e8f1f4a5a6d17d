"""Prompts and responses of requests to the running gateway, as the log stores them."""

import httpx
import pytest
from aiohttp import web

from keys.models import ApiKey
from projects.models import Project
from projects.vault import DecryptionError
from proxy.models import PromptLogEntry
from proxy.prompt_log.body import unseal_body
from tests.support.api_calls import FORMATS, STREAMS, ask, connect, respond_with_text
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.prompt_log import logged_bodies, set_prompt_log
from tests.support.upstream_server import LocalUpstream

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("prompt_log")]
MESSAGES = [{"role": "user", "content": "Hi, I am jane@example.org"}]
CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES, "max_tokens": 50}


@pytest.mark.parametrize("provider_format", ["anthropic", "gemini"])
def test_prompts_are_logged_in_every_format_converted_or_not(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    token: str,
    provider_format: str,
) -> None:
    connect(demo_project, provider_format, upstream)
    upstream.handler = respond_with_text(provider_format, "Hello ", pieces=2)
    for format in FORMATS:
        for stream in (False, True):
            response = ask(
                live_gateway, token, format, stream=stream, limit=50, provider_format=provider_format
            )
            assert response.status_code == 200, response.text
    bodies = logged_bodies(8)
    assert [body.prompt for body in bodies] == ["Hi"] * 8
    assert [body.response.strip() for body in bodies] == ["Hello", "Hello Hello"] * 4
    assert not any(body.is_interrupted or body.request_body for body in bodies)


def test_a_preview_is_redacted_and_short(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    upstream.handler = respond_with_text("openai_chat", "Call +49 30 12345678. " + "x" * 600)
    gateway.post("/v1/chat/completions", json=CHAT)
    (body,) = logged_bodies(1)
    assert body.prompt == "Hi, I am [email]"
    assert body.response.startswith("Call [phone]. xxx") and len(body.response) == 501
    assert only_record().pk == PromptLogEntry.objects.get().pk


def test_full_bodies_are_logged_if_the_project_wants_them(
    gateway: httpx.Client, upstream: LocalUpstream, demo_project: Project
) -> None:
    set_prompt_log(demo_project, mode="full", patterns=[r"secret-\d{1,4}"])
    upstream.handler = respond_with_text("openai_chat", "About secret-17: " + "x" * 600)
    gateway.post("/v1/chat/completions", json={**CHAT, "top_p": 0.5})
    gateway.post("/v1/chat/completions", json={**CHAT, "stream": True})
    whole, streamed = logged_bodies(2)
    redacted = [{"role": "user", "content": "Hi, I am [email]"}]
    assert whole.request_body == {**CHAT, "messages": redacted, "top_p": 0.5}
    text = "About [redacted]: " + "x" * 600
    assert whole.response_body["choices"][0]["message"]["content"] == text
    assert streamed.response_body == text and streamed.response.startswith("About [redacted]")


def test_nothing_is_logged_if_it_is_turned_off(
    gateway: httpx.Client, demo_project: Project, key: ApiKey
) -> None:
    gateway.post("/v1/chat/completions", json=CHAT, headers={"x-gateway-log": "off"})
    set_prompt_log(demo_project, mode="off")
    gateway.post("/v1/chat/completions", json=CHAT)
    set_prompt_log(demo_project, mode="preview")
    gateway.post("/v1/chat/completions", json={**CHAT, "messages": [{"role": "user", "content": "Last"}]})
    assert [body.prompt for body in logged_bodies(1)] == ["Last"]


def test_an_unknown_value_of_the_log_header_is_a_400(gateway: httpx.Client) -> None:
    response = gateway.post("/v1/chat/completions", json=CHAT, headers={"x-gateway-log": "never"})
    assert response.status_code == 400 and "on or off" in response.json()["error"]["message"]


def test_a_malformed_tag_header_is_a_400_in_the_clients_format(gateway: httpx.Client) -> None:
    body = {"model": "demo/chat", "max_tokens": 9, "messages": MESSAGES}
    response = gateway.post("/v1/messages", json=body, headers={"x-gateway-metadata": "team"})
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_replayed_response_is_logged_too(gateway: httpx.Client) -> None:
    for _ in range(2):
        gateway.post("/v1/chat/completions", json=CHAT, headers={"idempotency-key": "once"})
    first, replayed = logged_bodies(2)
    assert first == replayed and first.response == "Hello there"


def test_errors_are_logged_as_the_client_gets_them(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    async def fail(_request: web.Request, body: object) -> web.StreamResponse:
        return web.json_response({"error": {"message": "Overloaded by jane@example.org"}}, status=400)

    upstream.handler = fail
    gateway.post("/v1/chat/completions", json=CHAT)
    gateway.post("/v1/chat/completions", json={**CHAT, "model": "mistral/small"})
    provider_error, own_error = logged_bodies(2)
    assert provider_error.response == "Overloaded by [email]"
    assert "mistral" in own_error.response


def test_a_stream_that_fails_is_logged_as_interrupted(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    async def end_early(request: web.Request, _body: object) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"".join(STREAMS["openai_chat"]("Half", {}, 1)[:1]))
        return response

    upstream.handler = end_early
    gateway.post("/v1/chat/completions", json={**CHAT, "stream": True})
    upstream.handler = respond_with_text("openai_chat", "Whole")
    gateway.post("/v1/chat/completions", json={**CHAT, "stream": True})
    half, whole = logged_bodies(2)
    assert half.is_interrupted and half.response.startswith("Half")
    assert not whole.is_interrupted and whole.response == "Whole"


def test_a_long_stream_is_read_in_segments(
    gateway: httpx.Client, upstream: LocalUpstream, demo_project: Project
) -> None:
    set_prompt_log(demo_project, mode="full")
    upstream.handler = respond_with_text("openai_chat", "word " * 1000, pieces=40)
    gateway.post("/v1/chat/completions", json={**CHAT, "stream": True})
    (body,) = logged_bodies(1)
    assert body.response_body == "word " * 40_000


def test_tags_are_kept_on_the_record(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    body = {**CHAT, "metadata": {"team": "search", "user_id": "u1", "key": "sk-proj-abcdefghijklmnopqrstuvw"}}
    gateway.post("/v1/chat/completions", json=body, headers={"x-gateway-metadata": "env=test"})
    assert only_record().metadata == {"team": "search", "env": "test", "key": "sk-…"}
    assert "x-gateway-metadata" not in upstream.requests[0].headers
    logged_bodies(1)


def test_entries_cannot_be_read_as_those_of_another_project(
    gateway: httpx.Client, demo_project: Project
) -> None:
    gateway.post("/v1/chat/completions", json=CHAT)
    logged_bodies(1)
    sealed = bytes(PromptLogEntry.objects.get().sealed_body)
    assert b"Hi, I am" not in sealed
    with pytest.raises(DecryptionError):
        unseal_body(demo_project.pk + 1, sealed)
