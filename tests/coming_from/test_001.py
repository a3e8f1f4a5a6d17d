"""Statements of document 001 that document 000 does not make."""

import pytest
from django.conf import settings
from django.test import Client

from tests.coming_from.conftest import Documented

row = pytest.mark.row
DASHBOARD = "https://ai-gateway-dashboard.vercel.app"
"""The example of the document."""


@row("001-20")
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/v1/completions/chat", "/api/costs"])
def test_the_dashboard_may_call_the_gateway(
    documented: Documented, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(settings, "ENV", settings.ENV.model_copy(update={"dashboard_url": DASHBOARD}))
    asked = f"-H 'Origin: {DASHBOARD}' -H 'Access-Control-Request-Method: POST'"
    reply = documented.curl(f"curl -X OPTIONS {asked} http://localhost:3002{path}")
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, DASHBOARD)


@row("001-30")
@pytest.mark.django_db
def test_sign_in_works_without_google() -> None:
    page = Client().get("/accounts/login/")
    assert page.status_code == 200 and b"Google" not in page.content
