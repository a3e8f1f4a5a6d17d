"""Keys over the REST API: issue, list, change, rotate, revoke, and what a caller may grant."""

import datetime as dt

import pytest
from django.utils import timezone

from keys import tokens
from keys.models import ApiKey
from projects.models import Project, User
from tests.support.api_client import ApiClient
from tests.support.factories import USD


def verifies(text: str) -> bool:
    token = tokens.parse(text)
    return token is not None and ApiKey.objects.get(public_id=token.public_id).verify(token)


def test_the_printed_command_of_a_limited_key_works(project: Project) -> None:
    admin = ApiClient(ApiKey.objects.issue(project, "admin", scopes=["admin"])[1])
    body = {"name": "Limited Key", "dailyBudget": 5.00, "monthlyBudget": 50.00}
    reply = admin.post("projects/api-keys", body)
    assert reply.status == 201 and verifies(reply.data["apiKey"])
    key = ApiKey.objects.get(label="Limited Key")
    assert key.project == project
    limits = {budget.period: budget.limit_nano for budget in key.budgets.all()}
    assert limits == {"day": 5 * USD, "month": 50 * USD}
    assert reply.data["id"] in [each["id"] for each in admin.get("projects/api-keys").data]


@pytest.mark.parametrize(("amount", "nano"), [(0.1, 10**8), ("0.000000001", 1), (0, 0), (1e-9, 1)])
def test_amounts_are_exact(owner_api: ApiClient, project: Project, amount: object, nano: int) -> None:
    reply = owner_api.post(f"projects/{project.slug}/keys", {"name": "app", "dailyBudget": amount})
    assert reply.status == 201
    assert project.budgets.get().limit_nano == nano


@pytest.mark.parametrize("amount", [-1, "five", 1e10, "0.0000000001", True, [], {"usd": 1}])
def test_invalid_amount_is_a_400_that_names_the_field(
    owner_api: ApiClient, project: Project, amount: object
) -> None:
    reply = owner_api.post(f"projects/{project.slug}/keys", {"name": "app", "dailyBudget": amount})
    assert (reply.status, list(reply.error["fields"])) == (400, ["dailyBudget"])
    assert not ApiKey.objects.filter(project=project).exists()


def test_the_secret_is_shown_only_once(owner_api: ApiClient, project: Project) -> None:
    created = owner_api.post(f"projects/{project.slug}/keys", {"name": "app"}).data
    shown = owner_api.get(f"projects/{project.slug}/keys/{created['id']}").data
    assert "apiKey" not in shown
    assert created["apiKey"][-38:] not in str(owner_api.get(f"projects/{project.slug}/keys").body)


def test_a_change_keeps_all_other_fields(owner_api: ApiClient, project: Project) -> None:
    key, _ = ApiKey.objects.issue(project, "app", rpm_limit=5, allowed_models=["gpt-4o"])
    reply = owner_api.patch(f"projects/{project.slug}/keys/{key.public_id}", {"name": "web"})
    assert (reply.data["name"], reply.data["rpmLimit"], reply.data["allowedModels"]) == ("web", 5, ["gpt-4o"])
    cleared = owner_api.patch(f"projects/{project.slug}/keys/{key.public_id}", {"rpmLimit": None})
    assert cleared.data["rpmLimit"] is None


def test_unknown_field_is_a_400_that_lists_the_known_ones(owner_api: ApiClient, project: Project) -> None:
    reply = owner_api.post(f"projects/{project.slug}/keys", {"name": "app", "daylyBudget": 5})
    assert reply.status == 400 and "dailyBudget" in reply.error["fields"]["daylyBudget"][0]


def test_revoking_a_key_disables_it(owner_api: ApiClient, project: Project) -> None:
    key, text = ApiKey.objects.issue(project, "app")
    assert owner_api.delete(f"projects/{project.slug}/keys/{key.public_id}").data["isActive"] is False
    assert ApiClient(text).get("projects").status == 401


