"""The audit log: pages, the management API and commands leave entries, which name no secret."""

import pytest
from django.core.management import call_command
from django.urls import reverse

from keys.models import ApiKey
from projects.models import AuditEntry, Project, User
from tests.support.api_client import ApiClient
from tests.support.factories import SECRET, signed_in

PATH = "projects/acme/audit"


def newest(api: ApiClient) -> dict[str, object]:
    entry: dict[str, object] = api.get(PATH).data[0]
    return entry


def test_a_change_over_rest_names_the_person_and_the_means(owner_api: ApiClient, project: Project) -> None:
    owner_api.post("projects/acme/keys", {"name": "app"})
    entry = newest(owner_api)
    expected = {"actor": "alice@example.org", "via": "token", "address": "127.0.0.1", "action": "created"}
    assert {name: entry[name] for name in expected} == expected
    assert entry["model"] == "API key" and str(entry["subject"]).startswith("app (sk-gw_")


def test_a_change_on_a_page_is_recorded_too(owner_api: ApiClient, alice: User, key: ApiKey) -> None:
    signed_in(alice).post(reverse("key-revoke", args=["acme", key.public_id]))
    entry = newest(owner_api)
    assert (entry["actor"], entry["via"], entry["fieldsChanged"]) == (alice.email, "session", ["revoked_at"])


def test_a_key_is_named_by_its_public_part(project: Project, owner_api: ApiClient) -> None:
    key, text = ApiKey.objects.issue(project, "admin", scopes=["admin"])
    reply = ApiClient(text).post("projects/api-keys", {"name": "app"})
    assert reply.status == 201, reply.body
    assert (newest(owner_api)["actor"], newest(owner_api)["via"]) == (key.masked, "key")


def test_a_command_is_recorded_as_the_system(project: Project, owner_api: ApiClient) -> None:
    call_command("create_api_key", "nightly", "all", project="acme")
    assert (newest(owner_api)["actor"], newest(owner_api)["via"]) == ("", "system")


def test_no_entry_contains_a_secret(owner_api: ApiClient, project: Project) -> None:
    body = {"name": "openai", "provider": "openai", "secret": SECRET}
    created = owner_api.post("projects/acme/credentials", body).data
    owner_api.patch(f"projects/acme/credentials/{created['id']}", {"secret": f"{SECRET}2"})
    owner_api.delete(f"projects/acme/credentials/{created['id']}")
    found = owner_api.get(PATH)
    assert [each["action"] for each in found.data][:3] == ["deleted", "changed", "created"]
    assert SECRET not in str(found.body)


def test_the_actor_of_a_request_does_not_outlast_it(owner_api: ApiClient, project: Project) -> None:
    owner_api.post("projects/acme/keys", {"name": "app"})
    ApiKey.objects.issue(project, "later")
    assert AuditEntry.objects.order_by("-pk")[0].via == "system"


@pytest.mark.databases
def test_a_deleted_project_leaves_one_entry(project: Project, key: ApiKey) -> None:
    project_id = project.pk
    project.delete()
    assert not AuditEntry.objects.filter(project=project_id).exists()
    assert AuditEntry.objects.get(action="deleted", model="project").subject == "Acme"


def test_members_do_not_see_the_log(member_api: ApiClient, project: Project) -> None:
    assert member_api.get(PATH).status == 403


def test_a_row_that_is_deleted_with_its_key_is_recorded(project: Project, key: ApiKey) -> None:
    """The text of a budget names its key, which is deleted before the budget."""
    budget = project.budgets.create(key=key, period="day", limit_nano=1)
    ApiKey.objects.get(pk=key.pk).delete()
    entry = AuditEntry.objects.get(action="deleted", model="budget")
    assert entry.subject in (str(budget.pk), str(budget))
