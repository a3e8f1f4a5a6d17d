"""Attempts to bypass a hard budget, by requests that cost more than their reservation."""

import json
from typing import Any

import httpx
import pytest
from aiohttp import web
from django.conf import settings

from billing.models import Budget, Outcome, PriceOverride
from billing.pricing import bundled_price
from keys.models import ApiKey
from projects.models import Project
from proxy.models import Credential
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import USAGE, LocalUpstream

USD = 10**9
MODEL = "gpt-4o-mini"
MESSAGES = [{"role": "user", "content": "Hi"}]
CHAT, RESPONSES, ANTHROPIC, COMPLETIONS, EMBEDDINGS = (
    f"/v1/{name}" for name in ("chat/completions", "responses", "messages", "completions", "embeddings")
)
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": MESSAGES, "max_tokens": 50},
    RESPONSES: {"input": "Hi", "max_output_tokens": 50},
    ANTHROPIC: {"messages": MESSAGES, "max_tokens": 50},
    COMPLETIONS: {"prompt": "Hi", "max_tokens": 50},
    EMBEDDINGS: {"input": "Hi"},
}
QUEUED_RESPONSES: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "status": "queued",
    "output": [],
    "error": None,
    "usage": None,
}
PRICE = bundled_price("openai", MODEL)


def token_of(project: Project, mode: str = "hard", limit: int = USD, models: tuple[str, ...] = ()) -> str:
    """Return the token of a key that has a budget."""
    key, token = ApiKey.objects.issue(project, "budgeted", allowed_models=list(models))
    Budget.objects.create(project=project, key=key, period="day", limit_nano=limit, mode=mode)
    return token


def post(gateway: LiveGateway, token: str, path: str, model: str = MODEL, **fields: Any) -> httpx.Response:
    body = {"model": model, **BODIES[path], **fields}
    return httpx.post(
        f"{gateway.url}{path}", json=body, headers={"authorization": f"Bearer {token}"}, timeout=20
    )


def respond_with(*, status: int = 200, text: str = "", content_type: str = "application/json") -> Any:
    async def respond(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=status, text=text, content_type=content_type)

    return respond


def credential(project: Project, provider: str, upstream: LocalUpstream) -> None:
    stored = Credential(
        project=project, slug="other", provider=provider, base_url=upstream.url.removesuffix("/v1")
    )
    stored.set_secret("sk-provider-secret")
    stored.save()


@pytest.mark.databases
@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        (RESPONSES, "background", True),
        (CHAT, "deferred", True),
        (CHAT, "models", ["dear"]),
        (RESPONSES, "models", ["dear"]),
        (RESPONSES, "preset", "pro-search"),
        (COMPLETIONS, "models", ["dear"]),
        (EMBEDDINGS, "models", ["dear"]),
    ],
)
def test_it_rejects_async_and_model_override_fields(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    path: str,
    field: str,
    value: Any,
) -> None:
    response = post(live_gateway, token_of(demo_project), path, **{field: value})
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (400, "invalid_request", field)
    assert not upstream.requests
    assert (only_record().outcome, only_record().reserved_nano) == (Outcome.INVALID_REQUEST, None)


