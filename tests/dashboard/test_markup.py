"""Every page complies with the content security policy and has the markup that screen readers need."""

import re

import pytest
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.urls import reverse
from django.views.defaults import permission_denied, server_error

from keys.models import ApiKey
from projects.models import Project, User
from proxy.models import Credential
from tests.support.factories import project_pages, signed_in, verified

SIGNED_OUT = [
    "/",
    "/accounts/login/",
    "/accounts/signup/",
    "/accounts/confirm-email/",
    "/accounts/confirm-email/nonsense/",
    "/accounts/password/reset/",
    "/accounts/password/reset/done/",
    "/accounts/password/reset/key/1-nonsense/",
    "/accounts/password/reset/key/done/",
    "/accounts/inactive/",
    "/nowhere/",
]
SIGNED_IN = [
    "/projects/",
    "/projects/new/",
    "/accounts/email/",
    "/accounts/password/change/",
    "/accounts/logout/",
    "/accounts/reauthenticate/",
]


def assert_clean(page: str) -> None:
    assert not re.search(r"<[^>]+\sstyle\s*=", page)
    assert not re.search(r"<[^>]+\son[a-z]+\s*=", page)
    assert "<style" not in page
    assert all(" src=" in tag for tag in re.findall(r"<script[^>]*>", page))
    assert "javascript:" not in page
    assert page.count("<h1>") == 1
    assert re.search(r"<title>\S.* · AI Gateway</title>", page)
    identifiers = re.findall(r'\sid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    for described in re.findall(r'aria-describedby="([^"]+)"', page):
        assert set(described.split()) <= set(identifiers)
    for labelled in re.findall(r'<label[^>]* for="([^"]+)"', page):
        assert labelled in identifiers


@pytest.mark.parametrize("address", SIGNED_OUT)
def test_pages_for_everyone_are_clean(address: str, client: Client, db: None) -> None:
    response = client.get(address)
    assert_clean(response.content.decode())
    assert response["Content-Security-Policy"].startswith("default-src 'self';")
    assert "unsafe" not in response["Content-Security-Policy"]


@pytest.mark.parametrize("address", SIGNED_IN)
def test_pages_of_an_account_are_clean(address: str, alice: User) -> None:
    response = signed_in(verified(alice)).get(address)
    assert response.status_code == 200
    assert_clean(response.content.decode())
    assert_clean(signed_in(alice).post(address, {"action_add": ""}, follow=True).content.decode())


def test_project_pages_are_clean_with_and_without_errors(
    busy_project: Project, key: ApiKey, credential: Credential, alice: User
) -> None:
    client = signed_in(alice)
    for name, (address, _) in project_pages(busy_project, key, credential).items():
        assert_clean(client.get(address).content.decode())
        if name.endswith(("-new", "-edit", "-settings")):
            assert_clean(client.post(address, {"rpm_limit": "x"}).content.decode())


def test_the_page_of_a_new_key_is_clean(project: Project, bob: User) -> None:
    assert_clean(
        signed_in(bob)
        .post(reverse("key-new", args=[project.slug]), {"label": "app", "scopes": ["inference"]})
        .content.decode()
    )


def test_unknown_addresses_get_a_404_page(client: Client, alice: User) -> None:
    for visitor in (client, signed_in(alice)):
        response = visitor.get("/nowhere/")
        assert response.status_code == 404
        assert "Page not found" in response.content.decode()


def test_a_form_without_csrf_token_gets_an_error_page(alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    response = client.post("/accounts/login/", {})
    assert response.status_code == 403
    assert "This form has expired" in response.content.decode()
    assert_clean(response.content.decode())


def test_error_pages_need_no_database(rf: RequestFactory) -> None:
    request: HttpRequest = rf.get("/")
    assert_clean(server_error(request).content.decode())
    assert "higher role" in permission_denied(request, PermissionError()).content.decode()
