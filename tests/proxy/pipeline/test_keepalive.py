"""Keep-alives while a provider is silent during a stream, in forms that the SDKs ignore."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import anthropic
import httpx
import openai
import pytest
from aiohttp import web
from google import genai
from google.genai import types

from keys.models import ApiKey
from projects.models import Project
from proxy.formats.neutral import Message, Request, Text
from proxy.formats.registry import CODECS
from proxy.http import client_stream
from proxy.models import Credential
from proxy.providers.provider import HTTP_CLIENT
from proxy.runtime import runtime
from proxy.upstream.client import HttpUpstreamClient
from tests.proxy.formats.scenarios import RESPONSES, events
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import LocalUpstream

KEEPALIVE_S, PAUSE_S = 0.05, 0.2
PROVIDERS = {
    "anthropic": "anthropic",
    "gemini": "gemini",
    "openai_chat": "compatible",
    "openai_responses": "openai",
}
CLIENT_REQUEST = Request(model="m", messages=(Message(role="user", parts=(Text(text="Hi"),)),), stream=True)
EXPECTED_TEXT = "".join(part.text for part in RESPONSES["text"].choices[0].parts if isinstance(part, Text))
COMMENT = b": keep-alive\n\n"
KEEPALIVES = {
    "openai_chat": COMMENT,
    "openai_responses": COMMENT,
    "anthropic": b'event: ping\ndata: {"type": "ping"}\n\n',
    "gemini": b'data: {"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"index":0}]}\r\n\r\n',
}
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai_chat": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Hi"}], "stream_options": {"include_usage": True}},
    ),
    "openai_responses": ("/v1/responses", {"input": "Hi"}),
    "anthropic": (
        "/anthropic/v1/messages",
        {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50},
    ),
    "gemini": (
        "/gemini/v1beta/models/other/m:streamGenerateContent?alt=sse",
        {"contents": [{"parts": [{"text": "Hi"}]}]},
    ),
}
PAIRS = [
    (client, provider_format)
    for client in PROVIDERS
    for provider_format in PROVIDERS
    if provider_format != "openai_responses"
    or client == "openai_responses"  # Other clients reach OpenAI through chat completions.
]
pairs = pytest.mark.parametrize(("client", "provider_format"), PAIRS)


@pytest.fixture(autouse=True)
def short_keepalive_interval(
    monkeypatch: pytest.MonkeyPatch, change_environment: Callable[..., None]
) -> None:
    monkeypatch.setattr(client_stream, "KEEPALIVE_INTERVAL_S", KEEPALIVE_S)
    change_environment(gateway_keepalive_after_s=KEEPALIVE_S)


@pytest.fixture
def key(demo_project: Project, upstream: LocalUpstream, provider_format: str) -> str:
    base = upstream.url if provider_format.startswith("openai") else upstream.url.removesuffix("/v1")
    credential = Credential(
        project=demo_project, slug="other", provider=PROVIDERS[provider_format], base_url=base
    )
    credential.set_secret("sk-provider-secret")
    credential.save()
    return ApiKey.objects.issue(demo_project, "sdk")[1]


def pieces(provider_format: str) -> list[bytes]:
    """Return the events of a provider's stream."""
    encoder = CODECS[provider_format].render_stream(CLIENT_REQUEST)
    wire = [encoder.encode(event) for event in events(RESPONSES["text"])]
    return [piece for piece in (*wire, encoder.finish()) if piece]


def plays_stream(upstream: LocalUpstream, stream: list[bytes]) -> None:
    """Let the provider send these chunks, and pause before each empty one."""

    async def answer(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for piece in stream:
            await (response.write(piece) if piece else asyncio.sleep(PAUSE_S))
        return response

    upstream.handler = answer


def with_pauses(provider_format: str) -> list[bytes]:
    first, *rest = pieces(provider_format)
    return [b"", first, b"", *rest]


def read_client_stream(live_gateway: LiveGateway, key: str, client: str, path: str = "") -> bytes:
    address, body = REQUESTS[client]
    request_body = {**body, "model": "other/m", "stream": True} if client != "gemini" else body
    response = httpx.post(
        live_gateway.url + (path or address),
        json=request_body,
        headers={"authorization": f"Bearer {key}"},
        timeout=20,
    )
    assert response.status_code == 200
    return response.content


@pairs
def test_keepalives_are_sent_while_the_provider_is_silent(
    live_gateway: LiveGateway, upstream: LocalUpstream, key: str, client: str, provider_format: str
) -> None:
    plays_stream(upstream, with_pauses(provider_format))
    stream = read_client_stream(live_gateway, key, client)
    assert stream.startswith(KEEPALIVES[client]), stream[:200]
    assert stream.count(KEEPALIVES[client]) >= 2
    assert only_record().outcome == "ok"


@pairs
def test_official_sdks_ignore_keepalives(
    live_gateway: LiveGateway, upstream: LocalUpstream, key: str, client: str, provider_format: str
) -> None:
    plays_stream(upstream, with_pauses(provider_format))
    assert READERS[client](live_gateway.url, key) == EXPECTED_TEXT


def read_messages(url: str, key: str) -> str:
    with anthropic.Anthropic(base_url=f"{url}/anthropic", api_key=key, max_retries=0) as sdk:
        request: Any = {"model": "other/m", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}
        with sdk.messages.stream(**request) as running:
            message = running.get_final_message()
    assert message.stop_reason == "end_turn"
    return "".join(block.text for block in message.content if block.type == "text")


def read_chat(url: str, key: str) -> str:
    request: Any = {"model": "other/m", "messages": [{"role": "user", "content": "Hi"}]}
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as sdk,
        sdk.chat.completions.stream(**request) as running,
    ):
        (choice,) = running.get_final_completion().choices
    assert choice.finish_reason == "stop"
    return choice.message.content or ""