def test_rotation_keeps_the_key_and_the_old_secret_for_the_grace_period(
    owner_api: ApiClient, project: Project
) -> None:
    key, old = ApiKey.objects.issue(project, "app")
    reply = owner_api.post(f"projects/{project.slug}/keys/{key.public_id}/rotate", {"graceS": 60})
    assert reply.data["id"] == key.public_id and reply.data["apiKey"] != old
    assert verifies(old) and verifies(reply.data["apiKey"])
    ApiKey.objects.update(previous_expires_at=timezone.now() - dt.timedelta(seconds=1))
    assert not verifies(old) and verifies(reply.data["apiKey"])


def test_rotation_without_grace_disables_the_old_secret_at_once(
    owner_api: ApiClient, project: Project
) -> None:
    key, old = ApiKey.objects.issue(project, "app")
    owner_api.post(f"projects/{project.slug}/keys/{key.public_id}/rotate", {"graceS": 0})
    assert not verifies(old)


def test_a_member_cannot_grant_scopes_of_admins(member_api: ApiClient, project: Project) -> None:
    reply = member_api.post(f"projects/{project.slug}/keys", {"name": "app", "scopes": ["keys:manage"]})
    assert (reply.status, list(reply.error["fields"])) == (400, ["scopes"])


@pytest.mark.parametrize("scope", ["admin", "project:manage", "usage:read"])
def test_a_key_cannot_grant_a_scope_that_it_lacks(key_api: ApiClient, project: Project, scope: str) -> None:
    reply = key_api.post("projects/api-keys", {"name": "app", "scopes": [scope]})
    assert (reply.status, reply.error["code"]) == (403, "insufficient_permissions")
    assert key_api.post("projects/api-keys", {"name": "app", "scopes": ["inference"]}).status == 201


def test_a_key_cannot_take_over_a_key_that_may_do_more(key_api: ApiClient, project: Project) -> None:
    admin, text = ApiKey.objects.issue(project, "admin", scopes=["admin"])
    assert key_api.post(f"projects/{project.slug}/keys/{admin.public_id}/rotate").status == 403
    assert verifies(text)


def test_a_restricted_key_cannot_issue_or_become_a_wider_key(project: Project) -> None:
    expires_at = timezone.now() + dt.timedelta(days=3)
    key, text = ApiKey.objects.issue(
        project, "narrow", scopes=["admin"], allowed_models=["gpt-4o"], expires_at=expires_at
    )
    api, day = ApiClient(text), (timezone.now() + dt.timedelta(days=1)).date().isoformat()
    narrow = {"name": "app", "scopes": ["inference"], "allowedModels": ["gpt-4o"], "expiresOn": day}
    assert api.post("projects/api-keys", narrow).status == 201
    assert api.post("projects/api-keys", narrow | {"allowedModels": []}).status == 403
    assert api.post("projects/api-keys", narrow | {"allowedModels": ["o3"]}).status == 403
    assert api.post("projects/api-keys", narrow | {"expiresOn": None}).status == 403
    assert api.patch(f"projects/{project.slug}/keys/{key.public_id}", {"allowedModels": []}).status == 403


def test_pages_of_keys_are_complete_and_without_repetition(owner_api: ApiClient, project: Project) -> None:
    issued = [ApiKey.objects.issue(project, f"key {n}")[0].public_id for n in range(5)]
    found, cursor = [], ""
    while True:
        reply = owner_api.get(f"projects/{project.slug}/keys?limit=2{cursor}")
        found += [each["id"] for each in reply.data]
        if reply.body["nextCursor"] is None:
            break
        cursor = f"&cursor={reply.body['nextCursor']}"
    assert found == issued[::-1]


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "limit=%00", "cursor=x", "cursor=%00"])
def test_invalid_page_is_a_400(owner_api: ApiClient, project: Project, query: str) -> None:
    reply = owner_api.get(f"projects/{project.slug}/keys?{query}")
    assert (reply.status, list(reply.error["fields"])) == (400, [query.partition("=")[0]])


def test_a_cursor_of_another_project_is_rejected(owner_api: ApiClient, project: Project, alice: User) -> None:
    other = Project.objects.create_with_owner("Other", owner=alice)
    for _ in range(2):
        ApiKey.objects.issue(other, "app")
    cursor = owner_api.get(f"projects/{other.slug}/keys?limit=1").body["nextCursor"]
    assert owner_api.get(f"projects/{other.slug}/keys?cursor={cursor}").status == 200
    assert owner_api.get(f"projects/{project.slug}/keys?cursor={cursor}").status == 400
