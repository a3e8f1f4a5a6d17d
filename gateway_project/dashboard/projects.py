"""The pages that list projects, create one and change its settings."""

from asgiref.sync import async_to_sync
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render

from gateway_project.dashboard.confirm import confirm
from gateway_project.dashboard.forms import ProjectForm, ProjectSettingsForm
from projects.access import ProjectRequest, SignedInRequest, project_view
from projects.models import Membership, Project, Role
from proxy.cache import store


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
        messages.success(request, f"Project {project} created.")
        return redirect("project-overview", project.slug)
    return render(request, "projects/new.html", {"form": form})


@project_view(Role.ADMIN)
def project_settings(request: ProjectRequest, project: Project) -> HttpResponse:
    form = ProjectSettingsForm(request.POST or None, instance=Project.objects.get(pk=project.pk))
    if form.is_valid():
        form.save()
        messages.success(request, "Settings saved.")
        return redirect("project-settings", project.slug)
    return render(request, "projects/settings.html", {"form": form})


@project_view(Role.ADMIN)
def purge_cache(request: ProjectRequest, project: Project) -> HttpResponse:
    return confirm(
        request,
        "projects/purge_cache.html",
        {},
        action=lambda: async_to_sync(store.current().purge)(project.pk),
        message="The response cache is empty.",
        redirect_to="project-settings",
    )
