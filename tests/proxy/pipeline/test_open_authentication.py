"""Callers without a key of the gateway, which AI_GATEWAY_AUTH=open allows."""

from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from gateway_project import bootstrap
from gateway_project.bootstrap import get_or_create_anonymous_project
from keys.auth_throttle import anonymous_requests
from keys.models import ApiKey
from projects import config_cache
from projects.models import ANONYMOUS_SLUG, Project
from tests.support.api_calls import RESPONSES
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.operator_accounts import forget_configuration
from tests.support.public_providers import public_providers
from tests.support.upstream_server import LocalUpstream

CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
OWN_KEY = "sk-of-the-caller-0123456789"
ChangeEnvironment = Callable[..., None]


@pytest.fixture
def client(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    transactional_db: None,
    change_environment: ChangeEnvironment,
) -> Iterator[httpx.Client]:
    change_environment(ai_gateway_auth="open")
    get_or_create_anonymous_project()
    with httpx.Client(base_url=live_gateway.url, timeout=20) as client:
        yield client


def chat(client: httpx.Client, **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/v1/chat/completions", json=CHAT, headers=sent)


def test_a_caller_without_a_key_uses_the_operators_account(
    client: httpx.Client, upstream: LocalUpstream
) -> None:
    assert chat(client).status_code == 200
    assert client.get("/v1/models").status_code == 200
    assert upstream.requests[0].headers["authorization"] == "Bearer sk-operator"
    assert only_record(2).project.slug == ANONYMOUS_SLUG


def test_a_model_is_found_with_the_callers_own_key(client: httpx.Client) -> None:
    own = {"authorization": f"Bearer {OWN_KEY}"}
    assert client.get("/v1/models/anthropic/claude-opus-5", headers=own).json()["owned_by"] == "anthropic"
    assert client.get("/v1/models/no-such-model", headers=own).status_code == 404
    assert client.get("/v1/models/anthropic/claude-opus-5").status_code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/openai/v1/chat/completions", CHAT),
        ("/anthropic/v1/messages", {**CHAT, "max_tokens": 9}),
        ("/gemini/v1/models/gpt-4o:generateContent", {"contents": [{"parts": [{"text": "Hi"}]}]}),
        ("/gemini/v1beta/models/gpt-4o:generateContent", {"contents": [{"parts": [{"text": "Hi"}]}]}),
    ],
)
def test_every_format_works_without_a_key(client: httpx.Client, path: str, body: dict[str, Any]) -> None:
    assert client.post(path, json=body).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {OWN_KEY}"},
        {"x_api_key": OWN_KEY},
        {"x_goog_api_key": OWN_KEY},
        {"x_gateway_provider_key": OWN_KEY, "authorization": "Bearer none"},
    ],
)
def test_a_key_that_is_not_the_gateways_is_passed_on(
    client: httpx.Client, upstream: LocalUpstream, headers: dict[str, str]
) -> None:
    assert chat(client, **headers).status_code == 200
    (call,) = upstream.requests
    assert (call.path, call.headers["authorization"]) == ("/v1/chat/completions", f"Bearer {OWN_KEY}")


def test_an_access_token_reaches_no_provider(client: httpx.Client, upstream: LocalUpstream) -> None:
    assert chat(client, authorization="Bearer pat_gw_abcdefghijkl_0123456789").status_code == 401
    assert not upstream.requests


def test_a_key_in_the_query_is_passed_on_in_a_header(client: httpx.Client, upstream: LocalUpstream) -> None:
    assert client.post(f"/v1/chat/completions?key={OWN_KEY}", json=CHAT).status_code == 200
    (call,) = upstream.requests
    assert (call.path, call.headers["authorization"]) == ("/v1/chat/completions", f"Bearer {OWN_KEY}")


def test_a_key_in_the_query_of_a_stored_response_is_not_forwarded_there(
    client: httpx.Client, upstream: LocalUpstream
) -> None:
    queries: list[str] = []

    async def respond(request: web.Request, _body: object) -> web.StreamResponse:
        queries.append(request.query_string)
        return web.json_response(RESPONSES["openai_responses"]("Hello"))

    upstream.handler = respond
    plain_key = "0123456789-without-a-prefix"
    assert client.post(f"/v1/responses?key={plain_key}", json={"model": "gpt-4o", "input": "Hi"}).is_success
    assert client.get(f"/v1/responses/resp_1?key={plain_key}&include[]=x").is_success
    assert queries == ["", "include[]=x"]
    assert upstream.requests[1].headers["authorization"] == f"Bearer {plain_key}"


def test_a_key_of_the_gateway_works_as_usual(client: httpx.Client, upstream: LocalUpstream) -> None:
    own = Project.objects.create_with_owner("Own", uses_operator_credentials=True)
    _, token = ApiKey.objects.issue(own, "app")
    assert chat(client, authorization=f"Bearer {token}").status_code == 200
    assert only_record().project == own
    assert chat(client, authorization=f"Bearer {token}x").status_code == 401
    assert [call.headers["authorization"] for call in upstream.requests] == ["Bearer sk-operator"]


