"""Ids of objects in shared accounts: each works only for the project that received it."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest
from aiohttp import web
from django.conf import settings
from django.db import OperationalError
from django.utils import timezone

from billing.models import Outcome
from keys.models import ApiKey
from projects.db.health import database_health
from projects.models import Project
from proxy.formats.account_ids import IssuedAccountId
from proxy.models import Credential, IssuedId, IssuedIdQuerySet
from proxy.pipeline import account_ids
from proxy.routing import accounts, config_file
from proxy.tasks import purge_issued_ids
from tests.support.live_gateway import LiveGateway, only_record, wait_until
from tests.support.upstream_server import LocalUpstream, chunk

pytestmark = pytest.mark.databases

RESPONSES, CHAT, MESSAGES = "/v1/responses", "/v1/chat/completions", "/v1/messages"
COUNT, GENERATE, STREAMED = (
    "/v1/messages/count_tokens",
    "/v1beta/models/{}:generateContent",
    "/v1beta/models/{}:streamGenerateContent?alt=sse",
)
MODELS = {
    RESPONSES: "gpt-4o",
    CHAT: "gpt-4o",
    MESSAGES: "claude-sonnet-4-5",
    COUNT: "claude-sonnet-4-5",
    GENERATE: "gemini-2.5-flash",
}
USAGE = {"input_tokens": 3, "output_tokens": 2}
CITED = [{"type": "container_file_citation", "container_id": "cntr_1", "file_id": "cfile_1"}]
OUTPUT: list[dict[str, Any]] = [
    {"type": "reasoning", "id": "rs_1", "summary": []},
    {"type": "image_generation_call", "id": "ig_1", "status": "completed"},
    {"type": "mcp_approval_request", "id": "mcpr_1", "name": "n", "arguments": "{}", "server_label": "s"},
    {
        "type": "code_interpreter_call",
        "id": "ci_1",
        "container_id": "cntr_1",
        "code": "1",
        "status": "completed",
    },
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Hi", "annotations": CITED}],
    },
]
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "conversation": {"id": "conv_1"},
    "output": OUTPUT,
    "usage": USAGE,
}
AUDIO = {"id": "audio_1", "data": "AAAA", "transcript": "Hi"}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": "Hi"}],
    "container": {"id": "container_1", "expires_at": "2027-01-01T00:00:00Z"},
    "usage": USAGE,
}


def input_of(*items: Any, **fields: Any) -> dict[str, Any]:
    return {"input": list(items), **fields}


def said(*content: Any, role: str = "user", **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": list(content)}], "max_tokens": 9, **fields}


def parts(*given: Any, **fields: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": list(given)}], **fields}


CODE = {"type": "code_interpreter"}
ISSUED: dict[str, tuple[str, dict[str, Any]]] = {
    "previous_response_id": (RESPONSES, {"input": "Hi", "previous_response_id": "resp_1"}),
    "conversation": (RESPONSES, {"input": "Hi", "conversation": "conv_1"}),
    "conversation object": (RESPONSES, {"input": "Hi", "conversation": {"id": "conv_1"}}),
    "item_reference": (RESPONSES, input_of({"type": "item_reference", "id": "msg_1"})),
    "item without a type": (RESPONSES, input_of({"id": "msg_1"})),
    "reasoning": (RESPONSES, input_of({"type": "reasoning", "id": "rs_1", "summary": []})),
    "picture": (RESPONSES, input_of({"type": "image_generation_call", "id": "ig_1"})),
    "approval": (
        RESPONSES,
        input_of({"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}),
    ),
    "code container": (RESPONSES, {"input": "Hi", "tools": [CODE | {"container": "cntr_1"}]}),
    "history of code": (RESPONSES, input_of(*OUTPUT)),
    "audio": (
        CHAT,
        {"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}, {"role": "user", "content": "Hi"}]},
    ),
    "container": (MESSAGES, said({"type": "text", "text": "Hi"}, container="container_1")),
    "container object": (MESSAGES, said({"type": "text", "text": "Hi"}, container={"id": "container_1"})),
    "thread": (
        MESSAGES,
        said({"type": "text", "text": "Hi"}, thread={"type": "continue", "previous_message_id": "msg_1"}),
    ),
}
"""Requests that name the ids that `answer` below issues."""
FILE = {"type": "file", "file_id": "file_1"}
STORED_FILE = {
    "fileData": {
        "fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc",
        "mimeType": "text/plain",
    }
}
UPLOADED: dict[str, tuple[str, dict[str, Any]]] = {
    "file": (RESPONSES, input_of({"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]})),
    "picture": (
        RESPONSES,
        input_of({"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}),
    ),
    "vector store": (
        RESPONSES,
        {"input": "Hi", "tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
    ),
    "file for code": (
        RESPONSES,
        {"input": "Hi", "tools": [CODE | {"container": {"type": "auto", "file_ids": ["file-1"]}}]},
    ),
    "prompt": (RESPONSES, {"input": "Hi", "prompt": {"id": "pmpt_1"}}),
    "chat file": (CHAT, said({"type": "file", "file": {"file_id": "file-1"}})),
    "voice": (
        CHAT,
        said({"type": "text", "text": "Hi"}, audio={"format": "mp3", "voice": {"id": "voice_1"}}),
    ),
    "document": (MESSAGES, said({"type": "document", "source": FILE})),
    "image": (MESSAGES, said({"type": "image", "source": FILE})),
    "upload": (MESSAGES, said({"type": "container_upload", "file_id": "file_1"})),
    "counted document": (COUNT, said({"type": "document", "source": FILE})),
    "skill": (
        MESSAGES,
        said(
            {"type": "text", "text": "Hi"}, container={"skills": [{"type": "custom", "skill_id": "skill_1"}]}
        ),
    ),
    "cached content": (GENERATE, parts({"text": "Hi"}, cachedContent="cachedContents/1")),
    "cached_content": (GENERATE, parts({"text": "Hi"}, cached_content="cachedContents/1")),
    "Google's file": (GENERATE, parts(STORED_FILE)),
    "streamed": (STREAMED, parts(STORED_FILE)),
    "storage": (GENERATE, parts({"file_data": {"file_uri": "gs://bucket/object"}})),
    "counted": ("/v1beta/models/{}:countTokens", parts(STORED_FILE)),
    "embedded": ("/v1beta/models/{}:embedContent", {"content": {"parts": [STORED_FILE]}}),
    "embedded batch": (
        "/v1beta/models/{}:batchEmbedContents",
        {"requests": [{"model": "models/gemini-2.5-flash", "content": {"parts": [STORED_FILE]}}]},
    ),
}
NOT_FOUND = {
    RESPONSES: "invalid_request",
    CHAT: "invalid_request",
    MESSAGES: "not_found_error",
    COUNT: "not_found_error",
}


async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Respond as each vendor does, with ids of all kinds."""
    if body.get("stream"):
        return await stream(request, events_of(request.path))
    if request.path.endswith("/responses"):
        return web.json_response(RESPONSE)
    if request.path.endswith("/messages"):
        return web.json_response(MESSAGE)
    if request.path.endswith("/chat/completions"):
        audio = AUDIO | {"expires_at": int(time.time()) + 3600}
        choice = {"index": 0, "message": {"role": "assistant", "audio": audio}, "finish_reason": "stop"}
        return web.json_response({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]})
    return web.json_response(
        {"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}]}
    )


async def stream(request: web.Request, events: list[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for event in events:
        await response.write(event)
    return response


def event(kind: str, **fields: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), json.dumps({"type": kind, **fields}).encode())


def events_of(path: str) -> list[bytes]:
    if path.endswith("/responses"):
        begun = event("response.created", response={"id": "resp_1", "output": []})
        text = event("response.output_text.delta", item_id="msg_1", delta="Hi")
        items = [event("response.output_item.done", item=item) for item in OUTPUT]
        return [begun, text, *items, event("response.completed", response=RESPONSE)]
    if path.endswith("/messages"):
        started = event("message_start", message=MESSAGE | {"container": None, "content": []})
        text = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hi"})
        ended = event(
            "message_delta", delta={"stop_reason": "end_turn", "container": MESSAGE["container"]}, usage=USAGE
        )
        return [started, text, ended, event("message_stop")]
    audio = [{"id": "audio_1"}, {"data": "AAAA"}, {"expires_at": int(time.time()) + 3600}]
    return [*(chunk({"audio": piece}) for piece in audio), chunk({}, "stop"), b"data: [DONE]\n\n"]


BEGIN: dict[str, dict[str, Any]] = {
    RESPONSES: {"input": "Hi"},
    CHAT: said({"type": "text", "text": "Hi"}, audio={"format": "wav", "voice": "alloy"}),
    MESSAGES: said({"type": "text", "text": "Hi"}, thread={"type": "create"}),
}
"""A request in each format whose response issues ids."""


@pytest.fixture(autouse=True)
def vendors(gateway: httpx.Client, upstream: LocalUpstream) -> Iterator[None]:
    """Give the operator an account at each vendor; all of them are the local upstream."""
    before = settings.ENV
    root = upstream.url.removesuffix("/v1")
    keys = {
        "anthropic_api_key": "k",
        "anthropic_base_url": root,
        "gemini_api_key": "k",
        "gemini_base_url": root,
    }
    configure(**keys)
    upstream.handler = answer
    yield
    settings.ENV = before
    configure()


def configure(**changes: Any) -> None:
    settings.ENV = settings.ENV.model_copy(update=changes)
    config_file.load.cache_clear()
    accounts.load_operator_accounts.cache_clear()


@pytest.fixture(autouse=True)
def neighbour(transactional_db: None) -> Project:
    """Create a second project that may use the operator's accounts, so that they are shared."""
    return Project.objects.create_with_owner("Neighbour", slug="neighbour", uses_operator_credentials=True)


@pytest.fixture
def other(live_gateway: LiveGateway, transactional_db: None) -> Iterator[httpx.Client]:
    """Return a client of a second project that may use the operator's accounts."""
    project = Project.objects.create_with_owner("Other", slug="other", uses_operator_credentials=True)
    yield from client_of(live_gateway, project)


@pytest.fixture
def owner(
    live_gateway: LiveGateway, upstream: LocalUpstream, transactional_db: None
) -> Iterator[httpx.Client]:
    """Return a client of a project with its own credentials."""
    project = Project.objects.create_with_owner("Owner", slug="owner", uses_operator_credentials=True)
    root = upstream.url.removesuffix("/v1")
    for provider, address in {"openai": upstream.url, "anthropic": root, "gemini": root}.items():
        Credential.objects.create(project=project, slug=f"my-{provider}", provider=provider, base_url=address)
    yield from client_of(live_gateway, project)


def client_of(live: LiveGateway, project: Project) -> Iterator[httpx.Client]:
    token = ApiKey.objects.issue(project, "tests")[1]
    with httpx.Client(base_url=live.url, headers={"authorization": f"Bearer {token}"}, timeout=20) as client:
        yield client


def post(
    client: httpx.Client, path: str, body: dict[str, Any], model: str = "", **fields: Any
) -> httpx.Response:
    named = model or MODELS.get(path, MODELS[GENERATE])
    if "{}" in path:
        return client.post(path.format(named), json=body | fields)
    return client.post(path, json={"model": named} | body | fields)


def begin(client: httpx.Client, path: str, **fields: Any) -> httpx.Response:
    issuing = post(client, path, BEGIN[path], **fields)
    assert issuing.status_code == 200, issuing.text
    return issuing


def error_of(response: httpx.Response, path: str) -> dict[str, Any]:
    assert response.status_code == 404, response.text
    error: dict[str, Any] = response.json()["error"]
    if path in NOT_FOUND:
        assert error["type"] == NOT_FOUND[path]
    else:
        assert (error["code"], error["status"]) == (404, "NOT_FOUND")
    return error


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("form", ISSUED)
def test_an_id_works_only_for_the_project_that_received_it(
    gateway: httpx.Client, other: httpx.Client, upstream: LocalUpstream, form: str, streamed: bool
) -> None:
    path, body = ISSUED[form]
    before = error_of(post(gateway, path, body), path)
    assert not upstream.requests, "what nobody got must not reach the provider"
    begin(gateway, path, stream=streamed)
    assert post(gateway, path, body).status_code == 200
    assert len(upstream.requests) == 2
    assert error_of(post(other, path, body), path)["message"] == before["message"], (
        "an id of another project is like any other"
    )
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("form", UPLOADED)
def test_an_object_created_elsewhere_is_rejected_with_a_reason(
    gateway: httpx.Client, upstream: LocalUpstream, form: str
) -> None:
    path, body = UPLOADED[form]
    message = error_of(post(gateway, path, body), path)["message"]
    assert "which several projects share" in message and "credential of the project's own" in message
    assert not upstream.requests


@pytest.mark.parametrize(("path", "body"), [*ISSUED.values(), *UPLOADED.values()], ids=[*ISSUED, *UPLOADED])
def test_every_id_works_with_the_projects_own_credential(
    owner: httpx.Client, upstream: LocalUpstream, path: str, body: dict[str, Any]
) -> None:
    assert post(owner, path, body).status_code == 200
    sent = json.loads(upstream.requests[0].body)
    assert {name: sent[name] for name in body} == body
    assert not IssuedId.objects.exclude(kind="response").exists(), "only responses can be retrieved"


def test_an_id_works_only_in_the_account_that_issued_it(
    gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    begin(gateway, RESPONSES)
    configure(openai_base_url=f"{upstream.url}/other")
    error_of(post(gateway, *ISSUED["previous_response_id"]), RESPONSES)


def test_accounts_of_routes_are_shared_too(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    configure(ai_gateway_model_routes=f"routed:{upstream.url}")
    path, body = UPLOADED["chat file"]
    error_of(post(gateway, path, body, model="routed"), path)
    error_of(
        post(gateway, *UPLOADED["file"], model="routed"), RESPONSES
    )  # It is converted to chat, and the id would be passed on.
    path, body = ISSUED["audio"]
    error_of(post(gateway, path, body, model="routed"), path)
    begin(gateway, CHAT, model="routed")
    assert post(gateway, path, body, model="routed").status_code == 200


def test_a_rejected_request_leaves_a_record_and_costs_nothing(gateway: httpx.Client) -> None:
    error = error_of(post(gateway, *ISSUED["previous_response_id"]), RESPONSES)
    assert (error["code"], error["param"]) == ("previous_response_not_found", "previous_response_id")
    assert error["message"].startswith("Previous response with id 'resp_1' not found.")
    record = only_record()
    assert (record.outcome, record.status_code, record.cost_nano) == (Outcome.INVALID_REQUEST, 404, 0)
    assert record.error == "previous_response_not_found"


def test_an_unstored_response_cannot_be_continued_but_resent(
    gateway: httpx.Client,
) -> None:
    begin(gateway, RESPONSES, store=False)
    error_of(post(gateway, *ISSUED["previous_response_id"]), RESPONSES)
    assert post(gateway, *ISSUED["history of code"]).status_code == 200


def test_a_file_written_by_the_code_tool_works_for_its_project(
    gateway: httpx.Client, other: httpx.Client, upstream: LocalUpstream
) -> None:
    begin(gateway, RESPONSES)
    body = input_of({"role": "user", "content": [{"type": "input_file", "file_id": "cfile_1"}]})
    assert post(gateway, RESPONSES, body).status_code == 200
    error_of(post(other, RESPONSES, body), RESPONSES)


@pytest.mark.parametrize(
    "body", [{"input": "Hi", "store": False}, {"input": "Hi", "metadata": {"file_id": "x"}, "store": False}]
)
def test_a_request_without_ids_makes_no_query(
    gateway: httpx.Client, upstream: LocalUpstream, monkeypatch: pytest.MonkeyPatch, body: dict[str, Any]
) -> None:
    message = {**OUTPUT[4], "content": [{"type": "output_text", "text": "Hi"}]}

    async def plain(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({**RESPONSE, "output": [message]})

    upstream.handler = plain
    calls: list[Any] = []
    monkeypatch.setattr(IssuedIdQuerySet, "known", lambda *_: calls.append("known"))
    monkeypatch.setattr(IssuedIdQuerySet, "store", lambda *_: calls.append("keep"))
    assert post(gateway, RESPONSES, body).status_code == 200
    assert calls == []


# When ids are stored --------------------------------------------------------------------------------


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Return an event: ids are stored once it is set."""
    event, really_store = threading.Event(), IssuedIdQuerySet.store

    def keep(self: IssuedIdQuerySet, issued: Any) -> None:
        assert event.wait(20)
        really_store(self, issued)

    monkeypatch.setattr(IssuedIdQuerySet, "store", keep)
    yield event
    event.set()


LAST = {RESPONSES: b"response.completed", CHAT: b"[DONE]", MESSAGES: b"message_stop"}


@pytest.mark.parametrize("path", LAST)
@pytest.mark.parametrize("pause", [0, 0.1], ids=["one chunk", "two chunks"])
def test_a_stream_ends_when_its_ids_are_stored(
    gateway: httpx.Client, upstream: LocalUpstream, gate: threading.Event, path: str, pause: float
) -> None:
    async def paused(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        *first, last = events_of(path)
        response = await stream(request, first)
        await asyncio.sleep(pause)
        await response.write(last)
        return response

    upstream.handler = paused
    early, received = b"", b""
    threading.Timer(0.5, gate.set).start()
    with gateway.stream("POST", path, json={"model": MODELS[path], "stream": True} | BEGIN[path]) as streamed:
        for part in streamed.iter_raw():
            received += part
            early += b"" if gate.is_set() else part
            if LAST[path] in received:
                assert gate.is_set(), "the last event came before the ids were stored"
                assert IssuedId.objects.exists()
    assert LAST[path] in received
    assert early or not pause, "what comes before the last event is not delayed"


def test_a_response_ends_when_its_ids_are_stored(gateway: httpx.Client, gate: threading.Event) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(begin, gateway, RESPONSES)
        time.sleep(0.3)
        assert not waiting.done()
        gate.set()
        assert waiting.result().json() == RESPONSE


def test_ids_of_a_disconnected_stream_are_stored(gateway: httpx.Client, upstream: LocalUpstream) -> None:
    async def endless(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = await stream(request, events_of(RESPONSES)[:-1])
        while True:
            await response.write(event("response.output_text.delta", item_id="msg_1", delta="Hi "))

    upstream.handler = endless
    with gateway.stream(
        "POST", RESPONSES, json={"model": "gpt-4o", "input": "Hi", "stream": True}
    ) as streamed:
        received = b""
        for part in streamed.iter_raw():
            received += part
            if b'"msg_1", "role"' in received:
                break
    only_record()
    upstream.handler = answer
    deadline = time.monotonic() + 5
    while post(gateway, *ISSUED["previous_response_id"]).status_code != 200:
        assert time.monotonic() < deadline, "the id was not stored"


def test_a_database_outage_loses_the_id_but_not_the_response(
    gateway: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def raise_error(*_: Any) -> None:
        raise OperationalError("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(IssuedIdQuerySet, "store", raise_error)
        begun = begin(gateway, RESPONSES)
    assert begun.json() == RESPONSE and only_record().outcome == Outcome.OK
    error_of(post(gateway, *ISSUED["previous_response_id"]), RESPONSES)
    monkeypatch.setattr(IssuedIdQuerySet, "known", raise_error)
    response = post(gateway, *ISSUED["previous_response_id"])
    assert response.status_code == 503 and "retry-after" in response.headers


def test_a_hung_database_delays_a_response_for_a_bounded_time(
    gateway: httpx.Client, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_ids, "STORE_TIMEOUT_S", 0.3)
    begun = time.monotonic()
    begin(gateway, RESPONSES)
    assert 0.3 <= time.monotonic() - begun < 3
    monkeypatch.setattr(account_ids, "STORE_TIMEOUT_S", 20)
    monkeypatch.setattr(database_health, "is_down", True)
    begun = time.monotonic()
    begin(gateway, RESPONSES)
    assert time.monotonic() - begun < 3, "nobody waits for a database that is known to be away"
    monkeypatch.setattr(database_health, "is_down", False)
    gate.set()
    begin(gateway, RESPONSES)
    assert post(gateway, *ISSUED["previous_response_id"]).status_code == 200


def test_ids_beyond_the_queue_limit_are_dropped(
    gate: threading.Event, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_ids, "MAX_QUEUED_IDS", 2)
    writer = account_ids.Writer()
    futures = [writer.submit([issued_id(project, number)]) for number in range(6)]
    rejected = [future for future in futures if future.done()]
    assert rejected and all(isinstance(future.exception(), account_ids.QueueFull) for future in rejected)
    gate.set()
    writer.executor.shutdown()
    assert IssuedId.objects.count() == 6 - len(rejected)


def issued_id(project: Project, number: int, **fields: Any) -> IssuedId:
    return IssuedId(project=project, account="openai", kind="response", digest=f"{number:064}", **fields)


def test_ids_of_a_deleted_project_do_not_fail_those_of_others(
    gate: threading.Event, project: Project, demo_project: Project
) -> None:
    writer = account_ids.Writer()
    writer.submit(
        [issued_id(project, 0)]
    )  # It occupies the thread, so that the next two are written together.
    time.sleep(0.1)
    gone = Project(pk=10**9)
    futures = [writer.submit([issued_id(gone, 1)]), writer.submit([issued_id(demo_project, 2)])]
    gate.set()
    writer.executor.shutdown()
    assert futures[0].exception() is not None and futures[1].exception() is None
    assert set(IssuedId.objects.values_list("project", flat=True)) == {project.pk, demo_project.pk}


def test_many_concurrent_responses_store_their_ids(
    gateway: httpx.Client, other: httpx.Client, upstream: LocalUpstream
) -> None:
    async def numbered(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(RESPONSE | {"id": body["input"], "conversation": None})

    upstream.handler = numbered
    clients = {"a": gateway, "b": other}
    names = [f"resp_{owner}_{number}" for number in range(20) for owner in clients]

    def first(name: str) -> int:
        return post(clients[name[5]], RESPONSES, {"input": name}).status_code

    def later(name: str, client: httpx.Client) -> int:
        return post(client, RESPONSES, {"input": "resp_x", "previous_response_id": name}).status_code

    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(first, names)) == {200}
        assert set(pool.map(lambda name: later(name, clients[name[5]]), names)) == {200}
        assert set(pool.map(lambda name: later(name, clients["a" if name[5] == "b" else "b"]), names)) == {
            404
        }


# How long ids are kept --------------------------------------------------------------------------------


def test_an_id_works_as_long_as_the_provider_keeps_the_object(gateway: httpx.Client) -> None:
    begin(gateway, RESPONSES)
    begin(gateway, CHAT)
    now = timezone.now()
    expiries = {
        (row.kind, row.expires_at and round((row.expires_at - now) / timedelta(hours=1)))
        for row in IssuedId.objects.all()
    }
    month = 30 * 24
    assert expiries == {
        ("response", month),
        ("conversation", None),
        ("item", None),  # It is in the conversation.
        ("container", month),
        ("file", month),
        ("audio", 1),
    }
    IssuedId.objects.filter(kind="response").update(expires_at=now)
    error_of(post(gateway, *ISSUED["previous_response_id"]), RESPONSES)
    begin(gateway, RESPONSES)
    assert post(gateway, *ISSUED["previous_response_id"]).status_code == 200


@pytest.mark.parametrize("until", [-1, 0, 1, 10**18, 10**30])
def test_an_absurd_expiry_is_ignored(until: int) -> None:
    kept = account_ids.expiry(IssuedAccountId("audio", "audio_1", until=until))
    assert kept is not None and timedelta(days=29) < kept - timezone.now() < timedelta(days=31)


def test_expired_ids_are_deleted_in_batches(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.models.issued_ids.PURGE_BATCH_SIZE", 2)
    past, future = timezone.now() - timedelta(seconds=1), timezone.now() + timedelta(days=1)
    IssuedId.objects.store(issued_id(project, number, expires_at=past) for number in range(5))
    IssuedId.objects.store([issued_id(project, 5, expires_at=future), issued_id(project, 6, expires_at=None)])
    assert purge_issued_ids() == 5
    assert purge_issued_ids() == 0
    assert set(IssuedId.objects.values_list("digest", flat=True)) == {f"{5:064}", f"{6:064}"}


def test_an_id_that_is_issued_again_gets_the_later_expiry(project: Project) -> None:
    soon, later = timezone.now() + timedelta(hours=1), timezone.now() + timedelta(days=1)
    IssuedId.objects.store([issued_id(project, 1, expires_at=soon)])
    IssuedId.objects.store([issued_id(project, 1, expires_at=soon), issued_id(project, 1, expires_at=later)])
    assert IssuedId.objects.get().expires_at == later


def test_no_id_is_stored_in_plain_text(gateway: httpx.Client) -> None:
    begin(gateway, RESPONSES)
    values = json.dumps(list(IssuedId.objects.values()), default=str)
    assert "resp_1" not in values and "conv_1" not in values


def test_ids_are_deleted_with_their_project(project: Project) -> None:
    IssuedId.objects.store([issued_id(project, 1)])
    project.delete()
    assert not IssuedId.objects.exists()


def test_a_project_that_uses_the_accounts_alone_may_name_any_object(
    gateway: httpx.Client, upstream: LocalUpstream, neighbour: Project
) -> None:
    path, fields = ISSUED["previous_response_id"]
    assert post(gateway, path, fields).status_code == 404 and not upstream.requests
    neighbour.delete()
    wait_until(lambda: post(gateway, path, fields).status_code != 404)
    assert upstream.requests
