"""Idempotency-Key: a request that is sent twice with one key is run and billed once."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import openai
import pytest
from aiohttp import web
from cryptography.fernet import Fernet, MultiFernet
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone

from billing.models import Outcome, UsageRecord
from keys.models import ApiKey
from projects import vault
from projects.ids import uuid7
from projects.models import Project
from proxy.models import IdempotentRequest
from proxy.pipeline import idempotency
from proxy.tasks import purge_idempotent_requests
from tests.e2e.test_isolation import BODIES, CONTENTS
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import USAGE, LocalUpstream, chunk, completion

pytestmark = pytest.mark.databases

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50}
STREAM = {**CHAT, "stream": True}
PATHS = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "compact": "/v1/responses/compact",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "messages": "/v1/messages",
    "generate": "/v1beta/models/demo/chat:generateContent",
    "embed": "/v1beta/models/demo/embed:embedContent",
    "embed_batch": "/v1beta/models/demo/embed:batchEmbedContents",
}


def post(
    client: httpx.Client,
    body: dict[str, Any] | None = None,
    key: str = "k1",
    path: str = PATHS["chat"],
    **headers: str,
) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(path, json=body or CHAT, headers={"idempotency-key": key, **named})


def is_replayed(response: httpx.Response) -> bool:
    return bool(response.headers.get("idempotent-replayed") == "true")


def outcomes() -> list[str]:
    return list(UsageRecord.objects.order_by("id").values_list("outcome", flat=True))


@pytest.fixture
def gate(upstream: LocalUpstream) -> Iterator[threading.Event]:
    """Return an event. The provider does not respond until the event is set."""
    event = threading.Event()

    async def slow(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.to_thread(event.wait, 20)
        return await completion(request, body)

    upstream.handler = slow
    yield event
    event.set()


def start_request(
    client: httpx.Client, body: dict[str, Any], path: str, upstream: LocalUpstream
) -> threading.Thread:
    """Start a first request, and return when the provider has received it."""
    thread = threading.Thread(target=post, args=(client, body), kwargs={"path": path})
    thread.start()
    wait_for(lambda: bool(upstream.requests))
    return thread


def wait_for(condition: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def test_a_repeated_request_gets_the_first_response_for_free(
    gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    first, again = post(gateway), post(gateway, x_request_id="second")
    assert len(upstream.requests) == 1
    assert (again.status_code, again.content) == (200, first.content) and again.json()["usage"] == USAGE
    assert is_replayed(again) and not is_replayed(first)
    assert (first.headers["x-cost-usd"], again.headers["x-cost-usd"]) == ("0.000024", "0")
    assert again.headers["content-type"] == first.headers["content-type"]
    assert (
        again.headers["x-request-id"] == "second"
        and again.headers["x-gateway-original-request"] == first.headers["x-request-id"]
    )
    assert "x-gateway-original-request" not in first.headers
    record = only_record(2)
    assert (record.request_id, record.outcome, record.status_code, record.cost_nano) == (
        "second",
        Outcome.CACHED,
        200,
        0,
    )
    assert record.prompt_tokens == record.output_tokens == 0 and record.requested_model == "gpt-4o-mini"


def test_a_stream_is_replayed_as_a_stream(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    first, again = post(gateway, STREAM), post(gateway, STREAM)
    assert len(upstream.requests) == 1 and is_replayed(again)
    assert again.content == first.content and again.content.endswith(b"data: [DONE]\n\n")
    assert (
        again.headers["content-type"].startswith("text/event-stream")
        and again.headers["transfer-encoding"] == "chunked"
    )
    assert only_record(2).streamed and outcomes() == ["ok", "cached"]


@pytest.mark.parametrize("operation", sorted(BODIES))
def test_every_billable_operation_can_be_repeated(gateway: httpx.Client, operation: str) -> None:
    # The demo has no model for OpenAI's legacy completions.
    body = BODIES[operation] | ({"model": "gpt-4o-mini"} if operation == "completions" else {})
    first, again = (post(gateway, body, path=PATHS[operation]) for _ in range(2))
    assert first.status_code == 200 and again.content == first.content
    assert not is_replayed(first) and is_replayed(again)
    assert only_record(2).cost_nano == 0


@pytest.mark.parametrize("query", ["", "?alt=sse"])
def test_a_gemini_stream_is_replayed_in_the_requested_form(gateway: httpx.Client, query: str) -> None:
    path = f"/v1beta/models/demo/chat:streamGenerateContent{query}"
    body = {"contents": CONTENTS, "generationConfig": {"maxOutputTokens": 5}}
    first, again = post(gateway, body, path=path), post(gateway, body, path=path)
    assert is_replayed(again) and again.content == first.content
    assert post(gateway, body, path=PATHS["generate"]).status_code == 422


def test_one_of_fifty_concurrent_requests_runs(
    live_gateway: LiveGateway, upstream: LocalUpstream, token: str
) -> None:
    async def slow(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(0.5)
        return await completion(request, body)

    async def fifty() -> list[httpx.Response]:
        headers = {"authorization": f"Bearer {token}", "idempotency-key": "shared"}
        async with httpx.AsyncClient(base_url=live_gateway.url, headers=headers, timeout=30) as client:
            return await asyncio.gather(*(client.post(PATHS["chat"], json=CHAT) for _ in range(50)))

    upstream.handler = slow
    responses = asyncio.run(fifty())
    assert len(upstream.requests) == 1
    ran = [response for response in responses if response.status_code == 200 and not is_replayed(response)]
    others = [response for response in responses if response.status_code == 409 or is_replayed(response)]
    assert (len(ran), len(others)) == (1, 49)
    only_record(50)
    assert UsageRecord.objects.exclude(cost_nano=0).count() == 1
    assert all(is_replayed(response) for response in asyncio.run(fifty()))
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("path", "body", "error_of"),
    [
        (PATHS["chat"], CHAT, lambda response: response["error"]["code"]),
        (PATHS["messages"], CHAT, lambda response: response["error"]["type"]),
        (
            "/v1beta/models/gpt-4o-mini:generateContent",
            {"contents": CONTENTS},
            lambda response: response["error"]["status"],
        ),
    ],
)
def test_each_format_reports_what_is_wrong_with_a_key(
    gateway: httpx.Client,
    upstream: LocalUpstream,
    gate: threading.Event,
    path: str,
    body: dict[str, Any],
    error_of: Callable[[Any], str],
) -> None:
    first = start_request(gateway, body, path, upstream)
    refused = [
        post(gateway, body, path=path),
        post(gateway, {**body, "extra": 1}, path=path),
        post(gateway, body, key="", path=path),
    ]
    gate.set()
    first.join()
    assert [response.status_code for response in refused] == [409, 422, 400]
    assert refused[0].headers["retry-after"] == "1"
    assert all(error_of(response.json()) for response in refused)
    assert len(upstream.requests) == 1
    assert post(gateway, {**body, "extra": 1}, path=path).status_code == 422


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\tinside", "é"])
def test_malformed_key_is_rejected(gateway: httpx.Client, upstream: LocalUpstream, key: str) -> None:
    response = gateway.post(PATHS["chat"], json=CHAT, headers=[(b"idempotency-key", key.encode())])
    assert (response.status_code, response.json()["error"]["code"]) == (400, "idempotency_key_malformed")
    assert not upstream.requests and only_record().outcome == Outcome.INVALID_REQUEST


def test_unusual_valid_keys_are_accepted(gateway: httpx.Client) -> None:
    for key in ("x" * 255, "x" * 254, '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "a b~!"):
        assert not is_replayed(post(gateway, key=key))
        assert is_replayed(post(gateway, key=key))


@pytest.mark.parametrize("status", [400, 429, 500])
def test_a_failed_request_runs_again_under_the_same_key(
    gateway: httpx.Client, upstream: LocalUpstream, status: int
) -> None:
    async def failing(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no"}}, status=status)

    upstream.handler = failing
    assert post(gateway).status_code == status
    upstream.handler = completion
    assert post(gateway, {**CHAT, "max_tokens": 51}).status_code == 200, "the key is free for any request"
    assert len(upstream.requests) == 2


def test_a_denied_request_runs_again_under_the_same_key(gateway: httpx.Client, demo_project: Project) -> None:
    budget = demo_project.budgets.create(period="day", limit_nano=1)
    assert post(gateway).status_code == 429
    budget.delete()
    wait_for(lambda: post(gateway).status_code == 200)


def test_an_interrupted_stream_runs_again(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    async def broken(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chunk({"content": "half"}))
        assert request.transport is not None
        request.transport.abort()
        return response

    upstream.handler = broken
    assert b"error" in post(gateway, STREAM).content
    upstream.handler = completion
    again = post(gateway, STREAM)
    assert not is_replayed(again) and b"[DONE]" in again.content


def test_disconnected_stream_is_not_stored(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    body = {**STREAM, "model": "demo/chat", "demo": {"delay_ms": 50}}
    with gateway.stream("POST", PATHS["chat"], json=body, headers={"idempotency-key": "k1"}) as response:
        next(response.iter_raw())
    assert only_record().outcome == Outcome.CLIENT_CLOSED
    wait_for(lambda: not IdempotentRequest.objects.exists())


@pytest.mark.parametrize("breaks", [False, True])
def test_stream_is_complete_after_its_final_event(
    gateway: httpx.Client, upstream: LocalUpstream, breaks: bool
) -> None:
    """OpenAI's SDK disconnects after the final event, and a provider may break the connection then."""
    left = threading.Event()

    async def answer(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chunk({"content": "Hello"}) + b"data: [DONE]\n\n")
        if breaks:
            await asyncio.sleep(0.05)
            assert request.transport is not None
            request.transport.abort()
        await asyncio.to_thread(left.wait, 10)
        return response

    upstream.handler = answer
    with gateway.stream("POST", PATHS["chat"], json=STREAM, headers={"idempotency-key": "k1"}) as reply:
        seen = b""
        for part in reply.iter_raw():
            seen += part
            if b"[DONE]" in seen and not breaks:
                break
    assert b"error" not in seen
    wait_for(UsageRecord.objects.exists)
    left.set()
    assert UsageRecord.objects.get().outcome == Outcome.OK
    again = post(gateway, STREAM)
    assert is_replayed(again) and b"[DONE]" in again.content and len(upstream.requests) == 1


