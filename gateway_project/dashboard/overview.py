"""Pages that read what the gateway does: a project's overview and its provider credentials."""

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from billing.budgets.status import list_statuses, most_used
from billing.models import DailyUsage, UsageRecord
from gateway_project.dashboard.forms import CredentialForm
from projects.access import ProjectRequest, project_view
from projects.models import Project, Role
from proxy.models import Credential

MAX_RECENT_REQUESTS = 20
MAX_BUDGETS = 6


@project_view(Role.VIEWER)
def overview(request: ProjectRequest, project: Project) -> HttpResponse:
    today = project.today()
    records = UsageRecord.objects.for_project(project)
    spending = DailyUsage.objects.month_to_date(project, today)
    page = {
        "day": today,
        "totals": records.for_day(today).totals(),
        "spending": spending,
        "month_nano": sum(spending.values()),
        "budgets": most_used(list_statuses(project), MAX_BUDGETS),
        "records": records.requests().newest(MAX_RECENT_REQUESTS),
        "base_url": settings.ENV.public_url,
    }
    return render(request, "overview/page.html", page)


@project_view(Role.MEMBER)
def credential_list(request: ProjectRequest, project: Project) -> HttpResponse:
    return render(request, "credentials/list.html", {"credentials": Credential.objects.for_project(project)})


@project_view(Role.ADMIN)
def credential_create(request: ProjectRequest, project: Project) -> HttpResponse:
    form = CredentialForm(request.POST or None, project=project)
    if form.is_valid():
        credential = form.save()
        messages.success(request, f"Models of {credential.slug} are reached as {credential.slug}/….")
        return redirect("credential-list", project.slug)
    return render(request, "credentials/form.html", {"form": form})


@project_view(Role.ADMIN)
def credential_edit(request: ProjectRequest, project: Project, credential_id: int) -> HttpResponse:
    credential = get_object_or_404(Credential.objects.for_project(project), pk=credential_id)
    form = CredentialForm(request.POST or None, instance=credential, project=project)
    if form.is_valid():
        form.save()
        messages.success(request, "Saved.")
        return redirect("credential-list", project.slug)
    return render(request, "credentials/form.html", {"form": form, "credential": credential})


@project_view(Role.ADMIN)
def credential_delete(request: ProjectRequest, project: Project, credential_id: int) -> HttpResponse:
    credential = get_object_or_404(Credential.objects.for_project(project), pk=credential_id)
    if request.method == "POST":
        credential.delete()
        messages.success(request, f"{credential.slug} is deleted.")
        return redirect("credential-list", project.slug)
    return render(request, "credentials/delete.html", {"credential": credential})
