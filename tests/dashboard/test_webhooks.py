"""Pages of webhooks."""

import pytest
from aiohttp import web
from django.http import HttpResponse
from django.urls import reverse

from billing.models import Delivery, DeliveryStatus, Webhook
from projects.models import Project, User
from projects.vault import unseal
from tests.support.factories import signed_in, webhook_at
from tests.support.pages import field_error, open_page, page_text
from tests.support.upstream_server import LocalUpstream


def add_webhook(user: User, project: Project, **fields: str) -> HttpResponse:
    form = {"name": "pager", "url": "https://example.org/hook?token=t0p-s3cret", **fields}
    return signed_in(user).post(reverse("webhook-new", args=[project.slug]), form)  # type: ignore[return-value]


def test_webhook_secret_is_shown_once_and_stored_encrypted(project: Project, alice: User) -> None:
    page = add_webhook(alice, project).content.decode()
    webhook = Webhook.objects.get()
    secret = unseal(project.pk, webhook.sealed_secret)
    assert secret.startswith("whsec_") and page.count(secret) == 1
    assert secret not in webhook.sealed_secret
    listing = signed_in(alice).get(reverse("alert-list", args=[project.slug])).content.decode()
    assert secret not in listing and "example.org" in listing and "t0p-s3cret" not in listing


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "This field is required."),
        ("example.org/hook", "Enter an http or https URL"),
        ("ftp://example.org/", "Enter an http or https URL"),
        ("https://user:pw@example.org/", "Enter an http or https URL"),
        ("https://example.org/?token=x#part", "without a fragment"),
        ("http://10.1.2.3/hook", "is a private address"),
        ("http://169.254.169.254/latest/meta-data", "is a private address"),
        ("http://2130706433/", "is not a valid IP address"),
        ("https://example.org/" + "x" * 500, "at most 500 characters"),
    ],
)
def test_invalid_url_shows_a_field_error(project: Project, alice: User, url: str, message: str) -> None:
    assert message in field_error(add_webhook(alice, project, url=url), "url")
    assert not Webhook.objects.exists()


def test_webhook_names_are_unique_and_their_number_is_limited(project: Project, alice: User) -> None:
    for number in range(10):
        add_webhook(alice, project, name=f"hook {number}")
    assert "at most 10 webhooks" in page_text(add_webhook(alice, project, name="one more"))
    Webhook.objects.exclude(name="hook 0").delete()
    assert "already has a webhook of this name" in field_error(
        add_webhook(alice, project, name="hook 0"), "name"
    )


def test_result_of_a_test_message_is_shown(
    transactional_db: None, project: Project, alice: User, upstream: LocalUpstream
) -> None:
    async def accept(_request: web.Request, _body: object) -> web.StreamResponse:
        return web.Response(status=204)

    upstream.handler = accept
    works, _ = webhook_at(project, upstream.url, "works")
    fails, _ = webhook_at(project, "http://127.0.0.1:1/hook", "fails")
    for hook in (works, fails):
        signed_in(alice).post(reverse("webhook-test", args=[project.slug, hook.pk]))
    assert dict(Delivery.objects.values_list("webhook__name", "status")) == {
        "works": DeliveryStatus.DELIVERED,
        "fails": DeliveryStatus.FAILED,
    }
    page = open_page(alice, "alert-list", project)
    assert "delivered works" in page and "failed fails Attempt 1: connection failed" in page
    assert b'"webhook.test"' in upstream.requests[0].body
