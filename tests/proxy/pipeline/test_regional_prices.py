"""Regional prices and search fees are reserved, charged as reported, and stored on the record."""

import json
from typing import Any

import httpx
import pytest
from aiohttp import web

from billing.models import Budget, UsageRecord
from keys.models import ApiKey
from projects.models import Project
from proxy.formats.anthropic.passthrough import MessagesRequest
from proxy.models import Credential
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import LocalUpstream

pytestmark = pytest.mark.databases

USD = 10**9


def account(project: Project, upstream: LocalUpstream, provider: str) -> None:
    credential = Credential(
        project=project, slug=provider, provider=provider, base_url=upstream.url.removesuffix("/v1")
    )
    credential.set_secret("sk-provider-secret")
    credential.save()


def charged(gateway: LiveGateway, project: Project, path: str, body: dict[str, Any]) -> UsageRecord:
    """Send a request with a key that has a budget."""
    key, token = ApiKey.objects.issue(project, "budgeted")
    Budget.objects.create(project=project, key=key, period="day", limit_nano=100 * USD)
    response = httpx.post(
        f"{gateway.url}{path}", json=body, headers={"authorization": f"Bearer {token}"}, timeout=20
    )
    assert response.status_code == 200, response.text
    record = only_record()
    assert sum(line.amount_femto for line in record.cost_lines) == record.cost_nano * 10**6
    assert record.reserved_nano is not None and record.reserved_nano >= record.cost_nano
    return record


def anthropic_response_in(place: str) -> Any:
    async def respond(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        usage = {
            "input_tokens": 1_000,
            "output_tokens": 100,
            "cache_creation_input_tokens": 0,
            "inference_geo": place,
        }
        content = [{"type": "text", "text": "Hi"}]
        return web.json_response(
            {
                "id": "m",
                "type": "message",
                "role": "assistant",
                "model": "m",
                "content": content,
                "usage": usage,
            }
        )

    return respond


@pytest.mark.parametrize(("place", "nano"), [("us", 8_250_000), ("global", 7_500_000)])
def test_inference_in_the_us_is_charged_as_anthropic_reports_it(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, place: str, nano: int
) -> None:
    """The cost is 1,000 x 5 + 100 x 25 micro-USD, plus a tenth.

    A request of another format cannot select the region, but the workspace can.
    """
    account(demo_project, upstream, "anthropic")
    upstream.handler = anthropic_response_in(place)
    message = {"role": "user", "content": "x" * 1_000}
    body = {"model": "anthropic/claude-opus-4-8", "messages": [message], "max_tokens": 100}
    assert charged(live_gateway, demo_project, "/v1/chat/completions", body).cost_nano == nano


@pytest.mark.parametrize(
    ("location", "tenths"), [({}, 11), ({"inference_geo": "us"}, 11), ({"inference_geo": "global"}, 10)]
)
def test_reservation_includes_us_surcharge_unless_excluded(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    location: dict[str, str],
    tenths: int,
) -> None:
    account(demo_project, upstream, "anthropic")
    upstream.handler = anthropic_response_in("global")
    message = {"role": "user", "content": "x" * 1_000}
    body = {"model": "anthropic/claude-opus-4-8", "messages": [message], "max_tokens": 100, **location}
    bound = MessagesRequest(json.dumps(body).encode()).facts.max_input_tokens
    record = charged(live_gateway, demo_project, "/v1/messages", body)
    assert record.reserved_nano == (bound * 1_000 + 100 * 2_500) * tenths


@pytest.mark.parametrize(
    ("model", "fee"), [("gemini-2.5-flash", 25_000_000), ("gemini-3.5-flash", 2 * 14_000_000)]
)
@pytest.mark.parametrize("stream", [False, True])
def test_maps_grounding_is_reserved_and_charged(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    model: str,
    fee: int,
    stream: bool,
) -> None:
    account(demo_project, upstream, "gemini")
    found = {
        "groundingChunks": [{"maps": {"title": "Café"}}],
        "webSearchQueries": ["cafés", "cafés near here"],
    }
    candidate = {
        "content": {"parts": [{"text": "A café"}]},
        "finishReason": "STOP",
        "groundingMetadata": found,
    }
    said = {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5}}

    async def respond(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return (
            web.Response(body=b"data: %s\r\n\r\n" % json.dumps(said).encode())
            if stream
            else web.json_response(said)
        )

    upstream.handler = respond
    body = {"contents": [{"role": "user", "parts": [{"text": "Where?"}]}], "tools": [{"googleMaps": {}}]}
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    record = charged(live_gateway, demo_project, f"/v1beta/models/gemini/{model}:{verb}", body)
    assert record.billable_extras == {"google_maps": 2}
    assert record.applied_price is not None
    rates = record.applied_price.base
    assert record.cost_nano == fee + (10 * rates.input + 5 * rates.output) // 10**6
