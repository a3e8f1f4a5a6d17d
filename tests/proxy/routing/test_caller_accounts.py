"""Requests with the caller's own key for the provider."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from aiohttp import web
from django.apps import apps
from django.conf import settings

from billing.models import Outcome
from keys.models import ApiKey
from projects import config_cache
from projects.models import Project
from proxy.models import Credential, Route
from proxy.providers.catalog import PROVIDERS
from proxy.routing.accounts import Account
from proxy.routing.caller_accounts import account_with_key
from tests.support.api_calls import FORMATS, MODELS, PATHS, respond_with_text
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.public_providers import public_providers
from tests.support.upstream_server import LocalUpstream

OWN_KEY = "0123456789abcdef-key-of-the-caller"
"""A key without a known prefix, so that no pattern redacts it."""
SLUGS = {
    "openai_chat": "openai",
    "openai_responses": "openai",
    "anthropic": "anthropic",
    "gemini": "gemini",
}
KEY_HEADERS = {"openai": "authorization", "anthropic": "x-api-key", "gemini": "x-goog-api-key"}
CHAT: dict[str, Any] = {"model": "openai/gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(autouse=True)
def own_urls(upstream: LocalUpstream) -> Iterator[None]:
    with public_providers(upstream):
        yield


@pytest.fixture
def tenant(transactional_db: None) -> Project:
    """Project that accepts provider keys and may not use the operator's accounts."""
    return Project.objects.create_with_owner("Tenant", slug="tenant", accepts_provider_keys=True)


@pytest.fixture
def client(live_gateway: LiveGateway, tenant: Project, upstream: LocalUpstream) -> Iterator[httpx.Client]:
    _, token = ApiKey.objects.issue(tenant, "app")
    headers = {"x-gateway-provider-key": OWN_KEY, "authorization": f"Bearer {token}"}
    with httpx.Client(base_url=live_gateway.url, headers=headers, timeout=20) as client:
        yield client


def body_of(format: str, model: str) -> tuple[str, dict[str, Any]]:
    if format == "gemini":
        contents = [{"role": "user", "parts": [{"text": "Hi"}]}]
        return f"/v1beta/models/{model}:generateContent", {"contents": contents}
    prompt = {"input": "Hi"} if format == "openai_responses" else {"messages": CHAT["messages"]}
    return PATHS[format], {"model": model, "max_tokens" if format == "anthropic" else "user": 9, **prompt}


@pytest.mark.parametrize("format", FORMATS)
def test_the_providers_own_url_receives_the_callers_key_alone(
    client: httpx.Client, upstream: LocalUpstream, format: str
) -> None:
    upstream.handler = respond_with_text(format, "Hello")
    slug = SLUGS[format]
    path, body = body_of(format, f"{slug}/{MODELS[format]}")
    body.pop("user", None)
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    (call,) = upstream.requests
    assert call.path.startswith(f"/public/{slug}/")
    assert OWN_KEY in call.headers[KEY_HEADERS[slug]]
    assert "sk-gw_" not in str(call.headers) and "x-gateway-provider-key" not in call.headers
    assert response.headers["x-gateway-provider"] == slug


@pytest.mark.parametrize("model", ["gpt-4o", "mine/gpt-4o", "gpt-4o-mini"])
def test_a_credentials_url_does_not_receive_the_callers_key(
    client: httpx.Client, tenant: Project, upstream: LocalUpstream, model: str
) -> None:
    stored = Credential(
        project=tenant, slug="mine", provider="openai", base_url=upstream.url, model_names=["gpt-4o-mini"]
    )
    stored.set_secret("sk-of-the-project-0123456789")
    stored.save()
    assert client.post("/v1/chat/completions", json={**CHAT, "model": model}).status_code == 200
    (call,) = upstream.requests
    assert call.path == "/public/openai/chat/completions"
    assert call.headers["authorization"] == f"Bearer {OWN_KEY}"


@pytest.mark.parametrize("model", ["local/llama", "azure/gpt-4o", "ollama/llama"])
def test_a_server_without_a_public_url_is_not_called(
    client: httpx.Client, tenant: Project, upstream: LocalUpstream, model: str
) -> None:
    Credential.objects.create(project=tenant, slug="local", provider="compatible", base_url=upstream.url)
    response = client.post("/v1/chat/completions", json={**CHAT, "model": model})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "provider_key_unusable")
    assert not upstream.requests


