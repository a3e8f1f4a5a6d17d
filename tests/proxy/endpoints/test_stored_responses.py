"""Responses that a provider stores: retrieved, cancelled and deleted by the project that created them."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from aiohttp import web

from billing.models import Outcome, UsageRecord
from keys.models import ApiKey
from projects.models import Project
from proxy.models import Credential, IssuedId
from tests.support.live_gateway import LiveGateway, only_record, wait_until
from tests.support.responses_provider import TEXT, ResponsesProvider
from tests.support.upstream_server import LocalUpstream

pytestmark = pytest.mark.databases

MODEL = "gpt-4o-mini"
CREATE: dict[str, Any] = {"model": MODEL, "input": "Hi"}


@pytest.fixture(autouse=True)
def provider(upstream: LocalUpstream) -> ResponsesProvider:
    provider = ResponsesProvider()
    upstream.handler = provider.handle
    return provider


@pytest.fixture
def other(live_gateway: LiveGateway, transactional_db: None) -> Iterator[httpx.Client]:
    """Return a client of a second project that may use the operator's accounts."""
    yield from client_of(
        live_gateway,
        Project.objects.create_with_owner("Other", slug="other", uses_operator_credentials=True),
    )


@pytest.fixture
def owner(
    live_gateway: LiveGateway, upstream: LocalUpstream, transactional_db: None
) -> Iterator[httpx.Client]:
    """Return a client of a project with two credentials of its own at one provider."""
    project = Project.objects.create_with_owner("Owner", slug="owner")
    for slug in ("first", "second"):
        credential = Credential(project=project, slug=slug, provider="openai", base_url=upstream.url)
        credential.set_secret(f"sk-{slug}")
        credential.save()
    yield from client_of(live_gateway, project)


def client_of(live: LiveGateway, project: Project, **key: Any) -> Iterator[httpx.Client]:
    token = ApiKey.objects.issue(project, "tests", **key)[1]
    with httpx.Client(base_url=live.url, headers={"authorization": f"Bearer {token}"}, timeout=20) as client:
        yield client


def create(client: httpx.Client, **fields: Any) -> str:
    created = client.post("/v1/responses", json=CREATE | fields)
    assert created.status_code == 200, created.text
    id: str = created.json()["id"]
    return id


def paths_of(id: str) -> list[tuple[str, str]]:
    path = f"/v1/responses/{id}"
    return [
        ("GET", path),
        ("GET", f"{path}?stream=true"),
        ("GET", f"{path}/input_items"),
        ("POST", f"{path}/cancel"),
        ("DELETE", path),
    ]


def assert_not_found(response: httpx.Response, id: str) -> None:
    assert response.status_code == 404, response.text
    error = response.json()["error"]
    assert error["message"].startswith(f"Response with id '{id}' not found.")
    assert (error["type"], error["code"]) == ("invalid_request", "response_not_found")


# To whom a response belongs -------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["/v1", "/openai/v1"])
def test_a_response_is_retrieved_by_its_project(
    gateway: httpx.Client, provider: ResponsesProvider, prefix: str
) -> None:
    id = create(gateway)
    retrieved = gateway.get(f"{prefix}/responses/{id}", params={"include[]": "reasoning.encrypted_content"})
    assert retrieved.status_code == 200 and retrieved.json() == provider.responses[id]
    assert retrieved.headers["x-gateway-provider"] == "openai"
    assert retrieved.headers["x-gateway-model"] == MODEL
    assert provider.calls[-1] == ("GET", f"/v1/responses/{id}?include%5B%5D=reasoning.encrypted_content")


def test_an_unknown_or_foreign_id_is_the_same_404_on_every_route(
    gateway: httpx.Client, other: httpx.Client, provider: ResponsesProvider
) -> None:
    id = create(gateway)
    before = len(provider.calls)
    for method, path in paths_of(id):
        assert_not_found(other.request(method, path), id)
    for method, path in paths_of("resp_unknown"):
        assert_not_found(gateway.request(method, path), "resp_unknown")
    assert len(provider.calls) == before, "nothing reaches the provider"
    assert id in provider.responses