def test_it_rejects_fallbacks_in_the_client_format(
    live_gateway: LiveGateway, upstream: LocalUpstream, token: str
) -> None:
    """Keys without a budget get this error too, because another model would have another price."""
    response = post(live_gateway, token, ANTHROPIC, fallbacks=[{"model": "dear"}])
    assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")
    assert "The field fallbacks lets the provider use another model" in response.json()["error"]["message"]
    assert not upstream.requests


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"GenerationConfig": {"maxOutputTokens": 60_000}}, "GenerationConfig"),
        (
            {"generationConfig": {"maxOutputTokens": 9, "MaxOutputTokens": 60_000}},
            "generationConfig.MaxOutputTokens",
        ),
        ({"generationConfig": {"CandidateCount": 8}}, "generationConfig.CandidateCount"),
    ],
)
def test_a_limit_in_another_spelling_is_not_sent_beside_the_gateways(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    fields: dict[str, Any],
    name: str,
) -> None:
    credential(demo_project, "gemini", upstream)
    body = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], **fields}
    url = f"{live_gateway.url}/v1beta/models/other/gemini-2.5-flash:generateContent"
    response = httpx.post(
        url, json=body, headers={"authorization": f"Bearer {token_of(demo_project)}"}, timeout=20
    )
    assert (response.status_code, response.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert f"The field {name} must be written" in response.json()["error"]["message"]
    assert not upstream.requests and only_record().outcome == Outcome.INVALID_REQUEST


@pytest.mark.databases
@pytest.mark.parametrize(("mode", "output"), [("hard", 50), ("soft", 0)])
@pytest.mark.parametrize(
    "body", [QUEUED_RESPONSES, QUEUED_RESPONSES | {"status": "in_progress"}], ids=["queued", "in progress"]
)
def test_queued_response_costs_the_full_reservation(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    body: dict[str, Any],
    mode: str,
    output: int,
) -> None:
    upstream.handler = respond_with(text=json.dumps(body))
    response = post(live_gateway, token_of(demo_project, mode), RESPONSES)
    assert (response.status_code, response.json()) == (200, body)
    record = only_record()
    assert PRICE is not None and (record.output_tokens, record.estimated) == (output, True)
    assert record.cost_nano == PRICE.cost(record.tokens) > 0


@pytest.mark.parametrize(
    ("path", "text", "status"),
    [
        (CHAT, '{"request_id": "f15c114e-f47d-40ca-8d5c-8c23d656eeb6"}', 200),
        (CHAT, "", 202),
        (CHAT, '{"choices": []}', 200),
        (COMPLETIONS, '{"id": "a"}', 200),
        (ANTHROPIC, '{"id": "a"}', 200),
        (ANTHROPIC, "<html>", 200),
    ],
    ids=["a bare id", "nothing", "no choices", "completions", "converted", "converted, unreadable"],
)
def test_response_without_output_costs_the_full_reservation(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    path: str,
    text: str,
    status: int,
) -> None:
    upstream.handler = respond_with(status=status, text=text)
    post(live_gateway, token_of(demo_project), path)
    assert (only_record().output_tokens, only_record().estimated) == (50, True)


def test_response_with_visible_output_costs_that_output(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    upstream.handler = respond_with(
        text=json.dumps({"choices": [{"message": {"role": "assistant", "content": "Hello"}}]})
    )
    post(live_gateway, token_of(demo_project), CHAT)
    assert only_record().output_tokens == 1


def test_embeddings_are_charged_without_output(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    upstream.handler = respond_with(text='{"data": [{"embedding": [0.1]}]}')
    assert post(live_gateway, token_of(demo_project), EMBEDDINGS, "text-embedding-3-small").status_code == 200
    assert only_record().output_tokens == 0


@pytest.mark.parametrize(
    ("text", "output", "estimated"), [(json.dumps({"usage": USAGE}), 20, False), ('{"id": "a"}', 50, True)]
)
def test_non_streaming_response_to_a_stream_request_is_charged(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    text: str,
    output: int,
    estimated: bool,
) -> None:
    upstream.handler = respond_with(text=text)
    assert post(live_gateway, token_of(demo_project), CHAT, stream=True).text == text
    assert (only_record().output_tokens, only_record().estimated) == (output, estimated)


def test_unconvertible_non_streaming_response_is_charged(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    upstream.handler = respond_with(text='{"id": "a"}')
    post(live_gateway, token_of(demo_project), ANTHROPIC, stream=True)
    assert (only_record().output_tokens, only_record().estimated) == (50, True)


@pytest.mark.databases
@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, {"prediction": {"type": "content", "content": "x"}}),
        (CHAT, {"plugins": [{"id": "web"}]}),
        (CHAT, {"tools": [{"type": "openrouter:web_search"}]}),
        (RESPONSES, {"prompt": {"id": "pmpt_1"}}),
    ],
)
def test_unbounded_cost_is_rejected_only_with_a_hard_budget(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    path: str,
    fields: dict[str, Any],
) -> None:
    credential(
        demo_project, "openai", upstream
    )  # In an account that projects share, no stored prompt can be named.
    response = post(live_gateway, token_of(demo_project), path, **fields)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, "cost_not_bounded", *fields)
    assert only_record().outcome == Outcome.BUDGET_EXCEEDED and not upstream.requests
    assert post(live_gateway, token_of(demo_project, "soft"), path, **fields).status_code == 200
    assert set(fields) < json.loads(upstream.requests[0].body).keys()