@pytest.mark.databases
def test_each_address_has_its_own_limit(client: httpx.Client, change_environment: ChangeEnvironment) -> None:
    change_environment(ai_gateway_rate_limit_rpm=2, gateway_trusted_proxies=(ip_network("127.0.0.0/8"),))
    replies = [chat(client, x_forwarded_for="192.0.2.1") for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert replies[0].headers["x-ratelimit-limit-requests"] == "2"
    assert "This address may send 2 requests per minute" in replies[2].text
    assert "retry-after" in replies[2].headers
    assert chat(client, x_forwarded_for="192.0.2.2").status_code == 200
    assert chat(client, x_forwarded_for="192.0.2.2, 192.0.2.1").status_code == 429


def test_hits_of_the_cache_count_in_the_limit_of_the_address(
    client: httpx.Client, change_environment: ChangeEnvironment
) -> None:
    change_environment(ai_gateway_rate_limit_rpm=2)
    cached = {**CHAT, "cache": True}
    replies = [client.post("/v1/chat/completions", json=cached) for _ in range(3)]
    assert [reply.headers.get("x-gateway-cache") for reply in replies[:2]] == ["miss", "hit"]
    assert [reply.status_code for reply in replies] == [200, 200, 429]


def test_a_caller_cannot_choose_its_address(
    client: httpx.Client, change_environment: ChangeEnvironment
) -> None:
    change_environment(ai_gateway_rate_limit_rpm=1000)
    replies = [chat(client, x_forwarded_for=f"198.51.100.{number}") for number in range(2)]
    first, second = (int(reply.headers["x-ratelimit-remaining"]) for reply in replies)
    assert second == first - 1


@pytest.mark.parametrize(("rpm", "limit"), [(60, "60"), (0, None), (5, "5")])
def test_the_default_limit_of_an_address(
    client: httpx.Client, change_environment: ChangeEnvironment, rpm: int, limit: str | None
) -> None:
    change_environment(ai_gateway_rate_limit_rpm=rpm)
    assert chat(client).headers.get("x-ratelimit-limit-requests") == limit
    assert client.get("/v1/models").headers.get("x-ratelimit-limit-requests") == limit


def test_requests_without_a_cost_are_limited_too(
    client: httpx.Client, change_environment: ChangeEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_environment(ai_gateway_rate_limit_rpm=3)
    monkeypatch.setattr(anonymous_requests, "clock", lambda: 90.0)  # not at the end of a window
    replies = [client.get("/v1/models") for _ in range(4)]
    assert [reply.status_code for reply in replies] == [200, 200, 200, 429]
    assert "retry-after" in replies[3].headers


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://evil.example", 403),
        ("http://localhost:1", 403),
        ("null", 403),
        ("https://evil.example:8080", 403),
        ("http://localhost:8080", 200),
        ("http://127.0.0.1:8080", 200),
        ("https://chat.example", 200),
        ("tauri://localhost", 200),
        ("vscode-webview://x", 200),
    ],
)
def test_pages_of_other_sites_cannot_use_a_gateway_without_keys(
    client: httpx.Client,
    upstream: LocalUpstream,
    change_environment: ChangeEnvironment,
    origin: str,
    status: int,
) -> None:
    change_environment(port=8080, dashboard_url="https://chat.example/", ai_gateway_rate_limit_rpm=0)
    assert chat(client, origin=origin).status_code == status
    assert len(upstream.requests) == (1 if status == 200 else 0)
    project = Project.objects.get(slug=ANONYMOUS_SLUG)
    _, token = ApiKey.objects.issue(project, "app")
    assert chat(client, origin=origin, authorization=f"Bearer {token}").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8080", 200),
        ("127.0.0.1", 200),
        ("[::1]:8080", 200),
        ("10.0.0.5:8080", 200),
        ("gateway:8080", 200),
        ("gateway.llm.svc.cluster.local", 200),
        ("gateway.example", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example:8080", 403),
        ("gateway.example.evil.example", 403),
    ],
)
def test_a_name_of_another_site_is_rejected_without_a_key(
    client: httpx.Client, change_environment: ChangeEnvironment, token: str, host: str, status: int
) -> None:
    """A page can let the name of its own site resolve to the user's machine."""
    change_environment(gateway_public_url="https://gateway.example")
    response = client.get("/v1/models", headers={"host": host})
    assert response.status_code == status
    assert status == 200 or response.json()["error"]["code"] == "host_not_allowed"
    assert client.get("/v1/models", headers={"host": host, "x-api-key": token}).status_code == 200