def test_a_client_that_disconnects_early_can_repeat_its_request(
    gateway: httpx.Client, upstream: LocalUpstream, gate: threading.Event
) -> None:
    with pytest.raises(httpx.ReadTimeout):
        gateway.post(PATHS["chat"], json=CHAT, headers={"idempotency-key": "k1"}, timeout=0.3)
    assert only_record().outcome == Outcome.CLIENT_CLOSED
    gate.set()
    wait_for(lambda: post(gateway).status_code == 200)


@pytest.mark.parametrize("body", [CHAT, STREAM])
def test_a_response_too_large_to_store_runs_again(
    gateway: httpx.Client, upstream: LocalUpstream, monkeypatch: pytest.MonkeyPatch, body: dict[str, Any]
) -> None:
    monkeypatch.setattr(idempotency, "MAX_STORED_BYTES", 100)
    assert post(gateway, body).content == post(gateway, body).content
    assert len(upstream.requests) == 2 and not IdempotentRequest.objects.exists()


def test_keys_belong_to_a_project_and_not_to_one_api_key(
    live_gateway: LiveGateway, gateway: httpx.Client, demo_project: Project
) -> None:
    first = post(gateway)
    _, sister = ApiKey.objects.issue(demo_project, "sister")
    _, other_token = ApiKey.objects.issue(
        Project.objects.create_with_owner("Other", uses_operator_credentials=True), "other"
    )
    assert is_replayed(post(gateway, authorization=f"Bearer {sister}"))
    elsewhere = post(gateway, authorization=f"Bearer {other_token}")
    assert elsewhere.status_code == first.status_code == 200 and not is_replayed(elsewhere)


