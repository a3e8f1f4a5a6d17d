"""Service tiers without a known price are denied by a hard budget, and flagged if a response has one."""

from typing import Any

import httpx
import pytest
from aiohttp import web
from django.urls import reverse
from structlog.testing import CapturingLogger

from billing.models import Budget, PriceOverride
from billing.pricing import Tokens, bundled_price
from keys.models import ApiKey
from projects.models import Project, Role, User
from proxy.pipeline import charges
from tests.support.api_calls import (
    COMPLETE_USAGE,
    PATHS,
    RESPONSES,
    STREAMS,
    Json,
    connect,
    usage_field,
)
from tests.support.factories import signed_in
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import LocalUpstream

USD = 10**9
MESSAGES = [{"role": "user", "content": "Hi"}]
BODIES: dict[str, Json] = {
    "openai_chat": {"model": "gpt-6-astra", "messages": MESSAGES, "max_tokens": 50},
    "openai_responses": {"model": "gpt-6-astra", "input": "Hi", "max_output_tokens": 50},
    "anthropic": {"model": "other/claude-opus-5", "messages": MESSAGES, "max_tokens": 50},
    "gemini": {"contents": [{"parts": [{"text": "Hi"}]}], "generationConfig": {"maxOutputTokens": 50}},
}
GEMINI_PATH = "/v1beta/models/other/gemini-2.5-flash:generateContent"


def token_of(project: Project, mode: str = "hard") -> str:
    key, token = ApiKey.objects.issue(project, "budgeted")
    Budget.objects.create(project=project, key=key, period="day", limit_nano=100 * USD, mode=mode)
    return token


def post(gateway: LiveGateway, token: str, path: str, body: Json) -> httpx.Response:
    headers = {"authorization": f"Bearer {token}"}
    return httpx.post(f"{gateway.url}{path}", json=body, headers=headers, timeout=20)


def send(gateway: LiveGateway, token: str, format: str, **fields: Any) -> httpx.Response:
    return post(gateway, token, PATHS.get(format, GEMINI_PATH), BODIES[format] | fields)


def respond(format: str, **fields: Any) -> Any:
    """Return a handler that responds in a format, with further fields in the response or its usage."""
    usage = dict(COMPLETE_USAGE[format])

    async def handle(request: web.Request, _body: Json) -> web.StreamResponse:
        body = RESPONSES[format]("Hello") | usage_field(format, usage)
        if format in ("anthropic", "gemini"):
            body[next(iter(usage_field(format, usage)))] = usage | fields
        else:
            body |= fields
        return web.json_response(body)

    return handle


# Requests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "fields"),
    [
        ("openai_chat", {"service_tier": "ultrafast"}),
        ("openai_chat", {"service_tier": "unheard-of"}),
        ("openai_chat", {"service_tier": " ULTRAFAST "}),
        ("openai_chat", {"service_tier": ["ultrafast"]}),
        ("openai_chat", {"service_tier": "batch"}),
        ("openai_chat", {"service_tier": "us"}),
        ("openai_chat", {"service_tier": "flex_us"}),
        ("openai_chat", {"service_tier": "priority", "model": "gpt-5-nano"}),
        ("openai_responses", {"service_tier": "ultrafast"}),
        ("openai_responses", {"service_tier": "unheard-of"}),
        ("anthropic", {"speed": "ludicrous"}),
        ("anthropic", {"speed": "batch"}),
        ("anthropic", {"speed": "us"}),
        ("anthropic", {"service_tier": "fast"}),
        ("gemini", {"serviceTier": "global"}),
        ("anthropic", {"speed": "fast", "model": "other/claude-haiku-4-5"}),
        ("anthropic", {"service_tier": "unheard-of"}),
        ("anthropic", {"inference_geo": "eu"}),
        ("gemini", {"serviceTier": "priority"}),
        ("gemini", {"serviceTier": "unheard-of"}),
        ("gemini", {"service_tier": "SERVICE_TIER_PRIORITY"}),
    ],
)
def test_hard_budget_refuses_a_tier_that_the_price_does_not_know(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, format: str, fields: Json
) -> None:
    connect(demo_project, format, upstream)
    response = send(live_gateway, token_of(demo_project), format, **fields)
    assert response.status_code == 400
    field = next(name for name in fields if name != "model")
    assert field.lower().replace("_", "") in response.json()["error"]["message"].lower().replace("_", "")
    assert not upstream.requests
    record = only_record()
    assert (record.outcome, record.cost_nano) == ("budget", 0)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings"])
@pytest.mark.parametrize("field", ["service_tier", "Service_Tier"])
def test_other_operations_refuse_it_too(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, path: str, field: str
) -> None:
    model = {"/v1/completions": "gpt-3.5-turbo-instruct", "/v1/embeddings": "text-embedding-3-small"}[path]
    body = {"model": model, "prompt": "Hi", "input": "Hi", "max_tokens": 5, field: "ultrafast"}
    response = post(live_gateway, token_of(demo_project), path, body)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "cost_not_bounded")
    assert not upstream.requests


