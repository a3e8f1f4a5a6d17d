"""The envelope: every response of the REST API is JSON of one shape, also errors."""

from collections.abc import Callable

import httpx
import pytest
from django.db import OperationalError
from django.middleware.security import SecurityMiddleware
from django.test import Client

from gateway_project.api import authentication, throttle
from gateway_project.api.throttle import ADDRESS_FACTOR
from keys.models import AccessToken, ApiKey
from projects.models import Project, User
from tests.support.api_client import ApiClient, api_of
from tests.support.live_gateway import LiveGateway


@pytest.mark.parametrize("body", ["{", "[]", "null", '"text"', "\xff", '{"name": NaN}', "[" * 5000])
def test_a_body_that_is_not_an_object_is_a_400(alice: User, body: str) -> None:
    client = api_of(alice).client
    response = client.post("/api/v1/projects", body.encode("latin-1"), content_type="application/json")
    assert (response.status_code, response.json()["success"]) == (400, False)


def test_curl_needs_no_content_type(alice: User) -> None:
    response = api_of(alice).client.post(
        "/api/v1/projects", b'{"name": "My App"}', content_type="application/x-www-form-urlencoded"
    )
    assert response.status_code == 201


def test_a_multipart_body_is_a_415(alice: User) -> None:
    response = api_of(alice).client.post("/api/v1/projects", {"name": "My App"})
    assert (response.status_code, response.json()["error"]["code"]) == (415, "unsupported_media_type")


def test_a_browser_gets_json_too(alice: User) -> None:
    assert api_of(alice).send("GET", "projects", accept="text/html").status == 200


def test_a_wrong_method_is_a_405_with_the_allowed_ones(owner_api: ApiClient, project: Project) -> None:
    reply = owner_api.send("PUT", f"projects/{project.slug}")
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, PATCH")


@pytest.mark.parametrize("path", ["projects/acme/nothing", "projects/acme/keys/a/b/c", "tokens/x/y"])
def test_an_unknown_path_is_a_404(owner_api: ApiClient, project: Project, path: str) -> None:
    reply = owner_api.get(path)
    assert (reply.status, reply.error["code"]) == (404, "not_found")


def test_the_clients_request_id_is_returned(owner_api: ApiClient) -> None:
    assert owner_api.send("GET", "projects", **{"x-request-id": "mine"}).headers["x-request-id"] == "mine"
    assert owner_api.get("projects").headers["x-request-id"].startswith("req_")


def test_an_outage_of_the_database_is_a_503(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    api = api_of(alice)

    def fail(_text: str) -> None:
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(authentication, "find_caller", fail)
    reply = api.get("projects")
    assert (reply.status, reply.headers["Retry-After"]) == (503, "5")
    assert "closed the connection" not in str(reply.body)


def test_a_bug_is_a_500_that_tells_nothing(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    api = api_of(alice)

    def fail(_text: str) -> None:
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr(authentication, "find_caller", fail)
    reply = api.get("projects")
    assert (reply.status, reply.error["code"]) == (500, "internal_error")
    assert "secret" not in str(reply.body)


def test_an_error_outside_of_views_is_json_too(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_middleware: object, _request: object) -> None:
        raise OperationalError("the server closed the connection")

    client = Client(raise_request_exception=False)
    evil = client.get("/api/v1/projects", headers={"host": "evil.example.org"})
    missing = client.get("/api/docs/unknown.js")
    monkeypatch.setattr(SecurityMiddleware, "process_request", fail)
    failed = client.get("/api/v1/projects")
    assert [each.status_code for each in (evil, missing, failed)] == [400, 404, 503]
    assert [each.json()["success"] for each in (evil, missing, failed)] == [False, False, False]


@pytest.mark.parametrize("token", ["sk-wrong", "pat_gw_wrong", "x" * 5000, ""])
def test_an_invalid_token_is_a_401(db: None, token: str) -> None:
    assert ApiClient(token).get("projects").status == 401


def test_a_revoked_expired_or_disabled_token_is_a_401(alice: User) -> None:
    api = api_of(alice)
    assert api.get("projects").status == 200
    User.objects.update(is_active=False)
    assert api.get("projects").status == 401
    User.objects.update(is_active=True)
    AccessToken.objects.get().revoke()
    assert api.get("projects").status == 401


def test_failed_authentications_are_limited(db: None, change_environment: Callable[..., None]) -> None:
    change_environment(gateway_unauthenticated_rpm=3)
    statuses = [ApiClient("sk-wrong").get("projects").status for _ in range(5)]
    assert statuses == [401, 401, 401, 429, 429]


@pytest.fixture
def one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no minute end during a test."""
    monkeypatch.setattr(throttle, "current_window", lambda: 1)


@pytest.mark.usefixtures("one_window")
def test_each_caller_is_limited(
    owner_api: ApiClient, member_api: ApiClient, change_environment: Callable[..., None]
) -> None:
    change_environment(gateway_api_rpm=2)
    replies = [owner_api.get("projects") for _ in range(6)]
    assert replies[0].status == 200
    assert replies[-1].status == 429 and 1 <= int(replies[-1].headers["Retry-After"]) <= 60
    assert member_api.get("projects").status == 200


@pytest.mark.usefixtures("one_window")
def test_an_address_is_limited_whatever_tokens_it_uses(
    owner_api: ApiClient, alice: User, change_environment: Callable[..., None]
) -> None:
    change_environment(gateway_api_rpm=1)
    replies = [api_of(alice).get("projects").status for _ in range(2 * ADDRESS_FACTOR + 1)]
    assert replies[0] == 200 and replies[-1] == 429


def test_a_session_needs_a_csrf_token_for_changes(alice: User, project: Project) -> None:
    client = ApiClient().client
    client.handler.enforce_csrf_checks = True
    client.force_login(alice, "allauth.account.auth_backends.AuthenticationBackend")
    assert client.get("/api/v1/projects").json()["data"][0]["id"] == "acme"
    change = client.patch("/api/v1/projects/acme", "{}", content_type="application/json")
    assert (change.status_code, change.json()["error"]["code"]) == (403, "insufficient_permissions")
    token = client.get("/api/docs").content.decode().partition('data-csrf-token="')[2].partition('"')[0]
    change = client.patch(
        "/api/v1/projects/acme",
        '{"name": "B"}',
        content_type="application/json",
        headers={"x-csrftoken": token},
    )
    assert change.status_code == 200


def test_the_server_passes_the_api_on_to_django(live_gateway: LiveGateway, demo_project: Project) -> None:
    """Slashes that are repeated or at the end do not matter, and a large body is a 413 in JSON."""
    _, text = ApiKey.objects.issue(demo_project, "admin", scopes=["admin"])
    with httpx.Client(base_url=live_gateway.url, headers={"authorization": f"Bearer {text}"}) as client:
        assert client.get("/api/v1/projects").json()["data"][0]["id"] == "demo"
        assert client.get("/api//v1///projects/").json()["success"] is True
        created = client.post("/api/v1/projects/api-keys/", json={"name": "app"})
        assert (created.status_code, created.json()["data"]["name"]) == (201, "app")
        assert client.get("/api/v1/usage/stats").json()["success"] is True
        assert client.get("/api/v1/nothing").json()["success"] is False
        large = client.post("/api/v1/projects", content=b"x" * 3_000_000)
        assert (large.status_code, large.json()["error"]["code"]) == (413, "request_too_large")