def test_ids_are_bound_in_accounts_of_projects_too(
    gateway: httpx.Client, owner: httpx.Client, provider: ResponsesProvider
) -> None:
    id = create(owner, model=f"first/{MODEL}")
    assert owner.get(f"/v1/responses/{id}").status_code == 200
    for method, path in paths_of(id):
        assert_not_found(gateway.request(method, path), id)
    assert set(IssuedId.objects.values_list("kind", "model")) == {("response", f"first/{MODEL}")}


def test_the_account_that_created_a_response_retrieves_it(
    owner: httpx.Client, upstream: LocalUpstream
) -> None:
    for slug in ("second", "first"):
        id = create(owner, model=f"{slug}/{MODEL}")
        assert owner.get(f"/v1/responses/{id}").status_code == 200
        assert upstream.requests[-1].headers["authorization"] == f"Bearer sk-{slug}"
    Credential.objects.filter(slug="first").delete()
    wait_until(lambda: owner.get(f"/v1/responses/{id}").status_code == 404)


def test_a_key_that_is_limited_to_models_sees_their_responses_only(
    gateway: httpx.Client, live_gateway: LiveGateway, demo_project: Project
) -> None:
    id, allowed = create(gateway), create(gateway, model="gpt-4o")
    for limited in client_of(live_gateway, demo_project, allowed_models=["gpt-4o"]):
        refused = limited.get(f"/v1/responses/{id}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
        assert limited.get(f"/v1/responses/{allowed}").status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_an_unstored_response_cannot_be_retrieved(
    gateway: httpx.Client, provider: ResponsesProvider, stream: bool
) -> None:
    gateway.post("/v1/responses", json=CREATE | {"store": False, "stream": stream})
    (id,) = provider.responses
    assert_not_found(gateway.get(f"/v1/responses/{id}"), id)


def test_a_converted_response_is_a_404_that_says_why(gateway: httpx.Client) -> None:
    id = create(gateway, model="demo/chat")
    missing = gateway.get(f"/v1/responses/{id}")
    assert_not_found(missing, id)
    assert "served by the Responses API" in missing.json()["error"]["message"]


def test_a_deleted_response_is_gone(gateway: httpx.Client, provider: ResponsesProvider) -> None:
    id = create(gateway)
    deleted = gateway.delete(f"/v1/responses/{id}")
    assert deleted.json() == {"id": id, "object": "response", "deleted": True}
    assert id not in provider.responses
    assert_not_found(gateway.get(f"/v1/responses/{id}"), id)


def test_a_streamed_response_can_be_retrieved(gateway: httpx.Client, provider: ResponsesProvider) -> None:
    assert gateway.post("/v1/responses", json=CREATE | {"stream": True}).status_code == 200
    (id,) = provider.responses
    assert gateway.get(f"/v1/responses/{id}").json()["output"][0]["content"][0]["text"] == TEXT


# What is relayed ------------------------------------------------------------------------------------


def test_a_stream_is_resumed_after_an_event(gateway: httpx.Client, provider: ResponsesProvider) -> None:
    id = create(gateway)
    resumed = gateway.get(f"/v1/responses/{id}", params={"stream": "true", "starting_after": 2})
    assert resumed.headers["content-type"].startswith("text/event-stream")
    numbers = [
        json.loads(line.removeprefix("data: "))["sequence_number"]
        for line in resumed.text.splitlines()
        if line.startswith("data: ")
    ]
    assert numbers == [3, 4]
    assert provider.calls[-1] == ("GET", f"/v1/responses/{id}?stream=true&starting_after=2")


def test_a_stream_that_the_provider_interrupts_ends_with_an_error(
    gateway: httpx.Client, provider: ResponsesProvider, upstream: LocalUpstream
) -> None:
    id = create(gateway)

    async def cut(request: web.Request, _body: Any) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'event: response.created\ndata: {"type":"response.created"')
        return response

    upstream.handler = cut
    stream = gateway.get(f"/v1/responses/{id}?stream=true").text
    assert "\n\nevent: error\n" in stream and "ended before it was complete" in stream
    assert only_record(2).outcome == Outcome.UPSTREAM_ERROR


