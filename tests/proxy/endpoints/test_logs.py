"""The log of requests over the REST interface: what a key sees, filters, pages, deletion."""

import datetime as dt
from typing import Any

import httpx
import pytest

from billing.models import CorrectionReason, UsageRecord
from keys.models import ApiKey
from projects.models import Project
from proxy.models import PromptLogEntry, PromptLogUser
from proxy.models.prompt_log import end_user_rows
from proxy.prompt_log.body import LoggedBody
from tests.support.factories import record
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.prompt_log import logged_bodies

pytestmark = pytest.mark.databases
Json = dict[str, Any]


def logged(key: ApiKey, prompt: str, *end_users: str, **fields: Any) -> UsageRecord:
    """Create a record with an entry in the log."""
    row = record(key, model=fields.pop("model", "demo/chat"))
    UsageRecord.objects.filter(pk=row.pk).update(**fields)
    body = LoggedBody(prompt, "An answer", {"messages": [prompt]}, {"choices": []})
    entry = PromptLogEntry.objects.create(
        id=row.pk, project=key.project, sealed_body=body.seal(key.project_id)
    )
    PromptLogUser.objects.bulk_create(end_user_rows(entry, end_users))
    return row


@pytest.fixture
def reader(live_gateway: LiveGateway) -> Any:
    """Return a function that reads a path of the API with a key."""

    def read(token: str, path: str, method: str = "GET") -> httpx.Response:
        return httpx.request(method, live_gateway.url + path, headers={"x-api-key": token}, timeout=20)

    return read