def test_the_key_goes_to_one_provider_although_the_route_has_others(
    client: httpx.Client, tenant: Project, upstream: LocalUpstream
) -> None:
    for slug, provider in (("first", "openai"), ("second", "openai"), ("third", "anthropic")):
        Credential.objects.create(project=tenant, slug=slug, provider=provider)
    targets = [{"provider": slug, "model": MODELS["openai_chat"]} for slug in ("first", "second")]
    targets.append({"provider": "third", "model": MODELS["anthropic"]})
    Route.objects.create(project=tenant, name="alias", targets=targets)

    async def fail(_request: web.Request, _body: object) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no"}}, status=401)

    upstream.handler = fail
    assert client.post("/v1/chat/completions", json={**CHAT, "model": "alias"}).status_code == 401
    assert [call.path for call in upstream.requests] == ["/public/openai/chat/completions"]


def test_a_model_is_found_at_the_provider_of_the_callers_key(client: httpx.Client) -> None:
    for model, owner in (("gpt-4o-mini", "openai"), ("anthropic/claude-opus-5", "anthropic")):
        found = client.get(f"/v1/models/{model}")
        assert (found.status_code, found.json()["owned_by"]) == (200, owner)
    assert client.get("/v1/models/no-such-model").status_code == 404
    without_key = {"x-gateway-provider-key": ""}
    assert client.get("/v1/models/gpt-4o-mini", headers=without_key).status_code == 404


def test_the_demo_needs_no_key(client: httpx.Client) -> None:
    assert client.post("/v1/chat/completions", json={**CHAT, "model": "demo/chat"}).status_code == 200


def test_a_project_accepts_no_provider_keys_by_default(
    client: httpx.Client, tenant: Project, upstream: LocalUpstream
) -> None:
    tenant.accepts_provider_keys = False
    tenant.save()
    response = client.post("/v1/chat/completions", json=CHAT)
    assert (response.status_code, response.json()["error"]["code"]) == (403, "provider_key_not_accepted")
    assert only_record().outcome == Outcome.FORBIDDEN
    assert not upstream.requests and not Project._meta.get_field("accepts_provider_keys").default


@pytest.mark.parametrize(
    "key", ["two words", "sk-gw_abcdefghijkl_x", "pat_gw_abcdefghijkl_x", "x" * 2001, "schlüssel"]
)
def test_a_malformed_provider_key_is_rejected(
    client: httpx.Client, upstream: LocalUpstream, key: str
) -> None:
    headers = {b"x-gateway-provider-key": key.encode()}
    response = client.post("/v1/chat/completions", json=CHAT, headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "provider_key_malformed")
    assert key not in response.text and not upstream.requests


def test_a_refused_key_is_the_callers_own_error_without_the_key(
    client: httpx.Client, upstream: LocalUpstream
) -> None:
    async def refuse(_request: web.Request, _body: object) -> web.StreamResponse:
        error = {"message": f"Incorrect API key provided: {OWN_KEY}.", "code": "invalid_api_key"}
        return web.json_response({"error": error}, status=401)

    upstream.handler = refuse
    response = client.post("/v1/chat/completions", json=CHAT)
    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
    assert OWN_KEY not in response.text and "Incorrect API key provided" in response.text
    converted = client.post("/v1/messages", json={**CHAT, "max_tokens": 9})
    assert (converted.status_code, converted.json()["error"]["type"]) == (401, "authentication_error")
    assert OWN_KEY not in converted.text


def test_the_key_is_neither_stored_nor_logged(
    client: httpx.Client, upstream: LocalUpstream, capfd: pytest.CaptureFixture[str]
) -> None:
    statuses = [
        client.post("/v1/chat/completions", json={**CHAT, "model": model}).status_code
        for model in ("openai/gpt-4o", "nowhere/x", f"openai/{OWN_KEY}")
    ]
    assert statuses == [200, 404, 200]
    only_record(3)
    assert OWN_KEY not in "".join(capfd.readouterr()).replace(f"openai/{OWN_KEY}", "")
    client.post("/v1/chat/completions", json=CHAT, headers={"idempotency-key": "once"})
    rows = [str(row) for model in apps.get_models() for row in model._default_manager.values()]
    assert OWN_KEY not in "".join(rows).replace(f"openai/{OWN_KEY}", "").replace(f"'{OWN_KEY}'", "")


