"""A change of cached configuration and the new version number are in one transaction."""

from collections.abc import Callable

import pytest

from billing.models import Budget
from keys.models import ApiKey
from projects.models import ConfigVersion, Project
from proxy.models import Credential

pytestmark = pytest.mark.django_db(transaction=True)


class ProcessDied(Exception):
    """Raised in place of the death of the process between the change and the new version."""


def revoke(project: Project) -> None:
    project.keys.get().revoke()


def delete_key(project: Project) -> None:
    project.keys.get().delete()


def delete_all_keys(project: Project) -> None:
    project.keys.all().delete()


def create_budget(project: Project) -> None:
    Budget.objects.create(project=project, limit_nano=1, period="day")


def change_credential(project: Project) -> None:
    credential = project.credentials.get()
    credential.base_url = "https://changed.example/v1"
    credential.save()


def rename_project(project: Project) -> None:
    project.name = "Renamed"
    project.save()


def stored_configuration() -> list[object]:
    """Return the changed rows, as other processes read them."""
    rows: list[object] = []
    for model in (Project, ApiKey, Budget, Credential):
        rows += list(model._default_manager.order_by("pk").values())
    return rows


changes = pytest.mark.parametrize(
    "change", [revoke, delete_key, delete_all_keys, create_budget, change_credential, rename_project]
)


@pytest.fixture
def configured(demo_project: Project) -> Project:
    ApiKey.objects.issue(demo_project, "key")
    Credential.objects.create(project=demo_project, slug="c", provider="openai")
    return demo_project


@changes
def test_change_without_a_new_version_is_not_stored(
    configured: Project, change: Callable[[Project], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die() -> None:
        raise ProcessDied

    before = stored_configuration()
    monkeypatch.setattr(ConfigVersion, "bump", die)
    with pytest.raises(ProcessDied):
        change(configured)
    assert stored_configuration() == before


@changes
def test_change_gives_a_new_version(configured: Project, change: Callable[[Project], None]) -> None:
    before = ConfigVersion.current(), stored_configuration()
    change(configured)
    assert ConfigVersion.current() != before[0] and stored_configuration() != before[1]
