"""Budgets over the REST API, with their status."""

import pytest

from billing.models import Budget, BudgetWindow, Webhook
from keys.models import ApiKey
from projects.models import Project, User
from tests.support.api_client import ApiClient
from tests.support.factories import USD, key_in_other_project, webhook_at

PATH = "projects/acme/budgets"
pytestmark = pytest.mark.usefixtures("counters_in_sql")


def test_a_budget_alerts_its_creator_by_default(owner_api: ApiClient, project: Project) -> None:
    reply = owner_api.post(PATH, {"period": "month", "limit": 50})
    assert reply.status == 201, reply.body
    expected = {"keyId": None, "limit": 50, "spent": 0, "remaining": 50, "thresholds": [50, 80, 100]}
    assert {name: reply.data[name] for name in expected} == expected
    assert reply.data["alertMembers"] == ["alice@example.org"]


def test_a_budget_of_a_key_shows_what_is_spent(owner_api: ApiClient, project: Project, key: ApiKey) -> None:
    created = owner_api.post(PATH, {"period": "total", "limit": "0.5", "keyId": key.public_id}).data
    BudgetWindow.objects.create(
        budget_id=created["id"], name="total", spent_nano=USD // 10, reserved_nano=USD // 5
    )
    shown = owner_api.get(f"{PATH}/{created['id']}").data
    assert (shown["keyId"], shown["spent"], shown["reserved"], shown["remaining"]) == (
        key.public_id, 0.1, 0.2, 0.2,
    )  # fmt: skip
    assert owner_api.get(PATH).data == [shown]


def test_a_change_keeps_all_other_fields(owner_api: ApiClient, project: Project) -> None:
    webhook, _ = webhook_at(project, "https://example.org/hook")
    body = {"period": "day", "limit": 5, "alertWebhooks": [webhook.pk], "thresholds": [10]}
    created = owner_api.post(PATH, body).data
    changed = owner_api.patch(f"{PATH}/{created['id']}", {"limit": "7.000000001"}).data
    assert Budget.objects.get().limit_nano == 7 * USD + 1
    kept = ("period", "mode", "thresholds", "alertMembers", "alertWebhooks")
    assert [changed[name] for name in kept] == [created[name] for name in kept]
    cleared = owner_api.patch(f"{PATH}/{created['id']}", {"alertMembers": [], "alertWebhooks": []}).data
    assert cleared["alertMembers"] == cleared["alertWebhooks"] == []


def test_a_key_creates_budgets_too(project: Project) -> None:
    api = ApiClient(ApiKey.objects.issue(project, "admin", scopes=["project:manage"])[1])
    assert api.post(PATH, {"period": "day", "limit": 1}).data["alertMembers"] == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"limit": -1}, "limit"),
        ({"limit": None}, "limit"),
        ({"period": "year"}, "period"),
        ({"mode": "lax"}, "mode"),
        ({"thresholds": [80, 50]}, "thresholds"),
        ({"thresholds": ["high"]}, "thresholds.0"),
        ({"keyId": "unknown"}, "keyId"),
        ({"alertMembers": ["charlie@example.org"]}, "alertMembers"),
        ({"alertWebhooks": [99]}, "alertWebhooks"),
    ],
)
def test_invalid_field_is_named(
    owner_api: ApiClient, project: Project, change: dict[str, object], field: str
) -> None:
    reply = owner_api.post(PATH, {"period": "day", "limit": 1} | change)
    assert (reply.status, list(reply.error["fields"])) == (400, [field])


def test_objects_of_other_projects_are_unknown(owner_api: ApiClient, project: Project, alice: User) -> None:
    foreign = key_in_other_project(alice)
    webhook: Webhook = webhook_at(foreign.project, "https://example.org/hook")[0]
    body = {"period": "day", "limit": 1}
    assert owner_api.post(PATH, body | {"keyId": foreign.public_id}).status == 400
    assert owner_api.post(PATH, body | {"alertWebhooks": [webhook.pk]}).status == 400


def test_a_duplicate_budget_is_refused(owner_api: ApiClient, project: Project) -> None:
    owner_api.post(PATH, {"period": "day", "limit": 1})
    reply = owner_api.post(PATH, {"period": "day", "limit": 2})
    assert reply.status == 400 and "already exists" in reply.error["message"]


def test_the_period_of_a_budget_cannot_change(owner_api: ApiClient, project: Project) -> None:
    created = owner_api.post(PATH, {"period": "day", "limit": 1}).data
    reply = owner_api.patch(f"{PATH}/{created['id']}", {"period": "month"})
    assert (reply.status, list(reply.error["fields"])) == (400, ["period"])


def test_a_deleted_budget_is_gone(owner_api: ApiClient, project: Project) -> None:
    created = owner_api.post(PATH, {"period": "day", "limit": 1}).data
    assert owner_api.delete(f"{PATH}/{created['id']}").status == 200
    assert not Budget.objects.exists()