@pytest.mark.databases
def test_budgets_and_rate_limits_still_apply(
    client: httpx.Client, tenant: Project, upstream: LocalUpstream
) -> None:
    budget = tenant.budgets.create(period="day", limit_nano=1)
    denied = client.post("/v1/chat/completions", json=CHAT)
    assert (denied.status_code, denied.json()["error"]["code"]) == (429, "insufficient_quota")
    budget.delete()
    tenant.rpm_limit = 1
    tenant.save()
    config_cache.clear_all()
    statuses = [client.post("/v1/chat/completions", json=CHAT).status_code for _ in range(2)]
    assert statuses == [200, 429] and len(upstream.requests) == 1
    record = only_record(3)
    assert record.outcome == Outcome.RATE_LIMITED


def test_a_stored_response_is_found_with_the_same_key_only(
    client: httpx.Client, tenant: Project, upstream: LocalUpstream
) -> None:
    """Ids pass as in a project's own account, although the operator's account may serve the project too."""
    Project.objects.create_with_owner("Other", uses_operator_credentials=True)
    tenant.uses_operator_credentials = True
    tenant.save()
    upstream.handler = respond_with_text("openai_responses", "Hello")
    question = {"model": "openai/gpt-4o", "input": "Hi", "previous_response_id": "resp_from_elsewhere"}
    assert client.post("/v1/responses", json=question).status_code == 200
    assert client.get("/v1/responses/resp_1").status_code == 200
    assert upstream.requests[-1].headers["authorization"] == f"Bearer {OWN_KEY}"
    del client.headers["x-gateway-provider-key"]
    assert client.get("/v1/responses/resp_1").status_code == 404
    assert client.post("/v1/responses", json=question).status_code == 404
    assert len(upstream.requests) == 2


def test_a_cached_response_is_found_with_the_same_key_only(
    client: httpx.Client, tenant: Project, upstream: LocalUpstream
) -> None:
    Credential.objects.create(project=tenant, slug="openai", provider="openai", base_url=upstream.url)
    cached = {**CHAT, "cache": True}
    keys = ("", OWN_KEY, "another-key-0123456789", OWN_KEY, "")
    statuses = []
    for key in keys:
        response = client.post("/v1/chat/completions", json=cached, headers={"x-gateway-provider-key": key})
        statuses.append(response.headers["x-gateway-cache"])
    assert statuses == ["miss", "miss", "miss", "hit", "hit"] and len(upstream.requests) == 3


def test_tokens_are_counted_with_the_callers_key(client: httpx.Client, upstream: LocalUpstream) -> None:
    body = {"model": "anthropic/claude-haiku-4-5", "messages": CHAT["messages"]}
    assert client.post("/v1/messages/count_tokens", json=body).status_code == 200
    (call,) = upstream.requests
    assert (call.path, call.headers["x-api-key"]) == ("/public/anthropic/v1/messages/count_tokens", OWN_KEY)


def test_a_background_response_would_need_the_key_later(
    client: httpx.Client, upstream: LocalUpstream
) -> None:
    question = {"model": "openai/gpt-4o", "input": "Hi", "background": True}
    response = client.post("/v1/responses", json=question)
    assert response.status_code == 400 and "does not store" in response.json()["error"]["message"]
    assert not upstream.requests


def test_the_operators_urls_receive_keys_of_callers_by_one_rule() -> None:
    provider = PROVIDERS["openai"]
    account = Account("openai", provider, "http://llm.internal/v1", "sk-operator", trusted=True)
    permitted = Account(
        "openai", provider, "http://llm.internal/v1", "sk", trusted=True, permits_caller_keys=True
    )
    own = account_with_key(account, OWN_KEY, is_anonymous=False)
    assert own is not None and (own.base_url, own.trusted) == (provider.base_url, False)
    assert account_with_key(account, OWN_KEY, is_anonymous=True) is account
    passed = account_with_key(permitted, OWN_KEY, is_anonymous=True)
    assert passed is not None and (passed.base_url, passed.secret) == (permitted.base_url, OWN_KEY)
    assert not passed.can_be_shared and OWN_KEY not in repr(passed)
    assert settings.ENV.ai_gateway_auth == "required"
