"""Retention of the log: entries are deleted after the days that the project or the installation keeps."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from keys.models import ApiKey
from projects.ids import uuid7_floor
from projects.models import Project, User
from proxy.models import PromptLogEntry, PromptLogUser
from proxy.models import prompt_log as model
from proxy.models.prompt_log import end_user_rows
from proxy.prompt_log.retention import delete_expired
from tests.support.factories import key_in_other_project
from tests.support.prompt_log import set_prompt_log


def entry(project: Project, days: int, end_user: str = "u1") -> PromptLogEntry:
    """Create an entry of a request some days ago. The end user makes its id unique."""
    id = uuid7_floor(timezone.now() - timedelta(days=days))
    created = PromptLogEntry.objects.create(id=id, project=project, sealed_body=b"sealed")
    PromptLogUser.objects.bulk_create(end_user_rows(created, [end_user]))
    return created


def remaining(project: Project) -> int:
    return PromptLogEntry.objects.filter(project=project).count()


def test_each_project_keeps_its_own_days(
    project: Project, key: ApiKey, charlie: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "DELETE_BATCH_SIZE", 2)
    other = key_in_other_project(charlie).project
    set_prompt_log(other, retention_days=90)
    for days in (1, 29, 31, 40, 50, 60, 70):
        entry(project, days)
    for days in (80, 100):
        entry(other, days)
    assert delete_expired() == 6
    assert (remaining(project), remaining(other)) == (2, 1)
    assert PromptLogUser.objects.count() == 3
    assert delete_expired() == 0


def test_entries_are_not_kept_longer_than_their_usage_records(
    project: Project, change_environment: Callable[..., None]
) -> None:
    entry(project, 10)
    change_environment(gateway_retention_days=8)
    assert delete_expired() == 1
