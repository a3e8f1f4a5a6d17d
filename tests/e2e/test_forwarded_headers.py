"""Headers and keys that a provider receives, on every gateway route that calls one."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from aiohttp import web

from keys.models import ApiKey
from projects.models import Project
from proxy.http.handler import resolve_route
from proxy.models import Credential
from tests.e2e.test_isolation import BODIES, GATEWAY, fill_path
from tests.support.live_gateway import LiveGateway
from tests.support.upstream_server import LocalUpstream

SENT_BY_GATEWAY = {"host", "accept-encoding", "content-type", "content-length"}
FORWARDED = {"anthropic-version", "anthropic-beta", "openai-beta"}
CREDENTIAL_HEADERS = {"authorization", "x-api-key", "x-goog-api-key"}
SECRET = "sk-of-the-credential-0123456789"
MARK = "mark-of-the-client"
NEVER_FORWARDED = (
    "cookie origin referer user-agent x-forwarded-for forwarded x-real-ip via x-request-id x-custom "
    "proxy-authorization openai-organization openai-project x-stainless-lang traceparent"
)
VENDOR_HEADERS = {"anthropic-version": "2023-06-01", "anthropic-beta": "b", "openai-beta": "b"}
QUERIES: list[str] = []
"""Queries of the requests that the provider has received."""
MODELS = {"openai": "chat/m", "anthropic": "claude/m", "gemini": "google/m"}


@pytest.fixture
def credentials(demo_project: Project, upstream: LocalUpstream) -> None:
    root = upstream.url.removesuffix("/v1")
    for slug, provider, base in (
        ("chat", "openai", upstream.url),
        ("claude", "anthropic", root),
        ("google", "gemini", root),
    ):
        credential = Credential(project=demo_project, slug=slug, provider=provider, base_url=base)
        credential.set_secret(SECRET)
        credential.save()


def calls(token: str) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
    """Yield a request for each route: method, path with the key in the query, and body."""
    for address, operation in GATEWAY:
        if operation.api_family not in MODELS or not operation.method:
            continue
        model = MODELS[operation.api_family]
        values = {"model": model, "deployment": model, "response_id": "resp_1"}
        path = fill_path(address, values)
        body = BODIES.get(operation.name) or BODIES["messages"]
        named = {"model": model} if operation.method == "POST" and operation.api_family != "gemini" else {}
        yield operation.method, f"{path}?key={token}&alt=sse", {**body, **named}


async def respond(request: web.Request, _body: object) -> web.StreamResponse:
    QUERIES.append(request.query_string)
    return web.json_response({"id": "resp_1", "object": "response", "status": "completed", "output": []})


@pytest.mark.usefixtures("credentials")
def test_only_listed_headers_reach_a_provider(
    live_gateway: LiveGateway, demo_project: Project, upstream: LocalUpstream
) -> None:
    _, token = ApiKey.objects.issue(demo_project, "app")
    upstream.handler = respond
    keys = {"authorization": f"Bearer {token}", "x-api-key": token, "x-goog-api-key": token, "api-key": token}
    called: set[str] = set()
    headers = {**dict.fromkeys(NEVER_FORWARDED.split(), MARK), **VENDOR_HEADERS, **keys}
    with httpx.Client(base_url=live_gateway.url, headers=headers) as client:
        client.post("/v1/responses", json={"model": "chat/m", "input": "Hi"})
        for method, path, body in calls(token):
            upstream.requests.clear()
            client.request(method, path, json=body if method == "POST" else None)
            match = resolve_route(path.partition("?")[0])
            assert match is not None
            for call in upstream.requests:
                called.add(match.route)
                sent = f"{call.path} {call.headers} {call.body!r}"
                assert token not in sent and "sk-gw_" not in sent and MARK not in sent, path
                assert call.headers.keys() <= SENT_BY_GATEWAY | FORWARDED | CREDENTIAL_HEADERS, path
                given = [call.headers[name] for name in CREDENTIAL_HEADERS & call.headers.keys()]
                assert len(given) == 1 and given[0].endswith(SECRET), path
    assert len(called) >= 40, sorted(called)
    assert "key=" not in "".join(QUERIES)