def read_responses(url: str, key: str) -> str:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as sdk:
        *_, last = sdk.responses.create(model="other/m", input="Hi", stream=True)
    assert last.type == "response.completed"
    return last.response.output_text


def read_gemini(url: str, key: str) -> str:
    options = types.HttpOptions(
        base_url=f"{url}/gemini", api_version="v1beta", retry_options=types.HttpRetryOptions(attempts=1)
    )
    with genai.Client(api_key=key, http_options=options) as sdk:
        chat = sdk.chats.create(model="other/m")
        text = "".join(chunk.text or "" for chunk in chat.send_message_stream("Hi"))
        assert len(chat.get_history(curated=True)) > 1
    return text


READERS = {
    "anthropic": read_messages,
    "openai_chat": read_chat,
    "openai_responses": read_responses,
    "gemini": read_gemini,
}


@pytest.mark.parametrize(("client", "provider_format"), [(format, format) for format in PROVIDERS])
def test_keepalive_does_not_split_an_event(
    live_gateway: LiveGateway, upstream: LocalUpstream, key: str, client: str, provider_format: str
) -> None:
    first, second, *rest = pieces(provider_format)
    plays_stream(upstream, [first, second[:9], b"", second[9:-1], b"", second[-1:], b"", *rest])
    stream = read_client_stream(live_gateway, key, client)
    assert stream.replace(KEEPALIVES[client], b"") == b"".join((first, second, *rest))
    assert stream.index(KEEPALIVES[client]) in (len(first), len(first + second))


@pytest.mark.parametrize(("client", "provider_format"), [("gemini", "gemini"), ("gemini", "anthropic")])
def test_keepalives_keep_a_json_array_valid(
    live_gateway: LiveGateway, upstream: LocalUpstream, key: str, client: str, provider_format: str
) -> None:
    plays_stream(upstream, with_pauses(provider_format))
    stream = read_client_stream(
        live_gateway, key, client, "/gemini/v1beta/models/other/m:streamGenerateContent"
    )
    assert stream.startswith(b"\r\n\r\n") and b"\r\n\r\n," in stream
    parts = [part for chunk in json.loads(stream) for part in chunk["candidates"][0]["content"]["parts"]]
    assert "".join(part.get("text", "") for part in parts) == EXPECTED_TEXT


@pytest.mark.parametrize(("client", "provider_format"), [("openai_chat", "openai_chat")])
def test_non_streaming_response_gets_no_keepalives(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    key: str,
    client: str,
    provider_format: str,
    change_environment: Callable[..., None],
) -> None:
    change_environment(gateway_keepalive_after_s=10)

    async def answer(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/json"})
        await response.prepare(request)
        await asyncio.sleep(PAUSE_S)
        await response.write(b"{}")
        return response

    upstream.handler = answer
    assert read_client_stream(live_gateway, key, client).strip() == b"{}"


@pytest.fixture
def short_timeout(live_gateway: LiveGateway) -> Iterator[None]:
    client = runtime.clients[HTTP_CLIENT]
    assert isinstance(client, HttpUpstreamClient)
    before = client.timeouts
    client.timeouts = replace(before, idle_s=5 * KEEPALIVE_S)
    yield
    client.timeouts = before


@pytest.mark.parametrize(
    ("client", "provider_format"), [("anthropic", "anthropic"), ("openai_chat", "gemini")]
)
def test_keepalives_do_not_reset_the_provider_timeout(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    key: str,
    client: str,
    provider_format: str,
    short_timeout: None,
) -> None:
    plays_stream(upstream, [pieces(provider_format)[0], *[b""] * 10])
    stream = read_client_stream(live_gateway, key, client)
    assert stream.count(KEEPALIVES[client]) >= 2 and b"error" in stream.splitlines()[-2]
    assert only_record().outcome == "upstream_error"
