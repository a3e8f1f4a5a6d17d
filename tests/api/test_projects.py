"""Projects over the REST API: create, list, show, change, purge."""

from collections.abc import Callable

import pytest

from keys import tokens
from keys.models import ApiKey
from projects.models import Project, Role, User
from proxy.models import Credential
from tests.support.api_client import ApiClient, api_of


def test_a_new_project_has_an_owner_a_key_and_its_credentials(alice: User) -> None:
    body = {"name": "My App", "openaiKey": "sk-your-openai-key", "geminiKey": "AIza-your-key"}
    reply = api_of(alice).post("projects", body)
    assert (reply.status, reply.data["id"], reply.data["name"]) == (201, "my-app", "My App")
    project = Project.objects.get(slug="my-app")
    assert project.memberships.get().role == Role.OWNER
    credentials = {each.slug: each.decrypt_secret() for each in Credential.objects.for_project(project)}
    assert credentials == {"openai": "sk-your-openai-key", "gemini": "AIza-your-key"}
    token = tokens.parse(reply.data["apiKey"])
    assert token and ApiKey.objects.get(public_id=token.public_id).verify(token)


def test_the_first_key_manages_its_project(alice: User) -> None:
    created = api_of(alice).post("projects", {"name": "My App"}).data
    api = ApiClient(created["apiKey"])
    assert [each["id"] for each in api.get("projects").data] == ["my-app"]
    assert api.post("projects/api-keys", {"name": "app"}).status == 201
    assert api.patch("projects/my-app", {"name": "Renamed"}).data["name"] == "Renamed"


def test_an_invalid_provider_key_creates_nothing(alice: User) -> None:
    reply = api_of(alice).post("projects", {"name": "My App", "anthropicKey": "with space"})
    assert (reply.status, list(reply.error["fields"])) == (400, ["anthropicKey"])
    assert not Project.objects.exists()


def test_nobody_creates_projects_without_a_token(db: None) -> None:
    reply = ApiClient().post("projects", {"name": "My App"})
    assert (reply.status, reply.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_an_operator_can_let_anyone_create_projects(
    db: None, change_environment: Callable[..., None]
) -> None:
    change_environment(gateway_open_project_creation=True)
    reply = ApiClient().post("projects", {"name": "My App", "openaiKey": "sk-your-openai-key"})
    assert reply.status == 201
    assert ApiClient(reply.data["apiKey"]).get("projects/my-app").status == 200
    assert ApiClient("sk-wrong").post("projects", {"name": "My App"}).status == 401


def test_a_key_cannot_create_projects(project: Project) -> None:
    _, text = ApiKey.objects.issue(project, "admin", scopes=["admin"])
    assert ApiClient(text).post("projects", {"name": "Mine"}).status == 403


def test_a_token_needs_the_scope_to_create_projects(alice: User) -> None:
    assert api_of(alice, "usage:read").post("projects", {"name": "My App"}).status == 403


def test_each_caller_sees_only_their_projects(
    owner_api: ApiClient, outsider_api: ApiClient, project: Project, charlie: User
) -> None:
    Project.objects.create_with_owner("Charlie's", owner=charlie)
    assert [each["id"] for each in owner_api.get("projects").data] == ["acme"]
    assert [each["id"] for each in outsider_api.get("projects").data] == ["charlies"]
    assert outsider_api.get("projects/acme").status == 404


def test_the_token_of_an_operator_sees_all_projects(project: Project) -> None:
    operator = api_of(User.objects.create_superuser("op@example.org", "secret"))
    assert [each["id"] for each in operator.get("projects").data] == ["acme"]
    assert operator.patch("projects/acme", {"rpmLimit": 7}).data["rpmLimit"] == 7


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"timezone": "Mars/Base"}, "timezone"),
        ({"cacheTtlS": 5}, "cacheTtlS"),
        ({"rpmLimit": 0}, "rpmLimit"),
        ({"rpmLimit": "many"}, "rpmLimit"),
        ({"rpmLimit": "7"}, "rpmLimit"),
        ({"rpmLimit": 7.5}, "rpmLimit"),
        ({"cachesResponses": "true"}, "cachesResponses"),
        ({"name": 5}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\u0000b"}, "name"),
        ({"usesOperatorCredentials": True}, "usesOperatorCredentials"),
    ],
)
def test_invalid_setting_is_a_400_that_names_the_field(
    owner_api: ApiClient, project: Project, change: dict[str, object], field: str
) -> None:
    reply = owner_api.patch(f"projects/{project.slug}", change)
    assert (reply.status, list(reply.error["fields"])) == (400, [field])
    assert reply.error["message"].startswith(f"{field}: ")


def test_a_change_keeps_all_other_settings(owner_api: ApiClient, project: Project) -> None:
    owner_api.patch("projects/acme", {"timezone": "Europe/Berlin", "cachesResponses": True, "tpmLimit": 9})
    shown = owner_api.patch("projects/acme", {"name": "Acme 2"}).data
    expected = {"name": "Acme 2", "timezone": "Europe/Berlin", "cachesResponses": True, "tpmLimit": 9}
    assert {name: shown[name] for name in expected} == expected


def test_purging_the_cache_needs_an_admin(
    owner_api: ApiClient, member_api: ApiClient, project: Project
) -> None:
    assert member_api.delete("projects/acme/cache").status == 403
    assert owner_api.delete("projects/acme/cache").data == {"purged": 0}
