"""Policies of projects, and bodies at rest: outages, encryption keys and defaults."""

from collections.abc import Callable

import pytest
from cryptography.fernet import Fernet, MultiFernet
from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError

from keys.models import ApiKey
from projects import vault
from projects.ids import uuid7
from projects.models import Project
from proxy.models import PromptLogEntry, PromptLogMode
from proxy.prompt_log.body import LoggedBody
from proxy.prompt_log.policy import policy_for, prompt_log_policies
from proxy.prompt_log.search import find_body

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_project_without_settings_logs_redacted_previews(project: Project, prompt_log: None) -> None:
    policy = await policy_for(project.pk)
    assert policy is not None and policy.mode is PromptLogMode.PREVIEW
    assert policy.redactor.redact("jane@example.org") == "[email]"


async def test_nothing_is_logged_if_the_settings_cannot_be_read(
    project: Project, prompt_log: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage of the database must not fail a request."""

    def fail(_project_id: int) -> None:
        raise OperationalError("down")

    monkeypatch.setattr(prompt_log_policies, "load", fail)
    assert await policy_for(project.pk) is None


async def test_the_operator_can_turn_every_log_off(
    project: Project, change_environment: Callable[..., None]
) -> None:
    change_environment(ai_gateway_prompt_logging=False)
    assert await policy_for(project.pk) is None


def test_bodies_survive_a_rotation_of_encryption_keys(
    project: Project, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = uuid7()
    PromptLogEntry.objects.create(id=id, project=project, sealed_body=LoggedBody("Hi").seal(project.pk))
    new = Fernet(Fernet.generate_key())
    old = [Fernet(key) for key in settings.ENV.gateway_encryption_keys]
    monkeypatch.setattr(vault, "fernet", lambda: MultiFernet([new, *old]))
    call_command("rotate_credentials", verbosity=0)
    monkeypatch.setattr(vault, "fernet", lambda: MultiFernet([new]))
    body = find_body(project.pk, id)
    assert body is not None and body.prompt == "Hi"
    monkeypatch.setattr(vault, "fernet", lambda: MultiFernet([Fernet(Fernet.generate_key())]))
    assert find_body(project.pk, id) is None, "the page of the request still opens"
