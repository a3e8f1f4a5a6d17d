"""Fixtures of the tests of the REST API: clients with the tokens of Alice, Bob and Charlie."""

import pytest

from keys.models import ApiKey
from projects.models import Project, User
from proxy.providers import key_check
from tests.support.api_client import ApiClient, api_of


@pytest.fixture
def owner_api(alice: User, project: Project) -> ApiClient:
    return api_of(alice)


@pytest.fixture
def member_api(bob: User, project: Project) -> ApiClient:
    return api_of(bob)


@pytest.fixture
def outsider_api(charlie: User, project: Project) -> ApiClient:
    return api_of(charlie)


@pytest.fixture
def admin_key(project: Project) -> ApiKey:
    return ApiKey.objects.issue(project, "admin")[0]


@pytest.fixture
def key_api(project: Project) -> ApiClient:
    """Client with an API key of the project that may manage keys and call models."""
    scopes = ["inference", "keys:manage"]
    return ApiClient(ApiKey.objects.issue(project, "provisioning", scopes=scopes)[1])


@pytest.fixture(autouse=True)
def provider_replies(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bytes]]:
    """Let providers reply to tests of credentials with the last entry, instead of over the network."""
    replies = [(200, b"{}")]

    async def reply(url: str, provider: object, secret: str) -> tuple[int, bytes]:
        return replies[-1]

    monkeypatch.setattr(key_check, "fetch", reply)
    return replies
