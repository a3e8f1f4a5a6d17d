"""Members over the REST API: roles, and the last owner."""

import pytest

from projects.models import Project, Role, User
from tests.support.api_client import ApiClient, api_of

PATH = "projects/acme/members"


def path_of(project: Project, user: User) -> str:
    return f"{PATH}/{project.memberships.get(user=user).pk}"


def test_members_are_listed_with_their_roles(owner_api: ApiClient, project: Project) -> None:
    found = [(each["email"], each["role"]) for each in owner_api.get(PATH).data]
    assert found == [("alice@example.org", "owner"), ("bob@example.org", "member")]


def test_an_owner_changes_roles(owner_api: ApiClient, project: Project, bob: User) -> None:
    assert owner_api.patch(path_of(project, bob), {"role": "admin"}).data["role"] == "admin"
    assert project.memberships.get(user=bob).role == Role.ADMIN


def test_an_admin_cannot_grant_or_touch_a_higher_role(project: Project, alice: User, bob: User) -> None:
    project.memberships.filter(user=bob).update(role=Role.ADMIN)
    admin = api_of(bob)
    assert admin.patch(path_of(project, bob), {"role": "owner"}).status == 403
    assert admin.patch(path_of(project, alice), {"role": "viewer"}).status == 403
    assert admin.delete(path_of(project, alice)).status == 403
    assert project.memberships.get(user=alice).role == Role.OWNER


def test_the_last_owner_stays(owner_api: ApiClient, project: Project, alice: User, bob: User) -> None:
    own = path_of(project, alice)
    assert owner_api.patch(own, {"role": "admin"}).status == owner_api.delete(own).status == 400
    owner_api.patch(path_of(project, bob), {"role": "owner"})
    assert owner_api.delete(own).status == 200
    assert owner_api.get(PATH).status == 404


def test_a_removed_member_loses_access(
    owner_api: ApiClient, member_api: ApiClient, project: Project, bob: User
) -> None:
    owner_api.delete(path_of(project, bob))
    assert member_api.get("projects/acme").status == 404


@pytest.mark.parametrize("role", ["boss", "", None, 40, "OWNER"])
def test_an_unknown_role_is_a_400(owner_api: ApiClient, project: Project, bob: User, role: object) -> None:
    reply = owner_api.patch(path_of(project, bob), {"role": role})
    assert (reply.status, list(reply.error["fields"])) == (400, ["role"])
