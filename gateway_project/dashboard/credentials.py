"""The pages of provider credentials."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from gateway_project.dashboard.confirm import confirm
from gateway_project.dashboard.forms import CredentialForm
from projects.access import ProjectRequest, project_view
from projects.models import Project, Role
from proxy.models import Credential


@project_view(Role.MEMBER)
def credential_list(request: ProjectRequest, project: Project) -> HttpResponse:
    return render(request, "credentials/list.html", {"credentials": Credential.objects.for_project(project)})


@project_view(Role.ADMIN)
def credential_new(request: ProjectRequest, project: Project) -> HttpResponse:
    form = CredentialForm(request.POST or None, project=project)
    if form.is_valid():
        credential = form.save()
        messages.success(request, f"Credential saved. Call its models as {credential.slug}/….")
        return redirect("credential-list", project.slug)
    return render(request, "credentials/form.html", {"form": form})


@project_view(Role.ADMIN)
def credential_edit(request: ProjectRequest, project: Project, credential_id: int) -> HttpResponse:
    credential = get_object_or_404(Credential.objects.for_project(project), pk=credential_id)
    form = CredentialForm(request.POST or None, instance=credential, project=project)
    if form.is_valid():
        form.save()
        messages.success(request, "Credential saved.")
        return redirect("credential-list", project.slug)
    return render(request, "credentials/form.html", {"form": form, "credential": credential})


@project_view(Role.ADMIN)
def credential_delete(request: ProjectRequest, project: Project, credential_id: int) -> HttpResponse:
    credential = get_object_or_404(Credential.objects.for_project(project), pk=credential_id)
    return confirm(
        request,
        "credentials/delete.html",
        {"credential": credential},
        action=credential.delete,
        message=f"Credential {credential.slug} deleted.",
        redirect_to="credential-list",
    )
