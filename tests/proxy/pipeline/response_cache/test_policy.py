"""Requests that use the response cache, and responses that it stores."""

from dataclasses import replace
from typing import Any

import httpx
import pytest
from aiohttp import web

from billing.models import Outcome
from keys.models import ApiKey
from projects.models import Project
from proxy.endpoints.views import billable
from proxy.http.handler import resolve_route
from proxy.operations import CHAT_COMPLETIONS
from proxy.pipeline.response_cache import policy, recorder
from tests.support import api_calls
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import LocalUpstream, chunk, completion

MESSAGES = [{"role": "user", "content": "Hi"}]
CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": MESSAGES, "max_tokens": 50, "cache": True}
RESPONSES: dict[str, Any] = {"model": "gpt-4o-mini", "input": "Hi", "cache": True}


def results(
    client: httpx.Client, path: str, body: dict[str, Any], count: int = 2, **headers: str
) -> list[str | None]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answers = [client.post(path, json=body, headers=named) for _ in range(count)]
    assert {answer.status_code for answer in answers} == {200}, answers[0].text
    return [answer.headers.get("x-gateway-cache") for answer in answers]


def chat(client: httpx.Client, count: int = 2, **fields: Any) -> list[str | None]:
    return results(client, "/v1/chat/completions", {**CHAT, **fields}, count)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("no-cache", ["miss", "miss"]),
        ("no-store", ["bypass", "bypass"]),
        ("max-age=60", ["miss", "hit"]),
        ("unknown, max-age=0", ["miss", "miss"]),
        ("max-age=soon", ["miss", "hit"]),
    ],
)
def test_cache_control_of_the_client(gateway: httpx.Client, header: str, expected: list[str]) -> None:
    assert results(gateway, "/v1/chat/completions", CHAT, cache_control=header) == expected


