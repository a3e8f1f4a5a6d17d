"""Chat completions and embeddings in the envelope of `/api/v1/completions`."""

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import httpx
import pytest
from aiohttp import web

from billing.models import Outcome
from keys.models import ApiKey
from projects.models import Project
from proxy.formats.openai_chat.envelope import EnvelopedChatRequest
from proxy.http.load_shedder import load_shedder
from proxy.http.request import GatewayRequest
from proxy.operations import ENVELOPED_CHAT
from proxy.pipeline.conversion import plan_request
from proxy.routing.resolve import day_of
from proxy.routing.routes import model_life
from proxy.routing.routes.rules import RuleInput
from proxy.routing.targets import Target
from tests.proxy.routing.routes.conftest import account, never
from tests.support.live_gateway import only_record
from tests.support.operator_accounts import resolution
from tests.support.upstream_server import LocalUpstream

CHAT, EMBEDDINGS = "/api/v1/completions/chat", "/api/v1/completions/embeddings"
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]


def sent(upstream: LocalUpstream) -> dict[str, Any]:
    return dict(json.loads(upstream.requests[-1].body))


def error_of(response: httpx.Response) -> dict[str, Any]:
    body = response.json()
    assert body["success"] is False and body["error"]["request_id"] == response.headers["x-request-id"]
    assert body["error"]["type"] == response.headers["x-gateway-error-type"]
    return dict(body["error"])


@pytest.mark.databases
def test_the_answer_has_the_documented_fields(gateway: httpx.Client) -> None:
    response = gateway.post(CHAT, json={"model": "gpt-4o-mini", "messages": MESSAGES})
    body = json.loads(response.content, parse_float=Decimal)
    assert response.headers["content-type"] == "application/json"
    assert body["data"].pop("latencyMs") in range(60_000)
    message = {"role": "assistant", "content": "Hello there"}
    assert body == {
        "success": True,
        "data": {
            "id": "chatcmpl-1",
            "model": "gpt-4o-mini",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"promptTokens": 100, "completionTokens": 20, "totalTokens": 120},
            "cost": Decimal(response.headers["x-cost-usd"]),
            "cached": False,
        },
    }


def test_defaults_are_sent_and_the_gateways_fields_are_not(
    gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    controls = {"cache": True, "cacheTtl": 60, "metadata": {"team": "search", "run": 7}, "store": True}
    assert gateway.post(CHAT, json={"messages": MESSAGES, "maxTokens": 9, **controls}).status_code == 200
    assert sent(upstream) == {
        "messages": MESSAGES,
        "model": "gpt-4o-mini",
        "temperature": 0.7,
        "max_completion_tokens": 9,
        "store": True,
    }
    assert only_record().metadata == {"team": "search", "run": "7"}


def test_given_values_replace_the_defaults(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    given = {"model": "gpt-4.1", "temperature": 0, "maxTokens": None, "top_p": 0.5}
    gateway.post(CHAT, json={"messages": MESSAGES, **given})
    assert sent(upstream) == {"model": "gpt-4.1", "temperature": 0, "top_p": 0.5, "messages": MESSAGES}


@pytest.mark.databases
def test_identical_requests_are_cached_unless_the_client_declines(
    gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    first, second = (gateway.post(CHAT, json={"messages": MESSAGES}).json()["data"] for _ in range(2))
    assert (first["cached"], second["cached"], second["cost"]) == (False, True, 0)
    assert first["choices"] == second["choices"] and len(upstream.requests) == 1
    assert only_record(2).outcome == Outcome.CACHED
    for _ in range(2):
        gateway.post(CHAT, json={"messages": MESSAGES, "cache": False})
    assert len(upstream.requests) == 3


def test_embeddings_have_the_vectors_in_the_envelope(gateway: httpx.Client) -> None:
    response = gateway.post(EMBEDDINGS, json={"model": "demo/embed", "input": "Hello, world!", "cache": True})
    data = response.json()["data"]
    assert len(data["data"][0]["embedding"]) > 1 and data["model"] == "demo/embed"
    assert data["usage"]["totalTokens"] == data["usage"]["promptTokens"] > 0
    assert {"cost", "cached", "latencyMs"} < data.keys()


def test_embeddings_have_a_default_model(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    gateway.post(EMBEDDINGS, json={"input": ["a", "b"]})
    assert sent(upstream) == {"model": "text-embedding-3-small", "input": ["a", "b"]}


def test_a_stream_has_openais_events(gateway: httpx.Client) -> None:
    response = gateway.post(CHAT, json={"messages": MESSAGES, "stream": True})
    assert response.headers["content-type"] == "text/event-stream"
    assert response.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"maxTokens": 0}, "maxTokens"),
        ({"cache": "yes"}, "cache"),
        ({"cacheTtl": 59}, "cacheTtl"),
        ({"cacheTtl": 86401}, "cacheTtl"),
        ({"metadata": []}, "metadata"),
        ({"messages": "Hi"}, "messages"),
    ],
)
def test_a_wrong_field_is_named(gateway: httpx.Client, wrong: dict[str, Any], named: str) -> None:
    response = gateway.post(CHAT, json={"messages": MESSAGES, **wrong})
    error = error_of(response)
    assert response.status_code == 400 and error["type"] == "invalid_request" and named in error["message"]