def test_replay_requires_access_to_the_model(gateway: httpx.Client, demo_project: Project) -> None:
    post(gateway)
    _, narrow = ApiKey.objects.issue(demo_project, "narrow", allowed_models=["demo/chat"])
    assert post(gateway, authorization=f"Bearer {narrow}").status_code == 403


def claimed_key(project: Project, expires_in: timedelta) -> IdempotentRequest:
    """Return a key whose request is in progress in a process that has stopped."""
    return IdempotentRequest.objects.create(
        project=project,
        key="k1",
        fingerprint="another request's",
        claim_id=uuid7(),
        expires_at=timezone.now() + expires_in,
    )


def test_killed_process_loses_its_key_when_the_lease_expires(
    gateway: httpx.Client, demo_project: Project
) -> None:
    row = claimed_key(demo_project, timedelta(seconds=1))
    assert post(gateway).status_code == 422
    wait_for(lambda: timezone.now() > row.expires_at)
    assert post(gateway).status_code == 200


def test_a_lease_is_renewed_while_the_request_runs(
    gateway: httpx.Client, upstream: LocalUpstream, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "LEASE_RENEW_INTERVAL_S", 0.05)
    first = start_request(gateway, CHAT, PATHS["chat"], upstream)
    IdempotentRequest.objects.update(expires_at=timezone.now() + timedelta(seconds=2))
    wait_for(lambda: IdempotentRequest.objects.get().expires_at > timezone.now() + timedelta(seconds=30))
    gate.set()
    first.join()
    assert is_replayed(post(gateway))
    assert IdempotentRequest.objects.get().expires_at > timezone.now() + timedelta(hours=23)


