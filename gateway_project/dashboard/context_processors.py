"""Template variables that every page has."""

from typing import Any

from django.http import HttpRequest

from projects.models import Project


def navigation(request: HttpRequest) -> dict[str, Any]:
    """Return the user's projects for the menu, and the project of the page with the user's role."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {}
    return {
        "my_projects": Project.objects.for_user(user),
        "project": getattr(request, "project", None),
        "role": getattr(request, "role", None),
    }
