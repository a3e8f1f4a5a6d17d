import re

import pytest
from allauth.account.models import EmailAddress
from django.core.mail import EmailMessage
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from projects.models import User
from tests.support.factories import signed_in, verified

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery staple"
SIGN_UP = {"email": "dana@example.org", "password1": PASSWORD, "password2": PASSWORD}


def set_signup(settings: Settings, mode: str, domains: tuple[str, ...] = ()) -> None:
    settings.ENV = settings.ENV.model_copy(update={"gateway_signup": mode, "gateway_signup_domains": domains})


def link_in(message: EmailMessage) -> str:
    found = re.search(r"https?://\S+", str(message.body))
    assert found
    return found[0]


def test_the_link_in_the_message_confirms_the_address(client: Client, mailoutbox: list[EmailMessage]) -> None:
    assert client.post("/accounts/signup/", SIGN_UP)["Location"] == reverse("account_email_verification_sent")
    assert client.get("/projects/").status_code == 302
    [message] = mailoutbox
    assert message.to == ["dana@example.org"]
    assert "confirm" in message.subject
    page = client.get(link_in(message)).content.decode()
    assert "dana@example.org" in page
    assert not EmailAddress.objects.get().verified
    client.post(link_in(message))
    assert EmailAddress.objects.get().verified
    assert client.get("/projects/").status_code == 200


def test_unconfirmed_users_cannot_sign_in(client: Client) -> None:
    client.post("/accounts/signup/", SIGN_UP)
    other = Client()
    assert (
        other.post("/accounts/login/", {"login": "dana@example.org", "password": PASSWORD})["Location"]
        == "/accounts/confirm-email/"
    )
    assert other.get("/projects/").status_code == 302


def test_a_wrong_password_is_explained(client: Client, alice: User) -> None:
    page = client.post("/accounts/login/", {"login": alice.email, "password": "wrong"}).content.decode()
    assert "E-mail address" in page
    assert "The e-mail address or the password is wrong." in page


def test_invalid_links_are_explained(client: Client) -> None:
    assert "This link does not work" in client.get("/accounts/confirm-email/nonsense/").content.decode()
    assert (
        "This link does not work" in client.get("/accounts/password/reset/key/1-nonsense/").content.decode()
    )


def test_sign_up_does_not_reveal_known_addresses(
    client: Client, alice: User, mailoutbox: list[EmailMessage]
) -> None:
    verified(alice)
    response = client.post("/accounts/signup/", {**SIGN_UP, "email": alice.email})
    assert response["Location"] == reverse("account_email_verification_sent")
    assert "already" in mailoutbox[0].subject


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("email", "nope", "valid email"),
        ("password1", "123", "too short"),
        ("password2", "different", "same password"),
    ],
)
def test_invalid_entry_shows_a_field_error(client: Client, field: str, value: str, message: str) -> None:
    page = client.post("/accounts/signup/", {**SIGN_UP, field: value}).content.decode()
    assert message in page.split(f'id="id_{field}_error"')[1].split("</div>")[0]
    assert not User.objects.exists()


@pytest.mark.parametrize("mode", ["invite", "closed"])
def test_closed_sign_up_is_not_offered(client: Client, settings: Settings, mode: str) -> None:
    set_signup(settings, mode)
    assert "Sign-up is closed" in client.get("/accounts/signup/").content.decode()
    client.post("/accounts/signup/", SIGN_UP)
    assert not User.objects.exists()
    for address in ("/", "/accounts/login/"):
        assert "/accounts/signup/" not in client.get(address).content.decode()


def test_open_sign_up_is_offered(client: Client, settings: Settings) -> None:
    set_signup(settings, "open")
    for address in ("/", "/accounts/login/"):
        assert "/accounts/signup/" in client.get(address).content.decode()


