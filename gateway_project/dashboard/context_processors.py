"""What the base template needs on every page."""

from typing import Any

from django.http import HttpRequest

from projects.models import Project


def navigation(request: HttpRequest) -> dict[str, Any]:
    """The signed-in person's projects for the switcher, and the project that the page belongs to."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {}
    return {
        "my_projects": Project.objects.for_user(user),
        "project": getattr(request, "project", None),
        "role": getattr(request, "role", None),
    }