def test_no_cache_replaces_the_stored_response(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    assert results(gateway, "/v1/chat/completions", CHAT, 1, cache_control="no-cache") == ["miss"]
    assert chat(gateway, 1) == ["hit"]


@pytest.mark.parametrize(
    "fields",
    [
        {"store": True},
        {"web_search_options": {}},
        {"tools": [{"type": "openrouter:web_search"}]},
        {"plugins": [{"id": "web"}]},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_requests_with_side_effects_bypass_the_cache(gateway: httpx.Client, fields: dict[str, Any]) -> None:
    assert chat(gateway, **fields) == ["bypass", "bypass"]


@pytest.mark.parametrize("fields", [{"temperature": 1.5}, {"n": 2}, {"user": "u"}, {"metadata": {"a": "b"}}])
def test_the_wishes_of_the_caller_are_cached(gateway: httpx.Client, fields: dict[str, Any]) -> None:
    assert chat(gateway, **fields) == ["miss", "hit"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ["bypass", "bypass"]),
        ({"store": False}, ["miss", "hit"]),
        ({"store": False, "tools": [{"type": "web_search"}]}, ["bypass", "bypass"]),
    ],
    ids=["stored", "not stored", "server tool"],
)
def test_a_response_that_openai_stores_bypasses_the_cache(
    gateway: httpx.Client, upstream: LocalUpstream, fields: dict[str, Any], expected: list[str]
) -> None:
    upstream.handler = api_calls.respond_with_text("openai_responses", "Hello")
    assert results(gateway, "/v1/responses", {**RESPONSES, **fields}) == expected


@pytest.mark.parametrize("name", ["Cache", "cachettl", "Cache_TTL"])
def test_a_control_in_other_letters_is_rejected(gateway: httpx.Client, name: str) -> None:
    response = gateway.post("/v1/chat/completions", json={**CHAT, name: True})
    assert response.status_code == 400 and f"{name} must be written" in response.json()["error"]["message"]


def test_errors_are_not_stored(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    async def fail(*_: object) -> web.StreamResponse:
        return web.json_response(
            {"error": {"message": "Wrong.", "type": "invalid_request_error"}}, status=400
        )

    upstream.handler = fail
    assert gateway.post("/v1/chat/completions", json=CHAT).status_code == 400
    upstream.handler = completion
    assert chat(gateway) == ["miss", "hit"]


@pytest.mark.parametrize("finish_reason", ["tool_calls", "stop"])
def test_a_response_with_tool_calls_is_not_stored(
    gateway: httpx.Client, upstream: LocalUpstream, finish_reason: str
) -> None:
    """OpenAI ends a response with `stop` if the client forced the call of a function."""

    async def call_tool(*_: object) -> web.StreamResponse:
        call = {"id": "call_1", "type": "function", "function": {"name": "send_email", "arguments": "{}"}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice = {"index": 0, "message": message, "finish_reason": finish_reason}
        return web.json_response({"id": "1", "object": "chat.completion", "choices": [choice]})

    upstream.handler = call_tool
    assert chat(gateway) == ["miss", "miss"]


def test_an_interrupted_stream_is_not_stored(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    async def interrupt(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chunk({"content": "Hel"}))
        return response

    upstream.handler = interrupt
    gateway.post("/v1/chat/completions", json={**CHAT, "stream": True})
    upstream.handler = completion
    assert chat(gateway, stream=True) == ["miss", "hit"]


@pytest.mark.parametrize(("limit", "expected"), [(50, ["miss", "hit"]), (None, ["miss", "miss"])])
def test_a_response_that_the_gateway_has_cut_is_not_stored(
    gateway: httpx.Client,
    upstream: LocalUpstream,
    demo_project: Project,
    limit: int | None,
    expected: list[str],
) -> None:
    """The client's own limit is a part of what it asked for; the limit of a budget is not."""

    async def cut(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        message = {"role": "assistant", "content": "Hel"}
        choice = {"index": 0, "message": message, "finish_reason": "length"}
        return web.json_response({"id": "c", "model": body["model"], "choices": [choice]})

    demo_project.budgets.create(period="day", limit_nano=10**9)
    upstream.handler = cut
    body = {name: value for name, value in CHAT.items() if name != "max_tokens"}
    limits = {} if limit is None else {"max_tokens": limit}
    assert results(gateway, "/v1/chat/completions", {**body, **limits}) == expected


def test_a_hit_counts_in_the_rate_limit_but_not_in_budgets(
    live_gateway: LiveGateway, demo_project: Project, upstream: LocalUpstream
) -> None:
    key, token = ApiKey.objects.issue(demo_project, "limited")
    ApiKey.objects.filter(pk=key.pk).update(rpm_limit=3)
    with httpx.Client(base_url=live_gateway.url, headers={"x-api-key": token}) as client:
        assert chat(client, 1) == ["miss"]
        demo_project.budgets.create(key=key, period="day", limit_nano=1)
        hits = [client.post("/v1/chat/completions", json=CHAT) for _ in range(3)]
    assert [hit.status_code for hit in hits] == [200, 200, 429]
    assert hits[1].headers["x-ratelimit-remaining-requests"] == "0"
    assert only_record(4).outcome == Outcome.RATE_LIMITED and len(upstream.requests) == 1


def test_a_key_that_may_not_use_the_model_gets_no_hit(
    live_gateway: LiveGateway, gateway: httpx.Client, demo_project: Project
) -> None:
    assert chat(gateway) == ["miss", "hit"]
    for rights in ({"scopes": ["usage:read"]}, {"allowed_models": ["other"]}):
        key, token = ApiKey.objects.issue(demo_project, "restricted")
        ApiKey.objects.filter(pk=key.pk).update(**rights)
        url, headers = f"{live_gateway.url}/v1/chat/completions", {"x-api-key": token}
        assert httpx.post(url, json=CHAT, headers=headers).status_code == 403


def test_another_project_gets_no_hit(live_gateway: LiveGateway, gateway: httpx.Client) -> None:
    assert chat(gateway) == ["miss", "hit"]
    other = Project.objects.create_with_owner("Other", uses_operator_credentials=True)
    token = ApiKey.objects.issue(other, "theirs")[1]
    with httpx.Client(base_url=live_gateway.url, headers={"x-api-key": token}) as client:
        assert chat(client) == ["miss", "hit"]


def test_a_purge_empties_the_cache_of_the_project(
    live_gateway: LiveGateway, gateway: httpx.Client, demo_project: Project
) -> None:
    assert chat(gateway) == ["miss", "hit"]

    def purge(scope: str) -> httpx.Response:
        token = ApiKey.objects.issue(demo_project, "app", scopes=[scope])[1]
        return httpx.delete(f"{live_gateway.url}/v1/cache", headers={"x-api-key": token})

    assert purge("admin").json() == {"success": True, "data": {"purged": 1}}
    assert chat(gateway) == ["miss", "hit"]
    assert [purge(scope).status_code for scope in ("all", "inference")] == [403, 403]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1beta/models/demo/embed:embedContent"])
def test_embeddings_are_cached(gateway: httpx.Client, path: str) -> None:
    body = {"model": "demo/embed", "input": "Hi"}
    if "embedContent" in path:
        body = {"content": {"parts": [{"text": "Hi"}]}}  # type: ignore[dict-item]
    assert results(gateway, path, {**body, "cache": True}) == ["miss", "hit"]


@pytest.mark.parametrize("stream", [False, True])
def test_text_completions_are_cached(gateway: httpx.Client, upstream: LocalUpstream, stream: bool) -> None:
    body = {"model": "gpt-4o-mini", "prompt": "Hi", "max_tokens": 5, "stream": stream, "cache": True}
    assert results(gateway, "/v1/completions", body) == ["miss", "hit"]


def test_a_request_with_a_large_body_bypasses_the_cache(
    gateway: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "MAX_REQUEST_BYTES", 1_000)
    assert chat(gateway, user="u" * 1_000) == ["bypass", "bypass"]


def test_a_large_response_is_not_stored(
    gateway: httpx.Client, upstream: LocalUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "MAX_BODY_BYTES", 1_000)
    upstream.handler = api_calls.respond_with_text("openai_chat", "x" * 1_000)
    assert chat(gateway) == ["miss", "miss"]
    upstream.handler = completion
    assert chat(gateway, stream=True) == ["miss", "hit"]


def test_an_operation_can_cache_by_default(
    gateway: httpx.Client, upstream: LocalUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {name: value for name, value in CHAT.items() if name != "cache"}
    path = "/v1/chat/completions"
    match = resolve_route(path)
    assert match is not None
    default = replace(CHAT_COMPLETIONS, cached_by_default=True)
    monkeypatch.setattr(match, "func", billable(default))
    assert results(gateway, path, body) == ["miss", "hit"]
    assert results(gateway, path, {**body, "cache": False}) == ["bypass", "bypass"]


def test_a_response_that_cannot_be_stored_reaches_its_client(
    gateway: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RecursionError

    monkeypatch.setattr(recorder, "decode_response", fail)
    assert chat(gateway) == ["miss", "miss"]
