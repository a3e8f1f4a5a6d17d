"""A test of a credential calls the provider once, at a URL that costs nothing, and explains a failure."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from proxy.providers import key_check
from proxy.providers.catalog import CATALOG, DEMO, PROVIDERS
from proxy.providers.provider import Provider
from tests.support.upstream_server import LocalUpstream

SECRET = "0123456789abcdef-without-a-prefix"
PATHS = {
    "anthropic": "/v1/models",
    "gemini": "/v1beta/models",
    "azure": "/v1/openai/models",
    "openrouter": "/v1/key",
}
"""Path of the request at a server whose base URL ends in /v1; /v1/models for all other providers."""


@pytest.fixture
def server() -> Iterator[LocalUpstream]:
    upstream = LocalUpstream().start()
    yield upstream
    upstream.stop()


def reply_with(status: int, body: bytes = b"{}", **headers: str) -> Any:
    async def respond(_request: web.Request, _body: object) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers=headers)

    return respond


def check(server: LocalUpstream, provider: Provider) -> str:
    return asyncio.run(key_check.check(provider, server.url, SECRET))


def test_each_provider_is_called_at_a_free_url_with_its_key(server: LocalUpstream) -> None:
    server.handler = reply_with(200)
    providers = [provider for provider in CATALOG if provider.slug != DEMO]
    for provider in providers:
        assert check(server, provider) == ""
        call = server.requests.pop()
        assert call.path == PATHS.get(provider.slug, "/v1/models")
        assert call.headers[provider.key_header].endswith(SECRET)
        assert not call.body


@pytest.mark.parametrize(
    ("provider", "body", "message"),
    [
        ("openai", b'{"error": {"message": "Incorrect API key provided: %s"}}', "Incorrect API key provided"),
        (
            "anthropic",
            b'{"type": "error", "error": {"type": "a", "message": "invalid x-api-key %s"}}',
            "x-api",
        ),
        ("gemini", b'{"error": {"code": 400, "message": "API key not valid %s"}}', "API key not valid"),
        ("compatible", b'{"detail": "Sign in %s"}', "Sign in"),
    ],
)
def test_the_providers_own_error_is_shown_without_the_key(
    server: LocalUpstream, provider: str, body: bytes, message: str
) -> None:
    server.handler = reply_with(401, body % SECRET.encode())
    reason = check(server, PROVIDERS[provider])
    assert reason.startswith(f"{PROVIDERS[provider].name} responded with status 401: ")
    assert message in reason and SECRET not in reason


def test_a_redirect_is_a_failure(server: LocalUpstream) -> None:
    server.handler = reply_with(302, location=f"{server.url}/elsewhere")
    assert "redirects to another URL" in check(server, PROVIDERS["openai"])
    assert len(server.requests) == 1


def test_a_long_response_with_odd_characters_is_shortened(server: LocalUpstream) -> None:
    message = b'{"error": {"message": "\\u0000\\ud800' + b"x" * 1000 + b'"}}'
    server.handler = reply_with(500, message)
    reason = check(server, PROVIDERS["openai"])
    assert len(reason) <= key_check.MAX_MESSAGE_LENGTH + 1 and reason.isprintable()
    reason.encode()


def test_an_endless_response_is_not_read_to_its_end(server: LocalUpstream) -> None:
    async def stream(request: web.Request, _body: object) -> web.StreamResponse:
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)

    server.handler = stream
    assert "status 500" in check(server, PROVIDERS["openai"])


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:1/v1", "connection failed"),
        ("http://10.0.0.1/v1", "private address"),
        ("http://nowhere.invalid/v1", "cannot be resolved"),
    ],
)
@pytest.mark.usefixtures("resolver")
def test_a_server_that_cannot_be_reached_is_explained(url: str, reason: str) -> None:
    assert reason in asyncio.run(key_check.check(PROVIDERS["compatible"], url, SECRET))