def test_sign_up_can_be_limited_to_domains(client: Client, settings: Settings) -> None:
    set_signup(settings, "domains", ("acme.example",))
    page = client.post("/accounts/signup/", SIGN_UP).content.decode()
    assert "domain that the operator allows" in page.split('id="id_email_error"')[1]
    client.post("/accounts/signup/", {**SIGN_UP, "email": "dana@acme.example"})
    assert User.objects.get().email == "dana@acme.example"


def test_other_domains_can_reset_a_password_but_not_be_added(
    client: Client, alice: User, settings: Settings, mailoutbox: list[EmailMessage]
) -> None:
    set_signup(settings, "domains", ("acme.example",))
    verified(alice)
    client.post("/accounts/password/reset/", {"email": alice.email})
    assert mailoutbox[0].to == [alice.email]
    session = signed_in(alice)
    page = session.post("/accounts/email/", {"action_add": "", "email": "a@elsewhere.example"}, follow=True)
    assert "domain that the operator allows" in page.content.decode()
    session.post("/accounts/email/", {"action_add": "", "email": "a@acme.example"})
    assert {address.email for address in EmailAddress.objects.filter(user=alice)} == {
        alice.email,
        "a@acme.example",
    }


def test_the_link_in_the_message_resets_the_password(
    client: Client, alice: User, mailoutbox: list[EmailMessage]
) -> None:
    verified(alice)
    assert (
        client.post("/accounts/password/reset/", {"email": alice.email})["Location"]
        == "/accounts/password/reset/done/"
    )
    form = client.get(link_in(mailoutbox[0]), follow=True)
    assert "Choose a new password" in form.content.decode()
    address = form.redirect_chain[-1][0]
    assert "same password" in client.post(address, {"password1": PASSWORD, "password2": "x"}).content.decode()
    client.post(address, {"password1": PASSWORD, "password2": PASSWORD})
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)


def test_unknown_address_email_offers_sign_up_only_if_open(
    client: Client, settings: Settings, mailoutbox: list[EmailMessage]
) -> None:
    for mode in ("open", "closed"):
        set_signup(settings, mode)
        client.post("/accounts/password/reset/", {"email": "nobody@example.org"})
    assert ["/accounts/signup/" in str(message.body) for message in mailoutbox] == [True, False]


def test_sign_out_asks_for_confirmation(alice: User) -> None:
    client = signed_in(alice)
    assert "Sign out?" in client.get("/accounts/logout/").content.decode()
    assert client.get("/projects/").status_code == 200
    client.post("/accounts/logout/")
    assert client.get("/projects/").status_code == 302


def test_password_change_requires_the_old_password(alice: User) -> None:
    verified(alice)
    client = signed_in(alice)
    new = {"password1": PASSWORD, "password2": PASSWORD}
    page = client.post("/accounts/password/change/", {"oldpassword": "wrong", **new}).content.decode()
    assert 'id="id_oldpassword_error"' in page
    client.post("/accounts/password/change/", {"oldpassword": "alice-password", **new})
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)


def test_a_new_address_can_become_primary(alice: User, mailoutbox: list[EmailMessage]) -> None:
    verified(alice)
    client = Client()
    client.post("/accounts/login/", {"login": alice.email, "password": "alice-password"})
    client.post("/accounts/email/", {"action_add": "", "email": "alice@home.example"})
    client.post(link_in(mailoutbox[0]))
    client.post("/accounts/email/", {"action_primary": "", "email": "alice@home.example"})
    assert EmailAddress.objects.get(primary=True).email == "alice@home.example"
    assert 'value="alice@home.example" checked' in client.get("/accounts/email/").content.decode()


def test_too_many_attempts_get_an_error_page(client: Client) -> None:
    for number in range(20):
        assert (
            client.post("/accounts/password/reset/", {"email": f"nobody-{number}@example.org"}).status_code
            == 302
        )
    refused = client.post("/accounts/password/reset/", {"email": "nobody@example.org"})
    assert refused.status_code == 429
    assert "Too many attempts" in refused.content.decode()
