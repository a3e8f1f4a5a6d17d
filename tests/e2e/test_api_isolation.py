"""Access to every route of the REST API: by project, by role, by scope, and without authentication."""

from typing import Any

import pytest
from django.db import transaction

from gateway_project.api.views import ApiView, NotFoundView, ProjectView
from keys.models import ApiKey
from projects.models import Membership, Project, Role, User
from tests.e2e.test_isolation import PARAMETER, fill_path, walk
from tests.support.api_client import ALL_SCOPES, ApiClient, api_of

ROUTES: list[tuple[str, str, type[ApiView]]] = [
    (address, method, entry.callback.cls)  # type: ignore[attr-defined]
    for address, entry in walk()
    if issubclass(getattr(entry.callback, "cls", object), ApiView) and entry.callback.cls is not NotFoundView  # type: ignore[attr-defined]
    for method in entry.callback.cls.rules  # type: ignore[attr-defined]
]
OF_PROJECTS = [(address, method, view.rules[method]) for address, method, view in ROUTES if "slug" in address]
WITHOUT_PROJECT = {
    "api/v1/projects": "lists the caller's own projects",
    "api/v1/projects/api-keys": "enters the caller's only project",
    "api/v1/invitations/accept": "needs the token of an invitation of the caller",
    "api/v1/tokens": "lists the caller's own tokens",
    "api/v1/tokens/<str:token_id>": "finds only the caller's own tokens",
}
"""Routes without a project in their path, and why they cannot reach a project of someone else."""


def path_of(address: str, values: dict[str, Any]) -> str:
    return fill_path(address, values).removeprefix("/api/v1/")


def status(api: ApiClient, method: str, path: str) -> int:
    """Send a request, undo its changes, and return the status of its response."""
    with transaction.atomic():
        reply = api.send(method, path, None if method == "GET" else {})
        transaction.set_rollback(True)
    return reply.status


def test_a_route_names_a_project_or_says_why_not() -> None:
    for address, _, view in ROUTES:
        named = "<slug:slug>" in address and issubclass(view, ProjectView)
        assert named or address in WITHOUT_PROJECT, address


def test_all_routes_require_authentication(path_values: dict[str, Any]) -> None:
    for address, method, _ in ROUTES:
        found = status(ApiClient(), method, path_of(address, path_values))
        assert found == 401, f"{method} {address}"


def test_a_project_is_a_404_for_outsiders(charlie: User, path_values: dict[str, Any]) -> None:
    own = Project.objects.create_with_owner("Charlie's own", owner=charlie)
    callers = [api_of(charlie), ApiClient(ApiKey.objects.issue(own, "admin", scopes=["admin"])[1])]
    for address, method, _ in OF_PROJECTS:
        path = path_of(address, path_values)
        assert {status(api, method, path) for api in callers} == {404}, f"{method} {address}"


@pytest.mark.parametrize("role", Role)
def test_a_role_uses_only_the_methods_it_may(
    charlie: User, project: Project, path_values: dict[str, Any], role: Role
) -> None:
    Membership.objects.create(project=project, user=charlie, role=role)
    api = api_of(charlie)
    for address, method, rule in OF_PROJECTS:
        found = status(api, method, path_of(address, path_values))
        allowed = found in (200, 201, 400)
        assert found == 403 if role < rule.role else allowed, f"{method} {address}: {found}"


def test_a_token_or_key_without_the_scope_is_refused(
    alice: User, project: Project, path_values: dict[str, Any]
) -> None:
    callers: dict[tuple[str, ...], list[ApiClient]] = {}
    for address, method, rule in OF_PROJECTS:
        if rule.scopes not in callers:
            others = [scope for scope in [*ALL_SCOPES, "inference"] if scope not in rule.scopes]
            key_text = ApiKey.objects.issue(project, "app", scopes=others)[1]
            callers[rule.scopes] = [api_of(alice, *others), ApiClient(key_text)]
        path = path_of(address, path_values)
        found = {status(api, method, path) for api in callers[rule.scopes]}
        assert found == {403}, f"{method} {address}"


def test_an_object_of_another_project_is_a_404(charlie: User, path_values: dict[str, Any]) -> None:
    own = Project.objects.create_with_owner("Charlie's own", owner=charlie)
    callers = [api_of(charlie), ApiClient(ApiKey.objects.issue(own, "admin", scopes=["admin"])[1])]
    for address, method, _ in OF_PROJECTS:
        if len(PARAMETER.findall(address)) > 1:
            path = path_of(address, {**path_values, "slug": own.slug})
            assert {status(api, method, path) for api in callers} == {404}, f"{method} {path}"
