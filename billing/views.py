"""The pages of API keys: they show what each key may spend."""

from django.conf import settings
from django.contrib import messages
from django.db.models import Prefetch
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from billing.forms import BudgetedKeyForm
from billing.ledger.windows import window_name
from billing.models import Budget, BudgetQuerySet, Period
from keys.models import ApiKey
from projects.access import project_view
from projects.models import Project, Role
from projects.views import ProjectRequest


def current_budgets(project: Project) -> BudgetQuerySet:
    """The project's budgets, with what is spent and reserved in today's windows."""
    today = project.today()
    return Budget.objects.for_project(project).with_spending(window_name(period, today) for period in Period)


@project_view(Role.VIEWER)
def key_list(request: ProjectRequest, project: Project) -> HttpResponse:
    budgets = Prefetch("budgets", current_budgets(project))
    keys = ApiKey.objects.for_project(project).select_related("created_by").prefetch_related(budgets)
    return render(request, "keys/list.html", {"keys": keys})


@project_view(Role.MEMBER)
def key_new(request: ProjectRequest, project: Project) -> HttpResponse:
    form = BudgetedKeyForm(request.POST or None, project=project, role=request.role)
    if form.is_valid():
        key, token = form.mint(created_by=request.user)
        return render(request, "keys/created.html", {"key": key, "token": token, "base_url": settings.ENV.public_url})
    return render(request, "keys/new.html", {"form": form})


@project_view(Role.MEMBER)
def key_revoke(request: ProjectRequest, project: Project, public_id: str) -> HttpResponse:
    key = get_object_or_404(ApiKey.objects.for_project(project), public_id=public_id)
    if request.method == "POST":
        key.revoke()
        messages.success(request, f"{key.label} is revoked.")
        return redirect("key-list", project.slug)
    return render(request, "keys/revoke.html", {"key": key})
