"""The page of alerts: the latest alerts, their messages, and the webhooks of the project."""

from django.http import HttpResponse
from django.shortcuts import render

from billing.models import AdminAlert, Alert, Delivery, Webhook
from projects.access import ProjectRequest, project_view
from projects.models import Project, Role

MAX_RECENT_ALERTS = 50
MAX_TEST_DELIVERIES = 10


@project_view(Role.MEMBER)
def alert_list(request: ProjectRequest, project: Project) -> HttpResponse:
    page = {
        "webhooks": Webhook.objects.for_project(project),
        "alerts": Alert.objects.latest_for(project, MAX_RECENT_ALERTS),
        "admin_alerts": AdminAlert.objects.latest_for(project, MAX_RECENT_ALERTS),
        "tests": Delivery.objects.test_deliveries_for(project, MAX_TEST_DELIVERIES),
    }
    return render(request, "alerts/list.html", page)
