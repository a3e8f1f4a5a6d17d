"""Reads pages for tests: their text, and the errors of form fields."""

from typing import Any

from django.urls import reverse
from django.utils.html import strip_tags

from projects.models import Project, User
from tests.support.factories import signed_in


def page_text(response: Any) -> str:
    """Return the text of a page without markup and line breaks."""
    return " ".join(strip_tags(response.content.decode()).split())


def open_page(user: User, name: str, project: Project) -> str:
    """Return the text of the page of a project that has this URL name."""
    return page_text(signed_in(user).get(reverse(name, args=[project.slug])))


def field_error(response: Any, field: str) -> str:
    """Return the error of a form field."""
    page = response.content.decode()
    assert f'id="id_{field}_error"' in page, page_text(response)
    return str(page.split(f'id="id_{field}_error"')[1].split("</div>")[0].replace("&#x27;", "'"))