def test_the_gateway_key_is_not_sent_to_the_provider(
    live_gateway: LiveGateway, gateway: httpx.Client, provider: ResponsesProvider, token: str
) -> None:
    id = create(gateway)
    query = {"key": token, "api-version": "2026-11-01", "order": "asc", "after": token}
    listed = httpx.get(f"{live_gateway.url}/v1/responses/{id}/input_items", params=query)
    assert listed.status_code == 200, listed.text
    assert provider.calls[-1] == ("GET", f"/v1/responses/{id}/input_items?order=asc")


def test_a_providers_error_passes_unchanged(gateway: httpx.Client) -> None:
    id = create(gateway)
    refused = gateway.post(f"/v1/responses/{id}/cancel")
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == "Cannot cancel a synchronous response."
    record = only_record(2)
    assert (record.operation, record.outcome, record.cost_nano) == (
        "cancel_response",
        Outcome.UPSTREAM_ERROR,
        0,
    )


def test_a_refusal_of_the_providers_key_is_not_the_clients(
    gateway: httpx.Client, provider: ResponsesProvider
) -> None:
    id = create(gateway)
    provider.failure = 401
    refused = gateway.get(f"/v1/responses/{id}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (502, "provider_auth_error")
    assert only_record(2).error == "provider_auth_error"


def test_rate_limits_are_reported_and_not_used(
    gateway: httpx.Client, live_gateway: LiveGateway, demo_project: Project
) -> None:
    id = create(gateway)
    for limited in client_of(live_gateway, demo_project, rpm_limit=5):
        for path in (f"/v1/responses/{id}", f"/v1/responses/{id}?stream=true") * 4:
            assert limited.get(path).headers["x-ratelimit-remaining-requests"] == "5"


def test_other_methods_are_named(gateway: httpx.Client) -> None:
    id = create(gateway)
    refused = gateway.put(f"/v1/responses/{id}", json={})
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, DELETE")


# Records, scopes ------------------------------------------------------------------------------------


def test_requests_about_a_response_are_recorded_and_free(gateway: httpx.Client) -> None:
    id = create(gateway)
    for method, path in paths_of(id):
        gateway.request(method, path)
    wait_until(lambda: UsageRecord.objects.count() == 6)
    first, *records = UsageRecord.objects.order_by("id")
    assert first.cost_nano > 0 and {record.cost_nano for record in records} == {0}
    assert [record.operation for record in records] == [
        "retrieve_response",
        "retrieve_response",
        "list_input_items",
        "cancel_response",
        "delete_response",
    ]
    assert {(r.requested_model, r.provider, r.provider_model) for r in records} == {("", "openai", MODEL)}


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        ("inference", {"GET", "POST", "DELETE"}),
        ("post:/openai/v1/responses", {"POST"}),
        ("get:/openai/v1/responses", {"GET"}),
        ("delete:/openai/v1/responses", {"DELETE"}),
    ],
)
def test_each_route_needs_its_scope(
    gateway: httpx.Client, live_gateway: LiveGateway, demo_project: Project, scope: str, allowed: set[str]
) -> None:
    id = create(gateway)
    for client in client_of(live_gateway, demo_project, scopes=[scope]):
        for method, path in paths_of(id):
            assert (client.request(method, path).status_code == 403) == (method not in allowed), path


# Ids in other requests -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/responses/compact", "/v1/responses/input_tokens"])
def test_ids_of_other_projects_are_checked_there_too(
    gateway: httpx.Client, other: httpx.Client, upstream: LocalUpstream, path: str
) -> None:
    id = create(gateway)
    assert gateway.post(path, json=CREATE | {"previous_response_id": id}).status_code == 200
    assert other.post(path, json=CREATE | {"previous_response_id": id}).status_code == 404
