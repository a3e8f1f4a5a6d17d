"""Credentials over the REST API. Their secrets never leave the gateway."""

import pytest

from projects.models import Project
from proxy.models import Credential
from tests.support.api_client import ApiClient
from tests.support.factories import SECRET

PATH = "projects/acme/credentials"
OPENAI = {"name": "openai", "provider": "openai", "secret": SECRET}


def test_a_new_credential_is_tested(owner_api: ApiClient, project: Project) -> None:
    reply = owner_api.post(PATH, OPENAI | {"models": ["gpt-4o"]})
    assert (reply.status, reply.data["problem"], reply.data["models"]) == (201, "", ["gpt-4o"])
    assert reply.data["lastSuccessAt"] and not reply.data["isFailing"]
    assert Credential.objects.get().decrypt_secret() == SECRET


def test_a_rejected_secret_is_stored_and_reported(
    owner_api: ApiClient, project: Project, provider_replies: list[tuple[int, bytes]]
) -> None:
    provider_replies.append((401, b"{}"))
    reply = owner_api.post(PATH, OPENAI)
    assert reply.status == 201 and reply.data["problem"] and reply.data["isFailing"]
    provider_replies.append((200, b"{}"))
    assert owner_api.post(f"{PATH}/{reply.data['id']}/test").data["problem"] == ""


def test_no_response_contains_the_secret(owner_api: ApiClient, project: Project) -> None:
    created = owner_api.post(PATH, OPENAI)
    path = f"{PATH}/{created.data['id']}"
    replies = [created, owner_api.get(PATH), owner_api.get(path), owner_api.patch(path, {"models": ["a"]})]
    replies.append(owner_api.post(PATH, OPENAI))
    assert replies[-1].status == 400
    assert not [reply.body for reply in replies if SECRET in str(reply.body)]
    assert created.data["secretSuffix"] == SECRET[-4:]


def test_a_change_keeps_the_secret_but_not_for_another_url(owner_api: ApiClient, project: Project) -> None:
    path = f"{PATH}/{owner_api.post(PATH, OPENAI).data['id']}"
    assert owner_api.patch(path, {"name": "main"}).data["name"] == "main"
    assert Credential.objects.get().decrypt_secret() == SECRET
    reply = owner_api.patch(path, {"baseUrl": "https://collector.example.org/v1"})
    assert (reply.status, list(reply.error["fields"])) == (400, ["secret"])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"provider": "nobody"}, "provider"),
        ({"name": "with space"}, "name"),
        ({"secret": "with space"}, "secret"),
        ({"baseUrl": "http://169.254.169.254/"}, "baseUrl"),
        ({"models": ["a\nb"]}, "models.0"),
        ({"models": "gpt-4o"}, "models"),
    ],
)
def test_invalid_field_is_named(
    owner_api: ApiClient, project: Project, change: dict[str, object], field: str
) -> None:
    reply = owner_api.post(PATH, OPENAI | change)
    assert (reply.status, list(reply.error["fields"])) == (400, [field])


def test_a_deleted_credential_is_gone(owner_api: ApiClient, project: Project) -> None:
    path = f"{PATH}/{owner_api.post(PATH, OPENAI).data['id']}"
    assert owner_api.delete(path).body == {"success": True, "data": None}
    assert owner_api.get(path).status == 404
    assert owner_api.get(f"{PATH}/{10**30}").status == 404
