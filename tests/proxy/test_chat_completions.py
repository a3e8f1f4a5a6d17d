"""Chat completions are relayed unchanged, streamed without delay, and metered exactly."""

import asyncio
import json
import threading
import time
from typing import Any

import httpx
import pytest
from aiohttp import web

from billing.models import Outcome, UsageRecord
from keys.models import ApiKey
from projects.models import Project
from proxy.models import Credential
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import USAGE, LocalUpstream, chunk, events

pytestmark = pytest.mark.databases

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50}
# 60 uncached input tokens at 0.15 USD per million, 40 cached at 0.075, 20 output tokens at 0.60.
COST_NANO = 60 * 150 + 40 * 75 + 20 * 600


def data_lines(text: str) -> list[str]:
    return [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]


def test_body_reaches_the_provider_byte_for_byte(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    body = (
        b'{ "model":"gpt-4o-mini",  "messages":[{"role":"user","content":"\\u00e9 1e5"}], '
        b'"new_knob": {"a": [1.50, 1E3, null]} }'
    )
    assert gateway.post("/v1/chat/completions", content=body).status_code == 200
    assert upstream.requests[0].body == body
    assert upstream.requests[0].path == "/v1/chat/completions"


def test_provider_gets_the_operators_key_and_never_the_callers(
    gateway: httpx.Client, upstream: LocalUpstream, token: str
) -> None:
    gateway.post(
        "/v1/chat/completions", json=CHAT, headers={"cookie": "session=1", "x-forwarded-for": "10.0.0.1"}
    )
    headers = upstream.requests[0].headers
    assert headers["authorization"] == "Bearer sk-operator"
    assert token not in str(headers) and "cookie" not in headers and "x-forwarded-for" not in headers


def test_only_the_prefix_of_the_model_name_is_removed(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    gateway.post(
        "/v1/chat/completions",
        json={**CHAT, "model": "openai/gpt-4o-mini", "seed": 7, "extra": {"deep": [1.5]}},
    )
    assert json.loads(upstream.requests[0].body) == {
        **CHAT,
        "model": "gpt-4o-mini",
        "seed": 7,
        "extra": {"deep": [1.5]},
    }


def test_response_is_relayed_unchanged_with_its_cost(gateway: httpx.Client) -> None:
    response = gateway.post("/openai/v1/chat/completions", json=CHAT, headers={"x-request-id": "my-own-id"})
    assert response.json()["usage"] == USAGE
    assert response.headers["x-request-id"] == "my-own-id"
    assert response.headers["x-cost-usd"] == "0.000024"
    assert (
        response.headers["x-gateway-provider"] == "openai"
        and response.headers["x-gateway-model"] == "gpt-4o-mini"
    )
    assert response.headers["cache-control"] == "private, no-store"


def test_record_has_disjoint_tokens_cost_and_applied_price(gateway: httpx.Client) -> None:
    gateway.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": "my-own-id"})
    record = only_record()
    assert (record.input_tokens, record.cache_read_tokens, record.output_tokens, record.reasoning_tokens) == (
        60,
        40,
        20,
        5,
    )
    assert record.cost_nano == COST_NANO
    assert (
        record.price is not None
        and record.price["base"]["output"] == 600_000_000
        and record.price["source"].startswith("genai-prices")
    )
    assert (record.outcome, record.status_code, record.requested_model, record.provider_model) == (
        "ok",
        200,
        "gpt-4o-mini",
        "gpt-4o-mini",
    )
    assert (record.request_id, record.provider, record.operation, record.streamed) == (
        "my-own-id",
        "openai",
        "chat",
        False,
    )
    assert record.id.version == 7 and record.latency_us > 0 and not record.estimated


def test_stream_is_metered_although_the_client_sees_no_usage(
    gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    response = gateway.post(
        "/v1/chat/completions",
        json={**CHAT, "stream": True, "stream_options": {"include_obfuscation": False}},
    )
    assert json.loads(upstream.requests[0].body)["stream_options"] == {
        "include_obfuscation": False,
        "include_usage": True,
    }
    assert "usage" not in response.text
    assert response.content == b"".join(event for event in events({"stream": True}))
    record = only_record()
    assert record.cost_nano == COST_NANO and record.streamed and not record.estimated
    assert record.first_token_us is not None and 0 < record.first_token_us <= record.latency_us


def test_client_that_requests_usage_gets_it_and_its_body_is_unchanged(
    gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    body = json.dumps({**CHAT, "stream": True, "stream_options": {"include_usage": True}}).encode()
    response = gateway.post("/v1/chat/completions", content=body)
    assert upstream.requests[0].body == body
    assert json.loads(data_lines(response.text)[-2])["usage"] == USAGE
    assert only_record().cost_nano == COST_NANO


def test_each_chunk_is_forwarded_before_the_next_one_exists(
    gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    arrived = threading.Event()

    async def one_then_wait(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chunk({"content": "first"}))
        await asyncio.to_thread(arrived.wait, 10)
        await response.write(chunk({"content": "second"}) + b"data: [DONE]\n\n")
        return response

    upstream.handler = one_then_wait
    with gateway.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as response:
        parts = response.iter_raw()
        assert b"first" in next(parts)
        assert not arrived.is_set()
        arrived.set()
        assert b"second" in b"".join(parts)


def test_client_disconnect_aborts_upstream_and_charges_output_so_far(
    gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    async def endless(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(10):
            await response.write(chunk({"content": " word"}))
        await asyncio.sleep(60)
        return response

    upstream.handler = endless
    with gateway.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as response:
        seen = b""
        for part in response.iter_raw():
            seen += part
            if seen.count(b" word") == 10:
                break
    assert upstream.requests[0].closed.wait(1), "the provider was still being called"
    record = only_record()
    assert (record.outcome, record.output_tokens, record.estimated) == (Outcome.CLIENT_CLOSED, 10, True)
    assert record.cost_nano == record.input_tokens * 150 + 10 * 600 and record.input_tokens > 0


def test_client_disconnect_before_response_aborts_upstream(
    gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    async def slow(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    upstream.handler = slow
    with pytest.raises(httpx.ReadTimeout):
        gateway.post("/v1/chat/completions", json=CHAT, timeout=0.3)
    assert upstream.requests[0].closed.wait(1)
    assert only_record().outcome == Outcome.CLIENT_CLOSED


def test_interrupted_stream_ends_with_an_error_event(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    async def broken(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chunk({"content": "half"}))
        assert request.transport is not None
        request.transport.abort()
        return response

    upstream.handler = broken
    response = gateway.post("/v1/chat/completions", json={**CHAT, "stream": True})
    lines = data_lines(response.text)
    assert json.loads(lines[-1])["error"]["type"] == "network" and "[DONE]" not in lines
    record = only_record()
    assert (record.outcome, record.status_code, record.output_tokens, record.estimated) == (
        Outcome.UPSTREAM_ERROR,
        502,
        1,
        True,
    )


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_providers_error_is_relayed_and_costs_nothing(
    gateway: httpx.Client, upstream: LocalUpstream, status: int
) -> None:
    body = b'{"error": {"message": "vendor says no", "type": "x", "extra": 1}}'

    async def failing(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        headers = {
            "retry-after": "7",
            "set-cookie": "a=b",
            "openai-organization": "acme",
            "content-type": "application/json",
        }
        return web.Response(status=status, body=body, headers=headers)

    upstream.handler = failing
    response = gateway.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert (response.status_code, response.content) == (status, body)
    assert response.headers["retry-after"] == "7"
    assert "set-cookie" not in response.headers and "openai-organization" not in response.headers
    record = only_record()
    assert (record.outcome, record.status_code, record.cost_nano) == (Outcome.UPSTREAM_ERROR, status, 0)


def test_response_without_usage_is_charged_by_our_own_count(
    gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    async def silent(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(
            {
                "choices": [{"message": {"role": "assistant", "content": "x" * 400}}],
                "usage": {"prompt_tokens": -5},
            }
        )

    upstream.handler = silent
    assert gateway.post("/v1/chat/completions", json=CHAT).status_code == 200
    record = only_record()
    assert record.estimated and record.output_tokens == 100 and record.input_tokens > 0


def test_project_uses_its_own_encrypted_credential(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    project = Project.objects.create_with_owner("Tenant")
    _, token = ApiKey.objects.issue(project, "app")
    credential = Credential(
        project=project, slug="local", provider="compatible", base_url=upstream.url, model_names=["llama3"]
    )
    credential.set_secret("sk-tenants-own-secret")
    credential.save()
    assert "sk-tenants-own-secret" not in str(Credential.objects.filter(pk=credential.pk).values())
    for model in ("llama3", "local/llama3"):
        body = {**CHAT, "model": model}
        response = httpx.post(
            f"{live_gateway.url}/v1/chat/completions", json=body, headers={"x-api-key": token}
        )
        assert response.status_code == 200
        assert json.loads(upstream.requests[-1].body)["model"] == "llama3"
        assert upstream.requests[-1].headers["authorization"] == "Bearer sk-tenants-own-secret"


def test_unprivileged_project_cannot_use_operator_credentials(
    live_gateway: LiveGateway, upstream: LocalUpstream, transactional_db: None
) -> None:
    _, token = ApiKey.objects.issue(Project.objects.create_with_owner("Stranger"), "app")
    for model in ("gpt-4o-mini", "openai/gpt-4o-mini", "anything"):
        response = httpx.post(
            f"{live_gateway.url}/v1/chat/completions",
            json={**CHAT, "model": model},
            headers={"x-api-key": token},
        )
        assert (response.status_code, response.json()["error"]["type"]) == (404, "unknown_model")
    assert not upstream.requests


def test_secret_moved_to_another_project_is_rejected(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    thief = Project.objects.create_with_owner("Thief")
    owned = Credential(project=demo_project, slug="mine", provider="compatible", base_url=upstream.url)
    owned.set_secret("sk-secret")
    owned.save()
    Credential.objects.create(
        project=thief,
        slug="mine",
        provider="compatible",
        base_url=upstream.url,
        sealed_secret=owned.sealed_secret,
    )
    _, token = ApiKey.objects.issue(thief, "app")
    response = httpx.post(
        f"{live_gateway.url}/v1/chat/completions",
        json={**CHAT, "model": "mine/x"},
        headers={"x-api-key": token},
    )
    assert response.status_code == 503 and not upstream.requests


def test_unreachable_provider_is_a_502(live_gateway: LiveGateway, demo_project: Project) -> None:
    Credential.objects.create(
        project=demo_project, slug="dead", provider="compatible", base_url="http://127.0.0.1:9/v1"
    )
    _, token = ApiKey.objects.issue(demo_project, "app")
    response = httpx.post(
        f"{live_gateway.url}/v1/chat/completions",
        json={**CHAT, "model": "dead/x"},
        headers={"x-api-key": token},
    )
    assert (response.status_code, response.json()["error"]["type"]) == (502, "network")
    assert only_record().outcome == Outcome.UPSTREAM_ERROR


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/openai/v1/chat/completions"])
def test_demo_model_counts_exactly_what_it_generates(gateway: httpx.Client, path: str) -> None:
    body = {
        "model": "demo/chat",
        "messages": [{"role": "user", "content": "Grüße"}],
        "max_tokens": 7,
        "stream": True,
        "demo": {"delay_ms": 0},
    }
    response = gateway.post(path, json={**body, "stream_options": {"include_usage": True}})
    chunks = [json.loads(line) for line in data_lines(response.text)[:-1]]
    assert sum(1 for item in chunks if item["choices"] and item["choices"][0]["delta"].get("content")) == 7
    usage = chunks[-1]["usage"]
    record = only_record()
    assert (
        (record.prompt_tokens, record.output_tokens)
        == (usage["prompt_tokens"], usage["completion_tokens"])
        == (record.prompt_tokens, 7)
    )
    assert record.cost_nano == usage["prompt_tokens"] * 1000 + 7 * 2000


def test_demo_stream_sends_a_token_every_ten_milliseconds(gateway: httpx.Client) -> None:
    started = time.monotonic()
    gateway.post(
        "/v1/chat/completions", json={**CHAT, "model": "demo/chat", "max_tokens": 30, "stream": True}
    )
    assert time.monotonic() - started >= 0.3


def test_every_record_has_its_own_id_if_clients_repeat_theirs(gateway: httpx.Client) -> None:
    for _ in range(2):
        gateway.post(
            "/v1/chat/completions", json={**CHAT, "model": "demo/chat"}, headers={"x-request-id": "same"}
        )
    only_record(2)
    assert UsageRecord.objects.filter(request_id="same").count() == 2
