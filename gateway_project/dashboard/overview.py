"""The overview page of a project: its spending, budgets and latest requests."""

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import render

from billing.budgets.status import list_statuses, most_used
from billing.models import UsageRecord
from billing.usage.reports import UsageReport
from projects.access import ProjectRequest, project_view
from projects.models import Project, Role

MAX_RECENT_REQUESTS = 20
MAX_BUDGETS = 6


@project_view(Role.VIEWER)
def overview(request: ProjectRequest, project: Project) -> HttpResponse:
    today = project.today()
    records = UsageRecord.objects.for_project(project)
    month = UsageReport.month_to_date(project, today)
    spending = month.cost_by_day()
    page = {
        "day": today,
        "totals": UsageReport.for_day(project, today).total(),
        "spending": spending,
        "month_nano": sum(spending.values()),
        "saved_nano": month.total().saved_nano,
        "budgets": most_used(list_statuses(project), MAX_BUDGETS),
        "records": records.requests().newest(MAX_RECENT_REQUESTS),
        "base_url": settings.ENV.public_url,
    }
    return render(request, "overview/page.html", page)
