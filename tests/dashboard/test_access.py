from typing import Any

import pytest
from django.test import Client
from django.urls import get_resolver, reverse

from keys.models import ApiKey
from projects.models import Project, Role, User
from proxy.models import Credential
from tests.support.factories import project_pages, signed_in

PAGES = [
    "project-overview", "project-settings", "project-settings-purge-cache", "prompt-log-settings",
    "request-detail",
    "key-list", "key-new", "key-edit", "key-revoke",
    "credential-list", "credential-new", "credential-edit", "credential-test", "credential-delete",
    "budget-list", "budget-new", "budget-edit", "budget-delete",
    "alert-list", "webhook-new", "webhook-test", "webhook-delete",
    "price-list", "price-new", "price-end",
    "model-list", "route-list", "route-new", "route-edit", "route-delete",
]  # fmt: skip


def test_these_tests_cover_every_page_of_a_project() -> None:
    routes: dict[Any, Any] = get_resolver().reverse_dict
    names = {name for name, route in routes.items() if isinstance(name, str) and "slug" in route[3]}
    assert names == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("role", Role)
def test_a_page_requires_its_minimum_role(
    page: str, role: Role, project: Project, key: ApiKey, credential: Credential
) -> None:
    address, min_role = project_pages(project, key, credential)[page]
    user = User.objects.create_user("dana@example.org")
    project.memberships.create(user=user, role=role)
    assert signed_in(user).get(address).status_code == (200 if role >= min_role else 403)


@pytest.mark.parametrize("page", PAGES)
def test_project_is_a_404_for_outsiders(
    page: str, project: Project, key: ApiKey, credential: Credential, charlie: User
) -> None:
    address, _ = project_pages(project, key, credential)[page]
    client = signed_in(charlie)
    assert client.get(address).status_code == 404
    assert client.post(address).status_code == 404


@pytest.mark.parametrize("page", PAGES)
def test_anonymous_users_are_redirected_to_sign_in(
    page: str, project: Project, key: ApiKey, credential: Credential
) -> None:
    address, _ = project_pages(project, key, credential)[page]
    response = Client().get(address)
    assert response.status_code == 302
    assert response["Location"] == f"/accounts/login/?next={address}"


def test_objects_of_another_project_are_a_404(
    project: Project, key: ApiKey, credential: Credential, charlie: User
) -> None:
    own = Project.objects.create_with_owner("Charlie's", owner=charlie)
    client = signed_in(charlie)
    assert client.post(reverse("key-revoke", args=[own.slug, key.public_id])).status_code == 404
    assert (
        client.post(reverse("credential-edit", args=[own.slug, credential.pk]), {"slug": "mine"}).status_code
        == 404
    )
    assert client.post(reverse("credential-delete", args=[own.slug, credential.pk])).status_code == 404
    key.refresh_from_db()
    assert key.is_active
    assert Credential.objects.filter(pk=credential.pk).exists()


def test_viewers_get_no_links_to_create_or_revoke_keys(project: Project, key: ApiKey, charlie: User) -> None:
    project.memberships.create(user=charlie, role=Role.VIEWER)
    page = signed_in(charlie).get(reverse("key-list", args=[project.slug])).content.decode()
    assert key.label in page
    assert "Revoke" not in page
    assert "New key" not in page


def test_viewers_cannot_revoke_keys(project: Project, key: ApiKey, charlie: User) -> None:
    project.memberships.create(user=charlie, role=Role.VIEWER)
    assert (
        signed_in(charlie).post(reverse("key-revoke", args=[project.slug, key.public_id])).status_code == 403
    )
    key.refresh_from_db()
    assert key.is_active
