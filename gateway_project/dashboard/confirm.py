"""Pages that ask for confirmation before something is deleted, revoked, ended or sent."""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render

from projects.access import ProjectRequest


def confirm(
    request: ProjectRequest,
    template: str,
    context: dict[str, Any],
    *,
    act: Callable[[], object],
    message: str,
    to: str,
) -> HttpResponse:
    """Ask with the page `template`; once the form is sent, call `act` and go to the project's page `to`."""
    if request.method != "POST":
        return render(request, template, context)
    act()
    messages.success(request, message)
    return redirect(to, request.project.slug)
