"""Access tokens over the REST API: create, list, revoke, and what a token may grant."""

import datetime as dt

import pytest
from django.core.management import CommandError, call_command

from keys.models import AccessToken, ApiKey
from projects.models import Project, User
from tests.support.api_client import ApiClient, api_of
from tests.support.factories import signed_in

NEW = {"name": "ci", "scopes": ["usage:read"]}


def test_a_token_is_shown_once_and_works(owner_api: ApiClient) -> None:
    reply = owner_api.post("tokens", NEW)
    assert reply.status == 201 and reply.data["token"].startswith("pat_gw_")
    assert ApiClient(reply.data["token"]).get("projects").status == 200
    listed = owner_api.get("tokens").data
    assert [each["name"] for each in listed] == ["ci", "tests"]
    assert reply.data["token"] not in str(listed)


def test_a_signed_in_user_creates_the_first_token(alice: User) -> None:
    client = signed_in(alice)
    response = client.post("/api/v1/tokens", NEW, content_type="application/json")
    assert response.status_code == 201
    assert AccessToken.objects.get().user == alice


def test_only_a_digest_is_stored(owner_api: ApiClient) -> None:
    text = owner_api.post("tokens", NEW).data["token"]
    stored = AccessToken.objects.get(name="ci")
    assert stored.digest not in text and text[-38:-6] not in str(vars(stored))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": ["inference"]}, "scopes"),
        ({"name": ""}, "name"),
        ({"expiresOn": "2020-01-01"}, "expiresOn"),
        ({"expiresOn": "soon"}, "expiresOn"),
    ],
)
def test_invalid_field_is_named(owner_api: ApiClient, change: dict[str, object], field: str) -> None:
    reply = owner_api.post("tokens", NEW | change)
    assert (reply.status, list(reply.error["fields"])) == (400, [field])


def test_a_token_cannot_grant_scopes_that_it_lacks(alice: User) -> None:
    api = api_of(alice, "usage:read")
    assert api.post("tokens", {"name": "wide", "scopes": ["project:manage"]}).status == 403
    assert api.post("tokens", NEW).status == 201


def test_a_token_cannot_create_one_that_outlives_it(owner_api: ApiClient, alice: User) -> None:
    text = owner_api.post("tokens", NEW | {"expiresOn": "2999-01-01"}).data["token"]
    api = ApiClient(text)
    assert api.post("tokens", NEW).status == 403
    assert api.post("tokens", NEW | {"expiresOn": "2999-01-02"}).status == 403
    assert api.post("tokens", NEW | {"expiresOn": "2999-01-01"}).status == 201


def test_a_revoked_token_stops_working(owner_api: ApiClient) -> None:
    created = owner_api.post("tokens", NEW).data
    assert owner_api.delete(f"tokens/{created['id']}").data["revokedAt"]
    assert ApiClient(created["token"]).get("projects").status == 401
    assert owner_api.delete(f"tokens/{created['id']}").status == 404


def test_nobody_revokes_tokens_of_others(owner_api: ApiClient, outsider_api: ApiClient) -> None:
    created = owner_api.post("tokens", NEW).data
    assert outsider_api.delete(f"tokens/{created['id']}").status == 404
    assert outsider_api.delete("tokens/%00").status == 404


def test_the_command_creates_a_token(alice: User, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("create_access_token", "Alice@example.org", "usage:read", "--expires-on", "2999-01-01")
    assert ApiClient(capsys.readouterr().out.split()[-1]).get("projects").status == 200
    assert AccessToken.objects.get().expires_at == dt.datetime(2999, 1, 2, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "arguments",
    [
        ("nobody@example.org", "usage:read"),
        ("alice@example.org", "all"),
        ("alice@example.org", "usage:read", "--expires-on", "x"),
    ],
)
def test_the_command_refuses_invalid_arguments(alice: User, arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        call_command("create_access_token", *arguments)


def test_an_api_key_has_no_access_tokens(project: Project) -> None:
    api = ApiClient(ApiKey.objects.issue(project, "admin", scopes=["admin"])[1])
    assert api.get("tokens").status == api.post("tokens", NEW).status == 403
