"""The type of an error is in a header and in the metrics, in every format, for own and passed errors."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from projects.models import Project
from proxy.routing import config_file
from tests.support.api_calls import FORMATS, ask, connect
from tests.support.live_gateway import LiveGateway, wait_until
from tests.support.upstream_server import LocalUpstream

TYPE = "x-gateway-error-type"
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


def respond_with(status: int) -> Any:
    async def respond(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no", "code": status}}, status=status)

    return respond


@pytest.mark.parametrize("format", FORMATS)
def test_errors_of_the_gateway_have_the_type_and_the_request_id(
    live_gateway: LiveGateway, upstream: LocalUpstream, format: str
) -> None:
    response = ask(live_gateway, "sk-gw_wrong", format, stream=False)
    assert (response.status_code, response.headers[TYPE]) == (401, "auth")
    body, id = response.json(), response.headers["x-request-id"]
    assert (body["request_id"] if format == "anthropic" else body["error"]["request_id"]) == id


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request"), (429, "rate_limit"), (500, "server_error"), (504, "timeout")],
)
def test_passed_errors_have_the_type(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    token: str,
    format: str,
    status: int,
    kind: str,
) -> None:
    connect(demo_project, format, upstream)
    upstream.handler = respond_with(status)
    response = ask(live_gateway, token, format, stream=False, limit=9)
    assert (response.status_code, response.headers[TYPE]) == (status, kind)
    assert response.headers["x-request-id"]


def test_the_metrics_count_errors_by_type(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    labels = {"format": "openai", "model": "gpt-4o-mini", "provider": "openai", "error_type": "rate_limit"}
    before = metric("proxy_errors_total", **labels)
    upstream.handler = respond_with(429)
    assert gateway.post("/v1/chat/completions", json=CHAT).headers[TYPE] == "rate_limit"
    assert metric("proxy_errors_total", **labels) == before + 1


def test_active_requests_are_counted_at_their_provider(
    gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    seen: list[float] = []

    async def observe(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        seen.append(metric("proxy_active_requests", format="openai", provider="openai"))
        return web.json_response({"choices": []})

    before = metric("proxy_active_requests", format="openai", provider="openai")
    upstream.handler = observe
    gateway.post("/v1/chat/completions", json=CHAT)
    assert seen == [before + 1]
    wait_until(lambda: metric("proxy_active_requests", format="openai", provider="openai") == before)
    assert metric("proxy_active_requests", format="openai", provider="") == 0


def test_only_configured_names_have_a_label_of_their_own(
    gateway: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(model: str) -> float:
        return metric("proxy_requests_total", format="openai", model=model, provider="openai", status="200")

    before = count("llama"), count("other")
    gateway.post("/v1/chat/completions", json={**CHAT, "model": "llama"})
    assert (count("llama"), count("other")) == (before[0], before[1] + 1)
    monkeypatch.setattr(config_file.OperatorConfig, "has_model", lambda _self, name: name == "llama")
    gateway.post("/v1/chat/completions", json={**CHAT, "model": "llama"})
    assert (count("llama"), count("other")) == (before[0] + 1, before[1] + 1)


def test_metrics_may_need_a_token(
    live_gateway: LiveGateway, change_environment: Callable[..., None], token: str
) -> None:
    change_environment(gateway_metrics_token="secret")
    for sent in ({}, {"authorization": f"Bearer {token}"}):
        refused = httpx.get(f"{live_gateway.url}/metrics", headers=sent)
        assert (refused.status_code, refused.headers[TYPE]) == (401, "auth")
    allowed = httpx.get(f"{live_gateway.url}/metrics", headers={"authorization": "Bearer secret"})
    assert allowed.status_code == 200 and TYPE not in allowed.headers
