"""Requests by the names of routes: fallbacks, rules, credentials in turn, and retired models."""

import datetime as dt
import json
from typing import Any

import httpx
import pytest
from aiohttp import web

from projects import config_cache
from projects.models import Project
from proxy.models import Credential, Route
from proxy.routing.routes import model_life
from tests.support.live_gateway import only_record
from tests.support.upstream_server import LocalUpstream, completion

pytestmark = pytest.mark.databases

SAID = [{"role": "user", "content": "Hi"}]


@pytest.fixture(autouse=True)
def credentials(demo_project: Project, upstream: LocalUpstream) -> None:
    """Give the project two credentials of one provider, and one of another server."""
    for slug, provider in (("openai", "openai"), ("spare", "openai"), ("lab", "compatible")):
        url = upstream.url if provider == "openai" else f"{upstream.url}/lab"
        credential = Credential(project=demo_project, slug=slug, provider=provider, base_url=url)
        credential.set_secret(f"sk-{slug}-0123456789")
        credential.save()


def route(project: Project, *targets: str, **fields: Any) -> None:
    """Create the route `smart` to targets that are written as `provider/model`."""
    places = [target.partition("/") for target in targets]
    listed = [{"provider": provider, "model": model} for provider, _, model in places]
    Route.objects.create(project=project, name="smart", targets=listed, **fields)
    config_cache.invalidate_all()


def ask(gateway: httpx.Client, model: str = "smart", **headers: str) -> httpx.Response:
    body = {"model": model, "messages": SAID, "temperature": 0.5, "max_tokens": 5}
    return gateway.post("/v1/chat/completions", json=body, headers=headers)


def test_the_next_target_serves_what_the_first_one_cannot(
    gateway: httpx.Client, demo_project: Project, upstream: LocalUpstream
) -> None:
    route(demo_project, "lab/llama", fallbacks=["openai/gpt-6-luna"], retry_attempts=0)

    async def handler(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if body["model"] == "llama":
            return web.json_response({"error": {"message": "busy"}}, status=503)
        return await completion(request, body)

    upstream.handler = handler
    served = ask(gateway)
    assert (served.status_code, served.headers["x-gateway-model"]) == (200, "gpt-6-luna")
    assert [json.loads(call.body)["model"] for call in upstream.requests] == ["llama", "gpt-6-luna"]
    # The fallback was not named by the client, so it gets no setting that it rejects.
    assert "temperature" not in json.loads(upstream.requests[1].body)
    assert served.headers["x-gateway-dropped"] == "temperature"
    record = only_record()
    assert (record.requested_model, record.provider_model) == ("smart", "gpt-6-luna")


def test_a_rule_chooses_the_requests_of_a_route(gateway: httpx.Client, demo_project: Project) -> None:
    route(demo_project, "openai/gpt-6-sol", rule={"headers": {"x-tier": "gold"}})
    route(demo_project, "lab/llama")
    assert ask(gateway, **{"x-tier": "gold"}).headers["x-gateway-model"] == "gpt-6-sol"
    assert ask(gateway).headers["x-gateway-provider"] == "lab"


def test_credentials_are_used_in_turn(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    for _ in range(6):
        assert ask(gateway, "openai/gpt-6-luna").status_code == 200
    keys = [call.headers["authorization"] for call in upstream.requests]
    # If the configuration is read again between two requests, the turns begin again.
    assert set(keys) == {"Bearer sk-openai-0123456789", "Bearer sk-spare-0123456789"}


def test_a_retired_model_is_served_by_its_successor(
    gateway: httpx.Client, upstream: LocalUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_life, "is_vendors_own", lambda _: True)
    monkeypatch.setattr(model_life, "today", lambda: dt.date(2027, 1, 14))
    served = ask(gateway, "openai/gpt-4o-mini")
    assert served.headers["x-gateway-redirected-from"] == "gpt-4o-mini"
    assert served.headers["x-gateway-model-retirement"] == "2027-01-14; successor=gpt-6-luna"
    sent = json.loads(upstream.requests[0].body)
    assert (sent["model"], sent["max_completion_tokens"]) == ("gpt-6-luna", 5)
    assert only_record().provider_model == "gpt-6-luna"
