"""The pages of API keys."""

from itertools import groupby

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from billing.budgets.status import list_statuses
from gateway_project.dashboard.confirm import confirm
from gateway_project.dashboard.forms import BudgetedKeyForm
from keys.forms import KeyEditForm
from keys.models import ApiKey
from projects.access import ProjectRequest, project_view
from projects.models import Project, Role


@project_view(Role.VIEWER)
def key_list(request: ProjectRequest, project: Project) -> HttpResponse:
    budgets_by_key = {
        key: list(group)
        for key, group in groupby(list_statuses(project), key=lambda status: status.budget.key_id)
    }
    keys = ApiKey.objects.for_project(project).select_related("created_by")
    return render(
        request, "keys/list.html", {"rows": [(key, budgets_by_key.get(key.pk, [])) for key in keys]}
    )


@project_view(Role.MEMBER)
def key_new(request: ProjectRequest, project: Project) -> HttpResponse:
    form = BudgetedKeyForm(request.POST or None, project=project, role=request.role)
    if form.is_valid():
        key, secret = form.issue(created_by=request.user)
        return render(
            request, "keys/created.html", {"key": key, "secret": secret, "base_url": settings.ENV.public_url}
        )
    return render(request, "keys/new.html", {"form": form})


@project_view(Role.ADMIN)
def key_edit(request: ProjectRequest, project: Project, public_id: str) -> HttpResponse:
    key = get_object_or_404(ApiKey.objects.for_project(project).filter(revoked_at=None), public_id=public_id)
    form = KeyEditForm(request.POST or None, instance=key)
    if form.is_valid():
        form.save()
        messages.success(request, "Key saved. Changes take effect within a second.")
        return redirect("key-list", project.slug)
    return render(request, "keys/edit.html", {"form": form, "public_id": public_id})


@project_view(Role.MEMBER)
def key_revoke(request: ProjectRequest, project: Project, public_id: str) -> HttpResponse:
    key = get_object_or_404(ApiKey.objects.for_project(project), public_id=public_id)
    return confirm(
        request,
        "keys/revoke.html",
        {"key": key},
        action=key.revoke,
        message=f"Key {key.label} revoked.",
        redirect_to="key-list",
    )
