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
    action: Callable[[], object],
    message: str,
    redirect_to: str,
) -> HttpResponse:
    """Render `template`, which asks for confirmation.

    When its form is submitted, call `action`, show `message`, and redirect to the project's page that is
    named `redirect_to` in the URLconf.
    """
    if request.method != "POST":
        return render(request, template, context)
    action()
    messages.success(request, message)
    return redirect(redirect_to, request.project.slug)
