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
        show_test_result(request, form.save(), "Credential saved and verified.", "Credential saved.")
        return redirect("credential-list", project.slug)
    return render(request, "credentials/form.html", {"form": form})


@project_view(Role.ADMIN)
def credential_edit(request: ProjectRequest, project: Project, credential_id: int) -> HttpResponse:
    credential = get_object_or_404(Credential.objects.for_project(project), pk=credential_id)
    form = CredentialForm(request.POST or None, instance=credential, project=project)
    if form.is_valid():
        show_test_result(request, form.save(), "Credential saved and verified.", "Credential saved.")
        return redirect("credential-list", project.slug)
    return render(request, "credentials/form.html", {"form": form, "credential": credential})


@project_view(Role.ADMIN)
def credential_test(request: ProjectRequest, project: Project, credential_id: int) -> HttpResponse:
    credential = get_object_or_404(Credential.objects.for_project(project), pk=credential_id)
    if request.method != "POST":
        return render(request, "credentials/test.html", {"credential": credential})
    show_test_result(request, credential, "Credential verified.", "")
    return redirect("credential-list", project.slug)


def show_test_result(request: ProjectRequest, credential: Credential, verified: str, saved: str) -> None:
    """Test a credential, and show the result.

    A credential is saved even if the test fails, because its provider may be down, and because a restricted
    key may not be allowed to list models.
    """
    if reason := credential.test():
        messages.warning(request, f"{saved} It could not be verified. {reason}".strip())
    else:
        messages.success(request, f"{verified} Call its models as {credential.slug}/….")


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
