"""Ids of objects in shared accounts: each works only for the project that received it."""

import json
from typing import Any

import httpx
import pytest
from aiohttp import web

from billing.models import Outcome
from projects import config_cache
from projects.models import Project
from proxy.models import Credential, IssuedId, IssuedIdQuerySet
from tests.proxy.pipeline.account_ids.requests import (
    CHAT,
    ISSUED,
    OUTPUT,
    RESPONSE,
    RESPONSES,
    UPLOADED,
    begin,
    configure,
    error_of,
    input_of,
    post,
)
from tests.support.live_gateway import only_record, wait_until
from tests.support.upstream_server import LocalUpstream

pytestmark = pytest.mark.databases


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


def test_a_response_is_continued_with_the_credential_that_issued_it(
    owner: httpx.Client, upstream: LocalUpstream
) -> None:
    """Two credentials are used in turn, but only one of them has the response."""
    first = Credential.objects.get(slug="my-openai")
    second = Credential(project=first.project, slug="spare", provider="openai", base_url=first.base_url)
    for credential, secret in ((first, "sk-first-0123456789"), (second, "sk-spare-0123456789")):
        credential.set_secret(secret)
        credential.save()
    config_cache.invalidate_all()
    begin(owner, RESPONSES)
    for _ in range(4):
        assert post(owner, *ISSUED["previous_response_id"]).status_code == 200
    assert len({sent.headers["authorization"] for sent in upstream.requests}) == 1
    for _ in range(6):
        assert post(owner, RESPONSES, {"input": "Hi"}).status_code == 200
    assert len({sent.headers["authorization"] for sent in upstream.requests}) == 2


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


def test_a_project_that_uses_the_accounts_alone_may_name_any_object(
    gateway: httpx.Client, upstream: LocalUpstream, neighbour: Project
) -> None:
    path, fields = ISSUED["previous_response_id"]
    assert post(gateway, path, fields).status_code == 404 and not upstream.requests
    neighbour.delete()
    wait_until(lambda: post(gateway, path, fields).status_code != 404)
    assert upstream.requests
