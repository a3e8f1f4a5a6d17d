from typing import Any

import pytest
from django.http import HttpResponse
from django.urls import reverse

from projects.models import ConfigVersion, Project, User
from proxy.models import Credential
from tests.support.factories import SECRET, signed_in

FORM = {
    "slug": "openai",
    "provider": "openai",
    "base_url": "",
    "secret": SECRET,
    "model_names": "gpt-4o\ngpt-4o-mini",
}


def create(user: User, project: Project, **fields: Any) -> HttpResponse:
    return signed_in(user).post(reverse("credential-new", args=[project.slug]), {**FORM, **fields})  # type: ignore[return-value]


def edit(user: User, credential: Credential, **fields: Any) -> HttpResponse:
    address = reverse("credential-edit", args=[credential.project.slug, credential.pk])
    return signed_in(user).post(address, {**FORM, "secret": "", **fields})  # type: ignore[return-value]


def test_credential_is_stored_encrypted(project: Project, alice: User) -> None:
    assert create(alice, project).status_code == 302
    stored = Credential.objects.get()
    assert (stored.project, stored.slug, stored.model_names, stored.decrypt_secret()) == (
        project,
        "openai",
        ["gpt-4o", "gpt-4o-mini"],
        SECRET,
    )
    assert SECRET not in stored.sealed_secret


@pytest.mark.parametrize(
    "page", ["credential-list", "credential-edit", "credential-delete", "project-overview"]
)
def test_no_page_contains_the_secret(page: str, credential: Credential, alice: User) -> None:
    arguments = (
        [credential.project.slug, credential.pk]
        if page in ("credential-edit", "credential-delete")
        else [credential.project.slug]
    )
    content = signed_in(alice).get(reverse(page, args=arguments)).content.decode()
    assert SECRET not in content
    assert credential.sealed_secret not in content


def test_an_invalid_form_does_not_return_the_secret(project: Project, alice: User) -> None:
    response = create(alice, project, slug="not a slug")
    assert response.status_code == 200
    assert SECRET not in response.content.decode()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("slug", "", "This field is required."),
        ("slug", "two words", "only letters, digits, hyphens"),
        ("provider", "nobody", "Select a valid choice."),
        ("provider", "demo", "Select a valid choice."),
        ("base_url", "http://10.0.0.8/v1", "private address"),
        ("base_url", "http://[fd00::1]/v1", "private address"),
        ("base_url", "http://[fec0::1]/v1", "private address"),
        ("base_url", "https://user:password@example.com/", "without a user name"),
        ("base_url", "https://example.com/?key=1", "without a query"),
        ("base_url", "ftp://example.com/", "http or https"),
        ("base_url", "http://[", "http or https"),
        ("base_url", "http://x:99999/", "http or https"),
        ("base_url", "http://x:abc/", "http or https"),
        ("base_url", "http://2130706433/", "not a valid IP address"),
        ("secret", "a b", "without spaces"),
        ("model_names", "x" * 201, "at most 200 characters"),
    ],
)
def test_invalid_entry_shows_a_field_error(
    project: Project, alice: User, field: str, value: str, message: str
) -> None:
    page = create(alice, project, **{field: value}).content.decode()
    assert not Credential.objects.exists()
    assert message in page.split(f'id="id_{field}_error"')[1].split("</div>")[0]


def test_empty_list_explains_which_providers_can_be_connected(project: Project, alice: User) -> None:
    page = signed_in(alice).get(reverse("credential-list", args=[project.slug])).content.decode()
    assert "Connect OpenAI, Anthropic, Gemini or any OpenAI-compatible server" in page


def test_a_compatible_server_needs_an_address(project: Project, alice: User) -> None:
    page = create(alice, project, provider="compatible").content.decode()
    assert "needs a base URL" in page.split('id="id_base_url_error"')[1].split("</div>")[0]


def test_names_are_unique_per_project(project: Project, credential: Credential, alice: User) -> None:
    assert "already" in create(alice, project).content.decode()
    other = Project.objects.create_with_owner("Other", owner=alice)
    assert create(alice, other).status_code == 302


def test_an_empty_secret_keeps_the_old_one(credential: Credential, alice: User) -> None:
    assert edit(alice, credential, slug="renamed").status_code == 302
    credential.refresh_from_db()
    assert (credential.slug, credential.decrypt_secret()) == ("renamed", SECRET)


def test_a_new_secret_replaces_the_old_one(credential: Credential, alice: User) -> None:
    edit(alice, credential, secret="sk-another-secret-0000")
    credential.refresh_from_db()
    assert credential.decrypt_secret() == "sk-another-secret-0000"


