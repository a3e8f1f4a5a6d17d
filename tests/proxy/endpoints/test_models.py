"""Models that `GET /v1/models/<name>` finds."""

import datetime as dt

import httpx
import pytest

from keys.models import ApiKey
from projects import config_cache
from projects.models import Project
from proxy.models import Route
from proxy.routing.routes import model_life
from tests.support.live_gateway import LiveGateway

pytestmark = pytest.mark.databases


@pytest.mark.parametrize("model", ["no-such-model", "anything/else", "demo/nothing"])
def test_unknown_model_is_a_404_despite_a_default_account(gateway: httpx.Client, model: str) -> None:
    response = gateway.get(f"/v1/models/{model}")
    assert (response.status_code, response.json()["error"]["type"]) == (404, "unknown_model")


@pytest.mark.parametrize(
    ("model", "owner"),
    [
        ("demo/chat", "demo"),
        ("demo/embed", "demo"),
        ("gpt-4o-mini", "openai"),
        ("openai/my-own-model", "openai"),
    ],
)
def test_listed_priced_and_prefixed_names_are_found(gateway: httpx.Client, model: str, owner: str) -> None:
    response = gateway.get(f"/v1/models/{model}").json()
    assert (response["id"], response["owned_by"]) == (model, owner)


def test_a_model_says_what_it_can_do_what_it_costs_and_when_it_ends(
    gateway: httpx.Client, demo_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account is at the vendor's own URL, whose retirement days apply. Nothing is sent to it."""
    monkeypatch.setattr(model_life, "today", lambda: dt.date(2026, 12, 1))
    demo_project.credentials.create(slug="mine", provider="openai", model_names=["gpt-4o-mini"])
    Route.objects.create(
        project=demo_project, name="smart", targets=[{"provider": "mine", "model": "gpt-6-luna"}]
    )
    listed = {model["id"]: model for model in gateway.get("/v1/models").json()["data"]}
    assert list(listed) == ["smart", "gpt-4o-mini", "demo/chat", "demo/embed"]
    mini, smart = listed["gpt-4o-mini"], listed["smart"]
    assert (mini["context_window"], mini["max_output_tokens"], mini["supports_vision"]) == (
        128_000,
        16_384,
        True,
    )
    assert (mini["inputTokenLimit"], mini["outputTokenLimit"]) == (128_000, 16_384)
    assert mini["pricing"] == {"input": "0.15", "cached_input": "0.075", "output": "0.6"}
    assert (mini["retirement_date"], mini["successor"]) == ("2027-01-14", "gpt-6-luna")
    assert (smart["served_model"], smart["owned_by"], smart["retirement_date"]) == (
        "gpt-6-luna",
        "mine",
        None,
    )
    assert gateway.get("/v1/models/smart").json() == smart


def test_a_key_sees_only_the_routes_that_it_may_use(live_gateway: LiveGateway, demo_project: Project) -> None:
    Route.objects.create(
        project=demo_project, name="smart", targets=[{"provider": "demo", "model": "demo/chat"}]
    )
    _, token = ApiKey.objects.issue(demo_project, "limited", allowed_models=["smart"])
    response = httpx.get(f"{live_gateway.url}/v1/models", headers={"x-api-key": token})
    assert [model["id"] for model in response.json()["data"]] == ["smart"]


def test_a_route_serves_requests_by_its_name(gateway: httpx.Client, demo_project: Project) -> None:
    body = {"model": "smart", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
    assert gateway.post("/v1/chat/completions", json=body).headers["x-gateway-provider"] == "openai"
    route = Route.objects.create(
        project=demo_project, name="smart", targets=[{"provider": "demo", "model": "demo/chat"}]
    )
    config_cache.invalidate_all()
    served = gateway.post("/v1/chat/completions", json=body)
    assert (served.status_code, served.headers["x-gateway-model"]) == (200, "demo/chat")
    route.targets = [{"provider": "mine", "model": "x"}]
    route.save()
    config_cache.invalidate_all()
    broken = gateway.post("/v1/chat/completions", json=body)
    assert (broken.status_code, broken.json()["error"]["code"]) == (404, "invalid_route")
    assert "The route smart" in broken.json()["error"]["message"]