def test_pages_of_the_anonymous_projects_origins_can_use_it(
    client: httpx.Client, change_environment: ChangeEnvironment
) -> None:
    origin = "https://app.example.org"
    assert chat(client, origin=origin).status_code == 403
    Project.objects.filter(slug=ANONYMOUS_SLUG).update(allowed_origins=[origin])
    config_cache.clear_all()
    reply = chat(client, origin=origin)
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (200, origin)
    assert chat(client, origin="https://evil.example").status_code == 403


def test_a_routed_host_does_not_receive_the_callers_key(
    client: httpx.Client, upstream: LocalUpstream, change_environment: ChangeEnvironment
) -> None:
    other_host = upstream.url.replace("127.0.0.1", "localhost")
    change_environment(ai_gateway_model_routes=f"llama:{other_host},mine:{upstream.url}")
    forget_configuration()
    try:
        for model in ("llama", "mine"):
            sent = {**CHAT, "model": model}
            reply = client.post(
                "/v1/chat/completions", json=sent, headers={"authorization": f"Bearer {OWN_KEY}"}
            )
            assert reply.status_code == 200
    finally:
        forget_configuration()
    keys = [call.headers.get("authorization") for call in upstream.requests]
    assert keys == [None, f"Bearer {OWN_KEY}"]


@pytest.mark.parametrize(
    ("model", "slug"),
    [
        ("alias", "anthropic"),
        ("claude-haiku-4-5", "anthropic"),
        ("openai/any", "openai"),
        ("homemade", "gemini"),
    ],
)
def test_a_key_reaches_providers_without_an_account_of_the_operator(
    client: httpx.Client,
    upstream: LocalUpstream,
    change_environment: ChangeEnvironment,
    tmp_path: Path,
    model: str,
    slug: str,
) -> None:
    """The local upstream responds in another format, so that only its request matters."""
    config = tmp_path / "gateway.yaml"
    config.write_text("models: [{name: alias, provider: anthropic, model: m}]\ndefault_provider: gemini")
    change_environment(ai_gateway_config=config, openai_api_key="", openai_base_url="")
    forget_configuration()
    try:
        with public_providers(upstream):
            headers = {"authorization": f"Bearer {OWN_KEY}"}
            client.post("/v1/chat/completions", json={**CHAT, "model": model}, headers=headers)
    finally:
        forget_configuration()
    assert upstream.requests[0].path.startswith(f"/public/{slug}/")
    assert OWN_KEY in str(upstream.requests[0].headers)


def test_the_operator_can_revoke_the_key_of_the_anonymous_project(client: httpx.Client) -> None:
    project = Project.objects.get(slug=ANONYMOUS_SLUG)
    ApiKey.objects.issue(project, "of an application")
    ApiKey.objects.filter(project=project).earliest("pk").revoke()
    assert chat(client).status_code == 401


def test_a_key_is_required_by_default(
    client: httpx.Client, change_environment: ChangeEnvironment, upstream: LocalUpstream
) -> None:
    change_environment(ai_gateway_auth="required")
    assert chat(client).status_code == 401
    assert chat(client, authorization=f"Bearer {OWN_KEY}").status_code == 401
    assert not upstream.requests


@pytest.mark.parametrize("path", ["/api/prompt-log", "/api/v1/logs", "/api/v1/logs/1"])
def test_callers_without_a_key_do_not_see_the_requests_of_others(
    client: httpx.Client, upstream: LocalUpstream, path: str
) -> None:
    assert chat(client).status_code == 200
    assert client.get(path).status_code == 403
    key = ApiKey.objects.get(project__slug=ANONYMOUS_SLUG)
    key.scopes = [*key.scopes, "logs:read"]
    key.save()
    config_cache.clear_all()
    assert client.get(path).status_code in (200, 404)


def test_the_start_creates_the_project_if_callers_need_no_key(
    transactional_db: None, change_environment: ChangeEnvironment
) -> None:
    first = bootstrap.prepare_database()
    assert not Project.objects.filter(slug=ANONYMOUS_SLUG).exists()
    change_environment(ai_gateway_auth="open")
    assert first is not None and bootstrap.prepare_database() is None
    project = Project.objects.get(slug=ANONYMOUS_SLUG)
    assert project.memberships.get().user.email == first.email
    assert ApiKey.objects.get(project=project).scopes == bootstrap.ANONYMOUS_SCOPES
    assert "need no API key" in bootstrap.banner(None) and "need no API key" in bootstrap.banner(first)


def test_the_anonymous_project_is_an_ordinary_one(client: httpx.Client) -> None:
    project = get_or_create_anonymous_project()
    assert get_or_create_anonymous_project() == project
    assert (project.uses_operator_credentials, project.accepts_provider_keys) == (True, True)
    assert Project.objects.unique_slug("Anonymous") != project.slug
    project.accepts_provider_keys = False
    project.save()
    config_cache.clear_all()
    assert chat(client, authorization=f"Bearer {OWN_KEY}").status_code == 403
    assert chat(client).status_code == 200
