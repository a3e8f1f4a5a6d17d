"""Statements of document 001 that document 000 does not make."""

import pytest
from django.test import Client

row = pytest.mark.row


@row("001-30")
@pytest.mark.django_db
def test_sign_in_works_without_google() -> None:
    page = Client().get("/accounts/login/")
    assert page.status_code == 200 and b"Google" not in page.content
