"""The page of one request: its timing, tokens and cost, and for admins its prompt and response."""

from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from billing.models import Budget, UsageRecord
from projects.access import ProjectRequest, project_view
from projects.models import Project, Role
from proxy.prompt_log.search import find_body


@project_view(Role.VIEWER)
def request_detail(request: ProjectRequest, project: Project, record_id: UUID) -> HttpResponse:
    """Show a request with its corrections. For a correction, redirect to the corrected request."""
    records = UsageRecord.objects.for_project(project).select_related("key")
    record = get_object_or_404(records, pk=record_id)
    if record.corrects is not None:
        return redirect("request-detail", project.slug, record.corrects)
    corrections = list(records.corrections_of(record))
    body = find_body(project.pk, record.pk) if request.role >= Role.ADMIN else None
    budgets = Budget.objects.for_project(project).filter(pk=record.blocking_budget_id or 0)
    page = {
        "record": record,
        "corrections": corrections,
        "total_nano": record.cost_nano + sum(correction.cost_nano for correction in corrections),
        "blocking_budget": budgets.first(),
        "body": body,
    }
    return render(request, "requests/detail.html", page)
