"""The prompt log in tests: turned on, with settings of a project, and read back from the database."""

from typing import Any

from projects.models import Project
from proxy.models import PromptLogEntry, PromptLogSettings
from proxy.prompt_log.body import LoggedBody, unseal_body
from proxy.prompt_log.policy import prompt_log_policies
from tests.support.live_gateway import wait_until


def set_prompt_log(project: Project, **values: Any) -> PromptLogSettings:
    """Change the settings of a project, and let the running gateway read them again."""
    row = PromptLogSettings.objects.update_or_create(project=project, defaults=values)[0]
    prompt_log_policies.clear()
    return row


def logged_bodies(count: int) -> list[LoggedBody]:
    """Wait until the log has `count` entries. Return their bodies in the order of the requests."""
    wait_until(lambda: PromptLogEntry.objects.count() >= count)
    entries = PromptLogEntry.objects.order_by("pk")
    assert entries.count() == count
    return [unseal_body(entry.project_id, bytes(entry.sealed_body)) for entry in entries]
