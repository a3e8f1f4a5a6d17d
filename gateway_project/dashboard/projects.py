"""The landing page, and the pages on which projects are listed, made and changed."""

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from projects.access import ProjectRequest, SignedInRequest, project_view
from projects.forms import ProjectForm, ProjectSettingsForm
from projects.models import Membership, Project, Role


def landing(request: HttpRequest) -> HttpResponse:
    if request.user.is_authenticated:
        return redirect("project-list")
    return render(request, "landing/page.html", {"base_url": settings.ENV.public_url})


@login_required
def project_list(request: SignedInRequest) -> HttpResponse:
    memberships = (
        Membership.objects.filter(user=request.user).select_related("project").order_by("project__name")
    )
    return render(request, "projects/list.html", {"memberships": memberships})


@login_required
def project_new(request: SignedInRequest) -> HttpResponse:
    form = ProjectForm(request.POST or None)
    if form.is_valid():
        project = Project.objects.create_with_owner(owner=request.user, **form.cleaned_data)
        messages.success(request, f"{project} is ready.")
        return redirect("project-overview", project.slug)
    return render(request, "projects/new.html", {"form": form})


@project_view(Role.ADMIN)
def project_settings(request: ProjectRequest, project: Project) -> HttpResponse:
    form = ProjectSettingsForm(request.POST or None, instance=Project.objects.get(pk=project.pk))
    if form.is_valid():
        form.save()
        messages.success(request, "Saved.")
        return redirect("project-settings", project.slug)
    return render(request, "projects/settings.html", {"form": form})