def test_fields_that_a_conversion_drops_cost_nothing(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    credential(demo_project, "anthropic", upstream)
    upstream.handler = respond_with(
        text=json.dumps({"content": [], "usage": {"input_tokens": 1, "output_tokens": 1}})
    )
    token = token_of(demo_project)
    fields = {"prediction": {"type": "content", "content": "x"}}
    assert post(live_gateway, token, CHAT, "other/claude-sonnet-4-6", **fields).status_code == 200
    assert "prediction" not in json.loads(upstream.requests[0].body)


def test_operator_setting_allows_unbounded_and_unpriced(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GATEWAY_UNPRICED=open allows them, like models without a price."""
    monkeypatch.setattr(settings, "ENV", settings.ENV.model_copy(update={"gateway_unpriced": "open"}))
    assert post(live_gateway, token_of(demo_project), CHAT, plugins=[{"id": "web"}]).status_code == 200


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, {"plugins": [{"id": "fusion"}]}),
        (ANTHROPIC, {"tools": [{"type": "advisor_20260301", "name": "advisor", "model": "dear"}]}),
    ],
)
def test_a_key_limited_to_models_cannot_reach_others(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    path: str,
    fields: dict[str, Any],
) -> None:
    credential(demo_project, "anthropic", upstream)
    model = "other/claude-sonnet-4-6" if path == ANTHROPIC else MODEL
    _, restricted = ApiKey.objects.issue(demo_project, "restricted", allowed_models=[model])
    _, free = ApiKey.objects.issue(demo_project, "free")
    response = post(live_gateway, restricted, path, model, **fields)
    assert (
        response.status_code == 403
        and f"the field {next(iter(fields))} may select others" in response.json()["error"]["message"]
    )
    assert not upstream.requests
    assert post(live_gateway, free, path, model, **fields).status_code == 200


@pytest.mark.parametrize(("model", "status"), [("claude-opus-4-6", 400), ("claude-opus-4-8", 200)])
def test_premium_tier_requires_a_price(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, model: str, status: int
) -> None:
    credential(demo_project, "anthropic", upstream)
    upstream.handler = respond_with(
        text=json.dumps({"content": [], "usage": {"input_tokens": 1, "output_tokens": 1}})
    )
    response = post(live_gateway, token_of(demo_project), ANTHROPIC, f"other/{model}", speed="fast")
    assert response.status_code == status, response.text


def test_override_price_applies_in_every_tier(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    PriceOverride.objects.create(project=demo_project, model="house-model", input_nano=USD, output_nano=USD)
    assert (
        post(
            live_gateway, token_of(demo_project), CHAT, "openai/house-model", service_tier="priority"
        ).status_code
        == 200
    )


@pytest.mark.parametrize("path", [CHAT, ANTHROPIC])
def test_a_budget_lowers_limits_and_never_raises_one(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    """The larger limit is reserved, because a provider could apply either of them."""
    monkeypatch.setattr(settings, "ENV", settings.ENV.model_copy(update={"gateway_max_tokens": "clamp"}))
    limits: dict[str, Any] = {"max_tokens": 100_000, "max_completion_tokens": 50}
    credential(demo_project, "anthropic", upstream)
    token = token_of(demo_project, limit=500 * (600 if path == CHAT else 15_000))
    if path == CHAT:
        response = post(live_gateway, token, CHAT, service_tier="default", **limits)
    else:
        upstream.handler = respond_with(
            text=json.dumps({"content": [], "usage": {"input_tokens": 1, "output_tokens": 1}})
        )
        response = post(live_gateway, token, CHAT, "other/claude-haiku-4-5", **limits)
    assert response.status_code == 200, response.text
    granted = int(response.headers["x-gateway-max-tokens"])
    sent = json.loads(upstream.requests[0].body)
    assert 50 < granted < 2000
    expected = {"max_tokens": granted, "max_completion_tokens": 50} if path == CHAT else {"max_tokens": 50}
    assert {name: sent[name] for name in sent if name in limits} == expected
