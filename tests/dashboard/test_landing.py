"""Landing page."""

from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from projects.models import User
from tests.support.factories import signed_in


def test_landing_page_shows_formats_and_base_url(client: Client, settings: Settings, db: None) -> None:
    page = client.get("/").content.decode()
    assert "One base URL" in page
    assert all(format in page for format in ("Chat Completions", "Responses", "Anthropic", "Gemini"))
    assert f"{settings.ENV.public_url}/v1" in page


def test_signed_in_users_are_redirected_to_projects(alice: User) -> None:
    assert signed_in(alice).get("/")["Location"] == reverse("project-list")
