"""Settings of the prompt log, and prompts on the page of a request."""

import pytest
from django.urls import reverse

from billing.models import UsageRecord
from keys.models import ApiKey
from projects.models import Project, User
from proxy.models import PromptLogEntry, PromptLogSettings
from proxy.prompt_log.body import LoggedBody
from tests.support.factories import record, signed_in
from tests.support.pages import field_error

FORM = {"mode": "full", "retention_days": "7", "rules": ["email", "key"], "patterns": r"EMP-\d{4,8}"}


def settings_url(project: Project) -> str:
    return reverse("prompt-log-settings", args=[project.slug])


def test_settings_are_saved_and_shown_again(project: Project, alice: User) -> None:
    client = signed_in(alice)
    assert 'value="preview"' in client.get(settings_url(project)).content.decode()
    assert client.post(settings_url(project), FORM).status_code == 302
    stored = PromptLogSettings.objects.get(project=project)
    assert (stored.mode, stored.retention_days) == ("full", 7)
    assert (stored.rules, stored.patterns) == (["email", "key"], [r"EMP-\d{4,8}"])
    page = client.get(settings_url(project)).content.decode()
    assert r"EMP-\d{4,8}" in page
    client.post(settings_url(project), {**FORM, "mode": "off", "rules": [], "patterns": ""})
    assert PromptLogSettings.objects.get(project=project).rules == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mode", "everything"),
        ("retention_days", "0"),
        ("retention_days", "99999"),
        ("rules", ["names"]),
        ("patterns", "("),
        ("patterns", r"\d+"),
        ("patterns", "\n".join(f"EMP-{number}" for number in range(21))),
    ],
)
def test_a_wrong_value_is_reported_at_its_field(
    project: Project, alice: User, field: str, value: object
) -> None:
    response = signed_in(alice).post(settings_url(project), {**FORM, field: value})
    assert response.status_code == 200
    assert field_error(response, field)
    assert not PromptLogSettings.objects.exists()


def test_admins_see_the_prompt_of_a_request_and_members_do_not(
    project: Project, key: ApiKey, alice: User, bob: User
) -> None:
    row = record(key)
    UsageRecord.objects.filter(pk=row.pk).update(metadata={"team": "search"})
    body = LoggedBody("A <b>prompt</b>", "An answer", {"messages": ["whole prompt"]}, "whole answer")
    PromptLogEntry.objects.create(id=row.pk, project=project, sealed_body=body.seal(project.pk))
    address = reverse("request-detail", args=[project.slug, row.pk])
    page = signed_in(alice).get(address).content.decode()
    assert "A &lt;b&gt;prompt&lt;/b&gt;" in page and "An answer" in page
    assert "whole prompt" in page and "whole answer" in page
    assert "Tag team" in page and "search" in page
    assert "An answer" not in signed_in(bob).get(address).content.decode()


def test_a_body_of_another_project_is_not_shown(
    project: Project, key: ApiKey, alice: User, charlie: User
) -> None:
    row = record(key)
    other = Project.objects.create_with_owner("Other", owner=charlie)
    sealed = LoggedBody("stolen").seal(other.pk)
    PromptLogEntry.objects.create(id=row.pk, project=project, sealed_body=sealed)
    page = signed_in(alice).get(reverse("request-detail", args=[project.slug, row.pk])).content.decode()
    assert "stolen" not in page