def test_errors_of_every_stage_have_the_envelope(
    gateway: httpx.Client, upstream: LocalUpstream, demo_project: Project
) -> None:
    _, reader = ApiKey.objects.issue(demo_project, "reader", scopes=["usage:read"])
    chat = {"messages": MESSAGES}
    assert error_of(gateway.get(CHAT))["code"] == "method_not_allowed"
    assert error_of(gateway.post(CHAT, content=b"{"))["type"] == "invalid_request"
    assert error_of(gateway.post(CHAT, json=chat, headers={"authorization": "Bearer x"}))["type"] == "auth"
    refused = gateway.post(CHAT, json=chat, headers={"authorization": f"Bearer {reader}"})
    assert (refused.status_code, error_of(refused)["code"]) == (403, "insufficient_permissions")
    unknown = error_of(gateway.post(CHAT, json={**chat, "model": "anthropic/claude-x"}))
    assert unknown["type"] == "unknown_model" and "claude-x" in unknown["message"]


def test_a_providers_error_has_the_envelope(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    async def overloaded(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"error": {"message": "Too busy.", "type": "busy"}}, status=500)

    upstream.handler = overloaded
    response = gateway.post(CHAT, json={"messages": MESSAGES})
    assert response.status_code == 500
    assert (error_of(response)["message"], error_of(response)["type"]) == ("Too busy.", "server_error")


def test_a_body_that_is_not_json_is_an_error(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    async def html(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(text="<html>", content_type="text/html")

    upstream.handler = html
    response = gateway.post(CHAT, json={"messages": MESSAGES})
    assert (response.status_code, error_of(response)["type"]) == (502, "server_error")


def test_a_shed_request_gets_the_envelope(gateway: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_shedder, "limit", 0)
    response = gateway.post(CHAT, json={"messages": MESSAGES})
    assert (response.status_code, error_of(response)["code"]) == (503, "overloaded")


@pytest.mark.databases
def test_an_idempotent_request_is_replayed_in_the_envelope(
    gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    chat = {"messages": MESSAGES, "cache": False}
    headers = {"idempotency-key": "once"}
    first, second = (gateway.post(CHAT, json=chat, headers=headers).json()["data"] for _ in range(2))
    assert first["id"] == second["id"] and second["cost"] == 0 and len(upstream.requests) == 1


def dropped_at(model: str, **fields: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    body = {"model": model, "messages": MESSAGES, **fields}
    request = ENVELOPED_CHAT.parse(json.dumps(body).encode())
    target = Target(account("openai"), model, None)
    upstream = plan_request(ENVELOPED_CHAT, request, target).render_upstream(None)
    return json.loads(upstream.body), upstream.dropped


def test_a_temperature_that_the_model_rejects_is_not_sent() -> None:
    assert "temperature" not in dropped_at("gpt-6-luna")[0]
    fields, dropped = dropped_at("gpt-6-luna", temperature=0.2)
    assert "temperature" not in fields and dropped == ("temperature",)
    assert dropped_at("gpt-4o-mini")[0]["temperature"] == 0.7


def test_an_omitted_model_is_replaced_early_and_a_named_one_is_not() -> None:
    scope = {"path": CHAT, "method": "POST", "headers": [], "query_string": b""}

    def day_for(**fields: str) -> dt.date:
        client_request = EnvelopedChatRequest(json.dumps({"messages": MESSAGES, **fields}).encode())
        return day_of(RuleInput("key", GatewayRequest(scope, never), client_request, {}))

    served = {
        name: resolution("gpt-4o-mini", (account("openai"),), today=day).targets[0].model
        for name, day in (("omitted", day_for()), ("named", dt.date(2027, 1, 13)))
    }
    assert served == {"omitted": "gpt-6-luna", "named": "gpt-4o-mini"}
    assert day_for(model="gpt-4o-mini") == model_life.today()
