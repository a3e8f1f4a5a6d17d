"""Invitations over the REST API: for one address, for 72 hours, once."""

import datetime as dt

import pytest
from django.utils import timezone

from keys.models import ApiKey
from projects.models import Invitation, Project, Role, User
from tests.support.api_client import ApiClient, api_of
from tests.support.factories import verified

PATH = "projects/acme/invitations"
CHARLIE = {"email": "Charlie@example.org", "role": "member"}


@pytest.fixture
def token(owner_api: ApiClient) -> str:
    text: str = owner_api.post(PATH, CHARLIE).data["token"]
    return text


def accept(user: User, token: str) -> int:
    return api_of(user).post("invitations/accept", {"token": token}).status


def test_the_invited_person_becomes_a_member(
    owner_api: ApiClient, project: Project, token: str, charlie: User
) -> None:
    reply = api_of(verified(charlie)).post("invitations/accept", {"token": token})
    assert (reply.status, reply.data["role"]) == (201, "member")
    assert project.memberships.get(user=charlie).role == Role.MEMBER
    assert owner_api.get(PATH).data == []


def test_the_token_is_shown_once_and_stored_as_a_digest(owner_api: ApiClient, token: str) -> None:
    listed = owner_api.get(PATH)
    assert [each["email"] for each in listed.data] == ["charlie@example.org"]
    assert token not in str(listed.body) + str(vars(Invitation.objects.get()))


@pytest.mark.databases
def test_an_invitation_works_only_once(token: str, project: Project, charlie: User) -> None:
    assert accept(verified(charlie), token) == 201
    project.memberships.get(user=charlie).delete()
    assert accept(charlie, token) == 400


def test_an_invitation_is_bound_to_a_confirmed_address(token: str, bob: User, charlie: User) -> None:
    assert accept(charlie, token) == 400
    assert accept(verified(User.objects.create_user("dana@example.org")), token) == 400
    assert Invitation.objects.pending().exists()


def test_an_invitation_expires_after_72_hours(token: str, charlie: User) -> None:
    invitation = Invitation.objects.get()
    assert invitation.expires_at - invitation.created_at > dt.timedelta(hours=71, minutes=59)
    Invitation.objects.update(expires_at=timezone.now())
    assert accept(verified(charlie), token) == 400


def test_a_revoked_or_replaced_invitation_does_not_work(
    owner_api: ApiClient, token: str, charlie: User
) -> None:
    second = owner_api.post(PATH, CHARLIE).data
    assert accept(verified(charlie), token) == 400
    owner_api.delete(f"{PATH}/{second['id']}")
    assert accept(charlie, second["token"]) == 400


def test_an_unknown_token_fails_like_any_other(project: Project, charlie: User) -> None:
    reply = api_of(verified(charlie)).post("invitations/accept", {"token": "unknown"})
    assert reply.status == 400 and "not valid" in reply.error["message"]


def test_nobody_invites_above_their_own_role(project: Project, bob: User) -> None:
    project.memberships.filter(user=bob).update(role=Role.ADMIN)
    assert api_of(bob).post(PATH, CHARLIE | {"role": "owner"}).status == 403


def test_members_are_not_invited_again(owner_api: ApiClient, project: Project, bob: User) -> None:
    reply = owner_api.post(PATH, {"email": bob.email.upper(), "role": "admin"})
    assert reply.status == 400 and "already a member" in reply.error["message"]


def test_an_api_key_cannot_accept(project: Project, token: str) -> None:
    api = ApiClient(ApiKey.objects.issue(project, "admin", scopes=["admin"])[1])
    assert api.post("invitations/accept", {"token": token}).status == 403