@pytest.mark.parametrize(
    ("format", "fields"),
    [
        *[
            ("openai_chat", {"service_tier": tier})
            for tier in ("auto", "default", "flex", "priority", "fast")
        ],
        ("openai_chat", {"service_tier": None}),
        ("openai_responses", {"service_tier": "fast"}),
        ("anthropic", {"service_tier": "standard_only", "speed": "standard", "inference_geo": "global"}),
        ("anthropic", {"speed": "fast", "inference_geo": "us"}),
        ("anthropic", {"inference_geo": "us", "model": "other/claude-haiku-4-5"}),
        ("gemini", {"serviceTier": "flex"}),
    ],
)
def test_hard_budget_admits_the_tiers_that_the_price_knows(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, format: str, fields: Json
) -> None:
    connect(demo_project, format, upstream)
    upstream.handler = respond(format)
    assert send(live_gateway, token_of(demo_project), format, **fields).status_code == 200
    record = only_record()
    assert record.reserved_nano is not None and record.reserved_nano >= record.cost_nano > 0
    assert not record.estimated


def test_own_price_applies_in_every_tier(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    PriceOverride.objects.create(project=demo_project, model="gpt-6-astra", input_nano=1, output_nano=1)
    upstream.handler = respond("openai_chat", service_tier="ultrafast")
    response = send(live_gateway, token_of(demo_project), "openai_chat", service_tier="ultrafast")
    assert response.status_code == 200
    assert not only_record().estimated


# Responses ----------------------------------------------------------------------------------------

USED = Tokens(input=7, output=5)


def cost_in(tier: str, provider: str = "openai", model: str = "gpt-6-astra") -> int:
    price = bundled_price(provider, model)
    assert price is not None
    return price.for_tier(tier).cost(USED)


@pytest.mark.parametrize("client", ["openai_chat", "openai_responses", "anthropic", "gemini"])
@pytest.mark.parametrize("stream", [False, True])
def test_tier_that_a_response_states_without_a_known_price_is_flagged(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    alice: User,
    monkeypatch: pytest.MonkeyPatch,
    client: str,
    stream: bool,
) -> None:
    """The highest known rates of the model are charged. The tier may cost even more."""
    provider = "openai_responses" if client == "openai_responses" else "openai_chat"

    async def handle(request: web.Request, body: Json) -> web.StreamResponse:
        if not body.get("stream"):
            whole = RESPONSES[provider]("Hello") | usage_field(provider, COMPLETE_USAGE[provider])
            return web.json_response(whole | {"service_tier": "ultrafast"})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for event in STREAMS[provider]("Hello", COMPLETE_USAGE[provider], 1):
            tiered = event.replace(b'"usage": {', b'"service_tier": "ultrafast", "usage": {')
            await response.write(tiered)
        return response

    upstream.handler, log = handle, CapturingLogger()
    monkeypatch.setattr(charges, "log", log)
    token = token_of(demo_project, "soft")
    body = BODIES[client] | ({} if client == "gemini" else {"model": "gpt-6-astra", "stream": stream})
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    path = PATHS.get(client, f"/v1beta/models/gpt-6-astra:{verb}")
    assert post(live_gateway, token, path, body).status_code == 200
    record = only_record()
    assert (record.service_tier, record.estimated) == ("ultrafast", True)
    assert record.cost_nano == cost_in("fast") == 2 * cost_in("default")
    assert record.applied_price is not None and record.applied_price.unknown_tier == "ultrafast"
    assert "service_tier_not_priced" in [call.args[0] for call in log.calls]
    demo_project.memberships.create(user=alice, role=Role.OWNER)
    page = signed_in(alice).get(reverse("request-detail", args=[demo_project.slug, record.pk]))
    assert "The price of the service tier “ultrafast” is not known" in page.content.decode()


@pytest.mark.parametrize(
    ("fields", "tier"),
    [
        ({"speed": "ludicrous"}, "ludicrous"),
        ({"service_tier": "platinum"}, "platinum"),
        ({"inference_geo": "eu"}, "standard_eu"),
    ],
)
def test_other_statements_of_anthropic_are_flagged_too(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, fields: Json, tier: str
) -> None:
    connect(demo_project, "anthropic", upstream)
    upstream.handler = respond("anthropic", **fields)
    send(live_gateway, token_of(demo_project), "anthropic")
    record = only_record()
    assert (record.service_tier, record.estimated) == (tier, True)
    assert record.cost_nano == cost_in("fast_us", "anthropic", "claude-opus-5")


@pytest.mark.parametrize(
    ("format", "fields", "tier"),
    [
        ("openai_chat", {"service_tier": "priority"}, "priority"),
        ("openai_responses", {"service_tier": "fast"}, "fast"),
        ("anthropic", {"speed": "fast"}, "fast"),
        ("anthropic", {"inference_geo": "us"}, "standard_us"),
    ],
)
def test_requested_tier_counts_if_the_response_states_none(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    format: str,
    fields: Json,
    tier: str,
) -> None:
    connect(demo_project, format, upstream)
    upstream.handler = respond(format)
    send(live_gateway, token_of(demo_project), format, **fields)
    record = only_record()
    model = ("anthropic", "claude-opus-5") if format == "anthropic" else ("openai", "gpt-6-astra")
    assert (record.service_tier, record.cost_nano) == (tier, cost_in(tier, *model))
    assert record.cost_nano > cost_in("", *model)


def test_cheaper_tier_that_no_response_confirms_is_not_charged(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    upstream.handler = respond("openai_chat")
    send(live_gateway, token_of(demo_project), "openai_chat", service_tier="flex")
    assert only_record().cost_nano == cost_in("default")


def test_converted_request_leaves_its_tier_to_the_provider(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    connect(demo_project, "anthropic", upstream)
    upstream.handler = respond("anthropic")
    body = BODIES["openai_chat"] | {"model": "other/claude-opus-5", "service_tier": "unheard-of"}
    assert post(live_gateway, token_of(demo_project), PATHS["openai_chat"], body).status_code == 200
    assert b"service_tier" not in upstream.requests[0].body