def prompts(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [entry["prompt"] for entry in response.json()["data"]["entries"]]


@pytest.fixture
def own(demo_project: Project) -> tuple[ApiKey, str]:
    return ApiKey.objects.issue(demo_project, "own", scopes=["inference"])


@pytest.fixture
def admin(demo_project: Project) -> tuple[ApiKey, str]:
    return ApiKey.objects.issue(demo_project, "admin", scopes=["project:manage"])


@pytest.mark.usefixtures("own")
def test_a_request_can_be_read_back(
    gateway: httpx.Client, change_environment: Any, demo_project: Project
) -> None:
    change_environment(ai_gateway_prompt_logging=True)
    chat = {"model": "demo/chat", "messages": [{"role": "user", "content": "Hi"}], "metadata": {"team": "a"}}
    response = gateway.post("/v1/chat/completions", json=chat)
    answer = response.json()["choices"][0]["message"]["content"]
    logged_bodies(1)
    kept = only_record()
    (entry,) = gateway.get("/api/v1/logs").json()["data"]["entries"]
    assert entry["prompt"] == "Hi" and entry["response"] == answer[:500]
    assert (entry["id"], entry["model"], entry["tags"]) == (str(kept.pk), "demo/chat", {"team": "a"})
    assert (entry["status"], entry["outcome"], entry["costNanoUsd"]) == (200, "ok", kept.cost_nano)
    for id in (entry["id"], response.headers["x-request-id"]):
        detail = gateway.get(f"/api/v1/logs/{id}").json()["data"]
        assert detail["prompt"] == "Hi" and detail["requestBody"] is None and not detail["interrupted"]
    (item,) = gateway.get("/api/prompt-log?limit=100").json()
    assert item["prompt"] == "Hi" and item["promptTokens"] == kept.prompt_tokens
    assert item["costUsd"] == entry["cost"]


def test_a_key_sees_its_own_requests_and_an_admin_those_of_the_project(
    reader: Any, own: tuple[ApiKey, str], admin: tuple[ApiKey, str], demo_project: Project
) -> None:
    auditor = ApiKey.objects.issue(demo_project, "auditor", scopes=["logs:read"])
    mine, theirs = logged(own[0], "mine"), logged(admin[0], "theirs")
    assert prompts(reader(own[1], "/api/v1/logs")) == ["mine"]
    for token in (admin[1], auditor[1]):
        assert prompts(reader(token, "/api/v1/logs")) == ["theirs", "mine"]
        assert reader(token, f"/api/v1/logs/{mine.pk}").json()["data"]["requestBody"] == {
            "messages": ["mine"]
        }
    assert reader(own[1], f"/api/v1/logs/{mine.pk}").status_code == 200
    assert reader(own[1], f"/api/v1/logs/{theirs.pk}").status_code == 404
    assert [item["prompt"] for item in reader(own[1], "/api/prompt-log").json()] == ["mine"]


def test_no_key_sees_another_project(reader: Any, own: tuple[ApiKey, str]) -> None:
    mine = logged(own[0], "mine", "u1")
    other = Project.objects.create_with_owner("Other", slug="other")
    _, token = ApiKey.objects.issue(other, "other", scopes=["admin"])
    assert prompts(reader(token, "/api/v1/logs")) == []
    assert reader(token, "/api/prompt-log").json() == []
    error = reader(token, f"/api/v1/logs/{mine.pk}")
    assert error.status_code == 404 and error.json()["error"]["code"] == "unknown_log_entry"
    deleted = reader(token, "/api/v1/logs?user=u1", "DELETE")
    assert deleted.json()["data"] == {"deleted": 0} and PromptLogEntry.objects.count() == 1


def test_filters_select_requests(reader: Any, own: tuple[ApiKey, str], admin: tuple[ApiKey, str]) -> None:
    logged(own[0], "first", metadata={"team": "search", "env": "test"})
    logged(own[0], "second", model="gpt-4o", metadata={"team": "ads"})
    last = logged(admin[0], "third", outcome="upstream_error")
    soon = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for query, found in {
        "model=gpt-4o": ["second"],
        f"keyId={admin[0].public_id}": ["third"],
        "outcome=upstream_error": ["third"],
        "tag=team:search": ["first"],
        "tag=team:search&tag=env:test": ["first"],
        "tag=team:search&tag=env:prod": [],
        "tag=no'\"%20%27such:x": [],
        f"from={soon}": [],
        f"to={soon}&limit=2": ["third", "second"],
        "from=2026-01-01": ["third", "second", "first"],
        f"before={last.pk}": ["second", "first"],
    }.items():
        assert prompts(reader(admin[1], f"/api/v1/logs?{query}")) == found, query


def test_pages_follow_each_other_without_gaps(reader: Any, own: tuple[ApiKey, str]) -> None:
    for number in range(5):
        logged(own[0], str(number))
    seen, query = [], ""
    for _ in range(4):
        page = reader(own[1], f"/api/v1/logs?limit=2{query}")
        seen += prompts(page)
        if (before := page.json()["data"]["before"]) is None:
            break
        query = f"&before={before}"
        logged(own[0], "newer")
    assert seen == ["4", "3", "2", "1", "0"]


def test_a_wrong_query_is_a_400(reader: Any, own: tuple[ApiKey, str]) -> None:
    for query, reason in {
        "limit=0": "limit",
        "limit=1001": "limit",
        "limit=x": "limit",
        "before=x": "before",
        "from=yesterday": "from",
        "from=0001-01-01": "from",
        "tag=team": "tag",
        "model=a&model=b": "once",
        "sort=asc": "known",
    }.items():
        for path in ("/api/v1/logs", "/api/prompt-log"):
            response = reader(own[1], f"{path}?{query}")
            assert response.status_code == 400 and reason in response.json()["error"]["message"], query


def test_corrections_count_in_the_cost_and_are_not_entries(reader: Any, own: tuple[ApiKey, str]) -> None:
    row = logged(own[0], "mine", cost_nano=500)
    correction = record(own[0], cost_nano=-200)
    UsageRecord.objects.filter(pk=correction.pk).update(
        corrects=row.pk, correction_reason=CorrectionReason.REPRICED
    )
    (entry,) = reader(own[1], "/api/v1/logs").json()["data"]["entries"]
    assert entry["costNanoUsd"] == 300


def test_entries_of_an_end_user_are_deleted(
    reader: Any, own: tuple[ApiKey, str], admin: tuple[ApiKey, str]
) -> None:
    for number in range(3):
        logged(own[0], f"of u1: {number}", "u1", "alias of u1")
    logged(own[0], "of u2", "u2")
    assert reader(own[1], "/api/v1/logs?user=u1", "DELETE").status_code == 403
    assert reader(admin[1], "/api/v1/logs", "DELETE").status_code == 400
    assert reader(admin[1], "/api/v1/logs?user=u1", "DELETE").json()["data"] == {"deleted": 3}
    assert prompts(reader(admin[1], "/api/v1/logs")) == ["of u2", None, None, None]
    assert PromptLogUser.objects.count() == 1
    assert "u2" not in str(list(PromptLogUser.objects.values()))
