"""The pages of budgets."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from billing.budgets.forms import BudgetForm
from billing.budgets.status import list_statuses
from billing.models import Budget
from gateway_project.dashboard.confirm import confirm
from projects.access import ProjectRequest, project_view
from projects.models import Project, Role


@project_view(Role.VIEWER)
def budget_list(request: ProjectRequest, project: Project) -> HttpResponse:
    return render(request, "budgets/list.html", {"statuses": list_statuses(project)})


@project_view(Role.ADMIN)
def budget_new(request: ProjectRequest, project: Project) -> HttpResponse:
    form = BudgetForm(request.POST or None, project=project, user=request.user)
    if form.is_valid():
        form.save()
        messages.success(request, "Budget saved. It takes effect within a second.")
        return redirect("budget-list", project.slug)
    return render(request, "budgets/form.html", {"form": form})


@project_view(Role.ADMIN)
def budget_edit(request: ProjectRequest, project: Project, budget_id: int) -> HttpResponse:
    budget = get_object_or_404(Budget.objects.for_project(project), pk=budget_id)
    form = BudgetForm(request.POST or None, instance=budget, project=project, user=request.user)
    if form.is_valid():
        form.save()
        messages.success(request, "Budget saved. It takes effect within a second.")
        return redirect("budget-list", project.slug)
    return render(request, "budgets/form.html", {"form": form, "budget": budget})


@project_view(Role.ADMIN)
def budget_delete(request: ProjectRequest, project: Project, budget_id: int) -> HttpResponse:
    budget = get_object_or_404(Budget.objects.for_project(project), pk=budget_id)
    return confirm(
        request,
        "budgets/delete.html",
        {"budget": budget},
        action=budget.delete,
        message="Budget deleted. The usage records stay.",
        redirect_to="budget-list",
    )