def test_after_a_day_a_key_is_released_and_its_response_purged(
    gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    post(gateway)
    post(gateway, key="k2")
    assert purge_idempotent_requests() == 0
    IdempotentRequest.objects.update(expires_at=timezone.now())
    assert not is_replayed(post(gateway)) and len(upstream.requests) == 3
    assert purge_idempotent_requests() == 1
    assert IdempotentRequest.objects.get().key == "k1"


def test_stored_responses_are_encrypted_and_deleted_with_the_project(
    gateway: httpx.Client, demo_project: Project
) -> None:
    post(gateway)
    (row,) = IdempotentRequest.objects.values()
    assert "Hello" not in str(row) and "Hi" not in str(row["fingerprint"])
    assert b"Hello there" in b"".join(
        idempotency.StoredResponse.decrypt(demo_project.pk, row["sealed_response"]).chunks
    )
    with pytest.raises(vault.DecryptionError):
        idempotency.StoredResponse.decrypt(demo_project.pk + 1, row["sealed_response"])
    demo_project.delete()
    assert not IdempotentRequest.objects.exists()


def test_undecryptable_stored_response_is_an_error_and_not_billed(
    gateway: httpx.Client, upstream: LocalUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(gateway)
    monkeypatch.setattr(vault, "fernet", lambda: MultiFernet([Fernet(Fernet.generate_key())]))
    assert post(gateway).status_code == 503 and len(upstream.requests) == 1


def test_stored_responses_survive_a_rotation_of_encryption_keys(
    gateway: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(gateway)
    new = Fernet(Fernet.generate_key())
    old = [Fernet(key) for key in settings.ENV.gateway_encryption_keys]
    monkeypatch.setattr(vault, "fernet", lambda: MultiFernet([new, *old]))
    call_command("rotate_credentials", verbosity=0)
    monkeypatch.setattr(vault, "fernet", lambda: MultiFernet([new]))
    assert is_replayed(post(gateway))


def test_without_the_header_nothing_is_stored(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    for _ in range(2):
        gateway.post(PATHS["chat"], json=CHAT)
    assert len(upstream.requests) == 2 and not IdempotentRequest.objects.exists()


def test_openai_sdk_retry_is_replayed(live_gateway: LiveGateway, upstream: LocalUpstream, token: str) -> None:
    with openai.OpenAI(base_url=f"{live_gateway.url}/v1", api_key=token, max_retries=0) as client:
        ask: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}
        whole, again = (
            client.chat.completions.create(**ask, extra_headers={"Idempotency-Key": "whole"})
            for _ in range(2)
        )
        assert whole == again and whole.choices[0].message.content == "Hello there"
        streams = (
            client.chat.completions.create(**ask, stream=True, extra_headers={"Idempotency-Key": "stream"})
            for _ in range(2)
        )
        first, second = (list(stream) for stream in streams)
        assert first == second and len(first) == 3
        with pytest.raises(openai.UnprocessableEntityError):
            client.chat.completions.create(**ask, seed=1, extra_headers={"Idempotency-Key": "whole"})
    assert len(upstream.requests) == 2


def test_an_sdk_that_retries_gets_the_first_response(
    live_gateway: LiveGateway, upstream: LocalUpstream, gate: threading.Event, token: str
) -> None:
    """SDKs retry after a 409."""
    with (
        openai.OpenAI(base_url=f"{live_gateway.url}/v1", api_key=token, max_retries=5) as client,
        ThreadPoolExecutor() as threads,
    ):

        def ask() -> str:
            messages = [{"role": "user", "content": "Hi"}]
            response = client.chat.completions.create(
                model="m",
                messages=messages,  # type: ignore[arg-type]
                extra_headers={"Idempotency-Key": "k1"},
            )
            return response.choices[0].message.content or ""

        responses = [threads.submit(ask) for _ in range(2)]
        wait_for(lambda: Outcome.INVALID_REQUEST in outcomes())
        gate.set()
        assert [response.result(20) for response in responses] == ["Hello there"] * 2
    assert len(upstream.requests) == 1
