"""The landing page."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render


def landing(request: HttpRequest) -> HttpResponse:
    if request.user.is_authenticated:
        return redirect("project-list")
    return render(request, "landing/page.html", {"base_url": settings.ENV.public_url})