@pytest.mark.parametrize("change", [{"base_url": "https://elsewhere.example/v1"}, {"provider": "anthropic"}])
def test_stored_secret_is_not_sent_to_another_url(
    credential: Credential, alice: User, change: dict[str, str]
) -> None:
    assert "Enter the API key again" in edit(alice, credential, **change).content.decode()
    credential.refresh_from_db()
    assert (credential.provider, credential.base_url) == ("openai", "")
    assert edit(alice, credential, secret=SECRET, **change).status_code == 302


def test_fields_not_on_the_form_are_ignored(
    credential: Credential, project: Project, alice: User, charlie: User
) -> None:
    other = Project.objects.create_with_owner("Charlie's", owner=charlie)
    edit(alice, credential, project=other.pk, sealed_secret="x", secret_hint="x")
    credential.refresh_from_db()
    assert (credential.project, credential.decrypt_secret()) == (project, SECRET)


def test_delete_asks_for_confirmation(credential: Credential, alice: User) -> None:
    client, address = (
        signed_in(alice),
        reverse("credential-delete", args=[credential.project.slug, credential.pk]),
    )
    assert "Delete credential" in client.get(address).content.decode()
    assert Credential.objects.exists()
    assert client.post(address).status_code == 302
    assert not Credential.objects.exists()


def test_members_see_credentials_without_edit_links(credential: Credential, bob: User) -> None:
    page = signed_in(bob).get(reverse("credential-list", args=[credential.project.slug])).content.decode()
    assert "openai/…" in page
    assert "Edit" not in page
    assert "New credential" not in page


def test_members_cannot_change_credentials(credential: Credential, bob: User) -> None:
    assert edit(bob, credential, slug="taken-over").status_code == 403
    assert create(bob, credential.project, slug="new").status_code == 403
    assert Credential.objects.get().slug == "openai"


REFUSAL = (
    b'{"error": {"message": "Incorrect API key provided: %s. See the docs.", "code": "x"}}' % SECRET.encode()
)


def list_page(project: Project, user: User) -> str:
    return signed_in(user).get(reverse("credential-list", args=[project.slug])).content.decode()


def test_a_saved_credential_is_tested(project: Project, alice: User) -> None:
    assert create(alice, project).status_code == 302
    stored = Credential.objects.get()
    assert stored.last_success_at and not stored.is_failing
    assert "Verified" in list_page(project, alice)


def test_a_refused_key_is_saved_with_the_providers_error(
    project: Project, alice: User, provider_reply: list[tuple[int, bytes]]
) -> None:
    provider_reply.append((401, REFUSAL))
    client = signed_in(alice)
    page = client.post(reverse("credential-new", args=[project.slug]), FORM, follow=True).content.decode()
    assert "It could not be verified." in page and "status 401: Incorrect API key provided" in page
    assert "Failing" in page and SECRET not in page
    stored = Credential.objects.get()
    assert stored.is_failing and SECRET not in stored.last_error


def test_a_test_shows_when_a_credential_works_again(
    credential: Credential, alice: User, provider_reply: list[tuple[int, bytes]]
) -> None:
    client = signed_in(alice)
    address = reverse("credential-test", args=[credential.project.slug, credential.pk])
    assert "costs nothing" in client.get(address).content.decode()
    assert "Not tested" in list_page(credential.project, alice)
    provider_reply.append((503, b"overloaded \x00"))
    assert "status 503" in client.post(address, follow=True).content.decode()
    provider_reply.append((200, b"{}"))
    page = client.post(address, follow=True).content.decode()
    assert "Credential verified." in page and "last error" in page


def test_a_test_does_not_invalidate_the_config_caches(credential: Credential) -> None:
    before = ConfigVersion.current()
    assert credential.test() == ""
    assert ConfigVersion.current() == before


def test_a_key_that_cannot_be_decrypted_is_reported(credential: Credential) -> None:
    credential.sealed_secret = "nonsense"
    assert "cannot be decrypted" in credential.test()


@pytest.mark.parametrize(
    ("provider", "entered", "stored"),
    [
        ("compatible", "https://llm.example/v1/chat/completions/", "https://llm.example/v1"),
        ("anthropic", "https://llm.example/v1/messages", "https://llm.example"),
        ("gemini", "https://llm.example/v1beta", "https://llm.example"),
        ("openai", "https://api.openai.com", "https://api.openai.com/v1"),
    ],
)
def test_a_base_url_is_normalized_when_it_is_saved(
    project: Project, alice: User, provider: str, entered: str, stored: str
) -> None:
    create(alice, project, provider=provider, base_url=entered)
    credential = Credential.objects.get()
    assert credential.base_url == stored
    assert edit(alice, credential, provider=provider, base_url=entered).status_code == 302


def test_members_cannot_test_credentials(credential: Credential, bob: User) -> None:
    address = reverse("credential-test", args=[credential.project.slug, credential.pk])
    assert signed_in(bob).post(address).status_code == 403
